"""Options that change how a rule rounds and nothing else; each choice states its error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .declaration import Option, Storage

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["PRECISION_KINDS", "Precision", "precision", "stated_error"]


@dataclass(frozen=True)
class Precision(Option):
    """The dtype of a part of the arithmetic; made by ``precision``."""

    errors: Mapping[Any, float] = field(default_factory=dict)
    """By value: how far a step may be off, relative to its length."""

    @property
    def range(self) -> str:
        """The allowed values, and the errors that they state."""
        stated = (
            f"a step with {value!r} is off by up to {100 * error:.2g} % of its length"
            for value, error in self.errors.items()
        )
        return "; ".join((super().range, *stated))


PRECISION_KINDS = (Storage, Precision)
"""The kinds of options with which an algorithm stays the same, and rounds otherwise."""


def precision(meaning: str, **errors: float) -> Any:
    """Declare an option that chooses the dtype of a part of the arithmetic.

    The default is ``"float32"``, with which the part is computed as everything else is: in float64
    for parameters in float64.

    Args:
        meaning: the part, in a few words.
        errors: by dtype: how far a step may be off, relative to its length.
    """
    return Precision("float32", meaning, ("float32", *errors), errors=errors)


def stated_error(rule: Rule) -> float:
    """How far the step of a rule, as it is, may be off by what its options state."""
    kinds = {name: kind for name, kind in rule.fields().items() if isinstance(kind, Precision)}
    own = (kind.errors.get(getattr(rule, name), 0.0) for name, kind in kinds.items())
    return max([*own, *map(stated_error, rule.inside)], default=0.0)
