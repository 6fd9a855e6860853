"""The choice of steps to record, and the hyperparameters in a record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from samestep.arrays import known
from samestep.checkpoints.description import describe
from samestep.nonfinite import encoded
from samestep.rule import Rule

__all__ = ["Group", "Steps", "chosen", "plain"]

Steps = int | Iterable[int] | Callable[[int], bool] | None


class Group(NamedTuple):
    """The hyperparameters of some parameters."""

    numbers: Mapping[str, Any] = {}
    """The numbers, by the optimizer's own names."""
    rule: Rule | None = None
    """The rule of samestep that computes the same, if it is known."""

    def described(self, step: int) -> dict[str, Any]:
        """The group as plain data."""
        found: dict[str, Any] = {"numbers": plain(self.numbers)}
        return found | ({} if self.rule is None else {"rule": describe(self.rule, step)})


def plain(value: Any) -> Any:
    """A JSON-serialisable value; its repr if JSON has no such type."""
    value = known(value)
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(plain, value)]
    is_plain = isinstance(value, (bool, int, float, str)) or value is None
    return encoded(value) if is_plain else repr(value)


def chosen(steps: Steps) -> Callable[[int], bool]:
    """A function that tells whether a step is recorded."""
    if steps is None:
        return lambda step: True
    if callable(steps):
        return steps
    if isinstance(steps, Iterable) and not isinstance(steps, (str, bytes)):
        among = steps if isinstance(steps, range) else frozenset(map(_whole, steps))
        ends = (*among[:1], *among[-1:]) if isinstance(among, range) else among
        if not ends or min(ends) < 0:
            raise ValueError(f"steps={steps!r} must hold numbers of steps, which count from 0")
        return lambda step: step in among
    last = _whole(steps)
    if last < 1:
        raise ValueError(f"steps={steps!r} must be at least 1: the first so many steps")
    return lambda step: step < last


def _whole(step: Any) -> int:
    """A whole number from ``steps``; raises if it is not one."""
    try:
        if not isinstance(step, bool):
            return operator.index(step)
    except TypeError:
        pass
    raise TypeError(
        f"steps: {step!r} is no number of steps; it must be a whole number from 1, a range or a "
        "set of whole numbers from 0, a function of the step, or None for all"
    )
