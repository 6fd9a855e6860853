"""The values of a rule's fields in words.

The declaration of an option has a phrase for its values. Any other value is shown with its name and
its declared meaning.
"""

from __future__ import annotations

from typing import Any

from samestep.declaration import Option
from samestep.quirks import filled

from .variant import Change, Variant

__all__ = ["does", "number_shown", "said"]


def does(variant: Variant, field: str) -> str:
    """A phrase for a variant's value of a field."""
    made = variant.made()
    assert made is not None
    declared, value = made.fields()[field], made.hypers[field]
    phrase = declared.says.get(value) if isinstance(declared, Option) else None
    if phrase is None:
        return f"has {field} = {number_shown(value)} ({declared.meaning})"
    return filled(phrase, made)


def said(variant: Variant, change: Change) -> str:
    """A phrase for a change of a variant."""
    if change.field in variant.rule.fields():
        return does(variant, change.field)
    deviation = next(d for d in variant.deviations if d.name == change.field)
    return deviation.said(variant.plain)[0]


def number_shown(value: Any) -> str:
    """A number as people write it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(number_shown, value))})"
    return "a schedule" if callable(value) else repr(value)
