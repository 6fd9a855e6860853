"""What a deviation is: something that is done otherwise in a rule and is no option of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from samestep.declaration import Hyper
from samestep.rule import Rule

__all__ = [
    "Deviation",
    "Least",
    "Methods",
    "Numbers",
    "first_coefficients",
    "is_pair",
    "of_gathered",
    "with_coefficients",
]

Numbers = Mapping[str, Any]
Methods = Callable[[type[Rule]], dict[str, Any]]


@dataclass(frozen=True)
class Deviation:
    """Something that is done otherwise and is no option of the rule."""

    name: str
    says: str
    """What one side does, after its name; braces are filled with the rule's numbers."""
    instead: str
    """What the other side does that does not do so."""
    numbers: Callable[[Numbers], Numbers | None] | None = None
    """Other numbers, or ``None`` where it makes no difference."""
    methods: Methods | None = None
    """What the copy of the class does otherwise."""
    late: int = 0
    """How many steps late the gradients come."""
    loose: bool = False
    """Whether it is arithmetic in float32, which two libraries do not round alike."""


class Least:
    """A number that is not added to another: it bounds it from below."""

    __array_ufunc__ = None

    def __init__(self, value: float) -> None:
        self.value = value

    def __radd__(self, other: Any) -> Any:
        return numpy.maximum(other, self.value)


def with_coefficients(
    change: Callable[[Rule, dict[str, Any]], dict[str, Any]], by: int = 0
) -> Methods:
    """Other coefficients of a step, or those of another step; no step comes before the first."""

    def methods(cls: type[Rule]) -> dict[str, Any]:
        def coefficients(self: Rule, xp: Any, t: Any) -> dict[str, Any]:
            return change(self, cls.coefficients(self, xp, max(t + by, 1)))

        return {"coefficients": coefficients}

    return methods


def of_gathered(change: Callable[..., Any]) -> Methods:
    """Another ``gathered``: ``change(gathered, rule, beta, t)``, if averages are corrected."""

    def methods(cls: Any) -> dict[str, Any]:
        def gathered(self: Any, xp: Any, beta: Any, t: Any) -> Any:
            if not self.bias_correction:
                return 1.0
            return change(lambda b, at: cls.gathered(self, xp, b, at), self, beta, t)

        return {"gathered": gathered}

    return methods


def first_coefficients(rule: type[Rule], t: int = 3) -> dict[str, Any]:
    """The coefficients of a rule with every feature on, early on."""
    typical = {
        name: field.typical
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and field.typical is not None
    }
    with numpy.errstate(all="ignore"):
        return rule(**typical).coefficients(numpy, t)


def is_pair(value: Any) -> bool:
    """Whether a coefficient is the weights of an average."""
    numbers = isinstance(value, tuple) and len(value) == 2
    return numbers and all(isinstance(v, float) for v in value) and abs(sum(value) - 1) < 1e-12
