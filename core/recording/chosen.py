"""Which steps are recorded, and what is said of the hyperparameters in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..arrays import known
from ..checkpoint.description import describe
from ..rule import Rule

__all__ = ["Group", "Steps", "chosen", "plain"]

Steps = int | Iterable[int] | Callable[[int], bool] | None


class Group(NamedTuple):
    """The hyperparameters of some parameters."""

    numbers: Mapping[str, Any] = {}
    """By the optimizer's own names."""
    rule: Rule | None = None
    """What computes the same here, if it is known."""

    def described(self, step: int) -> dict[str, Any]:
        """As plain data."""
        found: dict[str, Any] = {"numbers": plain(self.numbers)}
        return found | ({} if self.rule is None else {"rule": describe(self.rule, step)})


def plain(value: Any) -> Any:
    """A value as JSON has it; of what it has not, what it looks like."""
    value = known(value)
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(plain, value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    return value if isinstance(value, (bool, int, float, str)) or value is None else repr(value)


def chosen(steps: Steps) -> Callable[[int], bool]:
    """Whether a step is one of those asked for."""
    if steps is None:
        return lambda step: True
    if isinstance(steps, bool):
        raise TypeError(f"steps={steps!r} must be a number, a range, a set or a function")
    if isinstance(steps, int):
        return lambda step: step < steps
    if callable(steps):
        return steps
    among = steps if isinstance(steps, range) else frozenset(steps)
    return lambda step: step in among
