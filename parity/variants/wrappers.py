"""Deviations of wrappers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from samestep.declaration import Hyper
from samestep.quirks import Methods
from samestep.rule import Rule

from .deviation import Deviation, Least

__all__ = ["of_wrappers"]


def of_wrappers(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations in a wrapper's numbers, its count of steps, and its change of the gradient."""
    for name, field in rule.fields().items():
        if name.endswith("eps") and isinstance(field, Hyper):
            yield Deviation(
                f"{name} as a bound",
                f"takes {name} = {{{name}:g}} as the least value of the divisor",
                f"adds {name} = {{{name}:g}} to it",
                methods=_with_scalars(lambda self, name=name: {name: Least(getattr(self, name))}),
            )
    if "scalars" in vars(rule):
        for by, word in ((1, "later"), (-1, "earlier")):
            yield Deviation(
                f"{rule.__name__} one step {word}",
                f"does what {rule.__name__} does as if it were one step {word}",
                "counts the steps taken, this one included",
                methods=_at_other_steps(by),
            )
    if "prepare" in vars(rule):
        yield Deviation(
            f"no {rule.__name__}",
            f"does nothing of {rule.__name__} to the gradient",
            f"does what {rule.__name__} says to the gradient",
            methods=lambda cls: {"prepare": lambda self, xp, grad, param, state, s: grad},
        )


def _with_scalars(more: Any) -> Methods:
    def methods(cls: Any) -> dict[str, Any]:
        return {"scalars": lambda self, xp, t: {**cls.scalars(self, xp, t), **more(self)}}

    return methods


def _at_other_steps(by: int) -> Methods:
    def methods(cls: Any) -> dict[str, Any]:
        return {"scalars": lambda self, xp, t: cls.scalars(self, xp, t + by)}

    return methods
