"""What a deviation is: a quirk that no library is known for, but that is a likely mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from samestep.declaration import Hyper
from samestep.parts.moments import gathered
from samestep.quirks import Methods, Quirk, with_calls
from samestep.rule import Rule
from samestep.vocabulary import debias

__all__ = [
    "Deviation",
    "Least",
    "Numbers",
    "first_coefficients",
    "is_pair",
    "of_debias",
    "of_gathered",
]

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Deviation(Quirk):
    """A quirk that may be in other numbers too, or in when the gradients come."""

    numbers: Callable[[Numbers], Numbers | None] | None = None
    """Other numbers, or ``None`` where it makes no difference."""
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


def of_debias(change: Callable[..., Any]) -> Methods:
    """Another correction for a start at zero: ``change(debias, beta, t)``."""
    return with_calls(
        {debias: lambda now: lambda xp, beta, t: change(lambda b, at: now(xp, b, at), beta, t)}
    )


def of_gathered(change: Callable[..., Any]) -> Methods:
    """The same, with the rule: ``change(gathered, rule, beta, t)``, if averages are corrected."""

    def other(now: Any) -> Any:
        def gathered(rule: Any, xp: Any, beta: Any, t: Any) -> Any:
            if not rule.bias_correction:
                return 1.0
            return change(lambda b, at: now(rule, xp, b, at), rule, beta, t)

        return gathered

    return with_calls({gathered: other})


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
