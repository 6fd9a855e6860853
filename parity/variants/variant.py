"""Variants of a rule: other options and numbers, and common mistakes.

A variant is a rule with some changes. A change sets an option or a number of the rule, or plants a
``Deviation``, such as swapped betas or a library's quirk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from samestep.declaration import Hyper, Option
from samestep.kept import as_seen
from samestep.precisions import PRECISION_KINDS
from samestep.quirks import applied
from samestep.rule import Rule

from .deviation import Deviation, Numbers
from .deviations import deviations

__all__ = ["DEVIATION", "Change", "Deviation", "Variant", "changes", "deviations"]


class Change(NamedTuple):
    """Another value of a field; or a deviation, by its name."""

    field: str
    value: Any


DEVIATION = "deviation"
"""The value of a change that is a deviation."""


@dataclass(frozen=True)
class Variant:
    """A rule with changes."""

    rule: type[Rule]
    numbers: tuple[tuple[str, Any], ...]
    """The subject's numbers, under our names."""
    changes: tuple[Change, ...] = ()

    def with_changes(self, *more: Change) -> Variant:
        """The variant with more changes; they replace earlier changes of the same field."""
        kept = {change.field: change for change in (*self.changes, *more)}
        return Variant(self.rule, self.numbers, tuple(sorted(kept.values(), key=repr)))

    @property
    def values(self) -> dict[str, Any]:
        """The values of the rule's fields, before any deviation."""
        fields = self.rule.fields()
        found = as_seen(self.rule) | dict(self.numbers)
        return found | {c.field: c.value for c in self.changes if c.field in fields}

    @property
    def plain(self) -> Rule:
        """The rule with the values and the quirks of libraries, without any other deviation."""
        known = {quirk.name for quirk in self.rule.quirks_known()}
        names = tuple(change.field for change in self.changes if change.field in known)
        return self.rule(**self.values, **({"quirks": names} if names else {}))

    @property
    def deviations(self) -> tuple[Deviation, ...]:
        """The deviations among the changes."""
        fields = self.rule.fields()
        known = {deviation.name: deviation for deviation in deviations(self.rule)}
        return tuple(known[c.field] for c in self.changes if c.field not in fields)

    @property
    def late(self) -> int:
        """How many steps late the gradients come."""
        return sum(deviation.late for deviation in self.deviations)

    @property
    def loose(self) -> bool:
        """Whether a deviation computes in float32."""
        return any(deviation.loose for deviation in self.deviations)

    def made(self) -> Any:
        """The rule, or ``None`` where the changes exclude each other."""
        values: dict[str, Any] = self.values
        for deviation in self.deviations:
            if deviation.numbers is not None:
                defaults = {name: field.default for name, field in self.rule.fields().items()}
                changed = deviation.numbers(defaults | values)
                if changed is None:
                    return None
                values = {**values, **changed}
        kinds = [d for d in self.deviations if d.methods is not None]
        kinds.sort(key=lambda d: not d.loose)  # the others are built on those that round
        try:
            return applied(self.rule, kinds)(**values)
        except (TypeError, ValueError):
            return None


def changes(rule: type[Rule], numbers: Numbers) -> list[Change]:
    """Every single change of a rule: options, numbers of dialects, deviations.

    Args:
        rule: the rule.
        numbers: the numbers that the subject takes; only other numbers are varied.
    """
    found: list[Change] = []
    for name, field in rule.fields().items():
        if isinstance(field, PRECISION_KINDS):
            continue
        if isinstance(field, Option):
            found += [Change(name, value) for value in _choices(rule, name, field)]
        elif name not in numbers:
            found += [Change(name, value) for value in _usual(rule, name, field)]
    found += [Change(deviation.name, DEVIATION) for deviation in deviations(rule)]
    return found


def _choices(rule: type[Rule], name: str, field: Option) -> list[Any]:
    """Other values of an option; of whole numbers, the values in dialects."""
    if field.choices is not None:
        usual = (field.default, as_seen(rule).get(name))
        return [value for value in field.choices if value not in usual]
    if isinstance(field.default, bool):
        return [not field.default]
    return _in_dialects(rule, name, field.default)


def _usual(rule: type[Rule], name: str, field: Hyper) -> list[Any]:
    """Other values of a number: the values in dialects, and the typical value."""
    found = _in_dialects(rule, name, field.default)
    if name != "lr" and field.typical not in (None, field.default, *found):
        found.append(field.typical)
    return found if name != "lr" else []


def _in_dialects(rule: type[Rule], name: str, default: Any) -> list[Any]:
    values = (item.values.get(name, default) for item in rule.dialects.values())
    return [*dict.fromkeys(value for value in values if value != default)]
