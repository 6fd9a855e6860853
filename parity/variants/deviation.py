"""A deviation: a quirk that no library has, but that is a likely mistake."""

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
    """A quirk that may also change numbers, or delay the gradients."""

    numbers: Callable[[Numbers], Numbers | None] | None = None
    """Other numbers; ``None`` if they make no difference."""
    late: int = 0
    """How many steps late the gradients come."""
    loose: bool = False
    """Whether it computes in float32, which no two libraries round alike."""


class Least:
    """A number that, when it is added to another, bounds it from below instead."""

    __array_ufunc__ = None

    def __init__(self, value: float) -> None:
        self.value = value

    def __radd__(self, other: Any) -> Any:
        return numpy.maximum(other, self.value)


def of_debias(change: Callable[..., Any]) -> Methods:
    """Another correction of averages for their start at zero: ``change(debias, beta, t)``."""
    return with_calls(
        {debias: lambda now: lambda xp, beta, t: change(lambda b, at: now(xp, b, at), beta, t)}
    )


def of_gathered(change: Callable[..., Any]) -> Methods:
    """Another correction that sees the rule: ``change(gathered, rule, beta, t)``."""

    def other(now: Any) -> Any:
        def gathered(rule: Any, xp: Any, beta: Any, t: Any) -> Any:
            if not rule.bias_correction:
                return 1.0
            return change(lambda b, at: now(rule, xp, b, at), rule, beta, t)

        return gathered

    return with_calls({gathered: other})


def first_coefficients(rule: type[Rule], t: int = 3) -> dict[str, Any]:
    """The coefficients of a rule at an early step, with every feature on."""
    typical = {
        name: field.typical
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and field.typical is not None
    }
    with numpy.errstate(all="ignore"):
        return rule(**typical).coefficients(numpy, t)


def is_pair(value: Any) -> bool:
    """Whether a coefficient is the pair of weights of an average."""
    numbers = isinstance(value, tuple) and len(value) == 2
    return numbers and all(isinstance(v, float) for v in value) and abs(sum(value) - 1) < 1e-12
