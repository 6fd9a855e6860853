"""Several arrays of one parameter: the spread of its steps, and copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samestep.declaration import Initial
from samestep.vocabulary import choose, count, initial_parameter, sqrt

__all__ = ["copies", "latest", "mean_over_elements", "relative_spread"]

Array = Any


def relative_spread(xp: Any, steps: Sequence[Array]) -> Array:
    """The standard deviation of steps over their largest deviation from the mean, per element.

    It is 1 where no step deviates.
    """
    mean = sum(steps[1:], steps[0]) / len(steps)
    apart = [step - mean for step in steps]
    widest, square = xp.abs(apart[0]), apart[0] * apart[0]
    for deviation in apart[1:]:
        widest, square = xp.maximum(widest, xp.abs(deviation)), square + deviation * deviation
    moves = widest > 0
    spread = sqrt(xp, square / (len(steps) - 1)) / xp.where(moves, widest, 1.0)
    return xp.where(moves, spread, 1.0)


def mean_over_elements(xp: Any, x: Array) -> tuple[Array, Array]:
    """The mean of all elements, and 1; 0 and 0 for an empty array. Both are 0-d."""
    elements = count(xp, x)
    return xp.sum(x) / xp.where(elements > 0, elements, 1.0), xp.clip(elements, 0.0, 1.0)


def copies(option: str) -> Initial:
    """Initialiser of a slot: copies of the parameter, as many as an option of the rule says."""
    return Initial(
        lambda xp, param, rule: tuple(
            initial_parameter.make(xp, param, rule) for _ in range(getattr(rule, option))
        ),
        lambda shape, rule: (shape,) * getattr(rule, option),
        dtype="parameter",
    )


def latest(xp: Any, here: Sequence[Any], arrays: Sequence[Array]) -> Array:
    """The array at the place where ``here`` holds; the first one if it holds nowhere."""
    found = arrays[0]
    for now, array in zip(here[1:], arrays[1:], strict=True):
        found = choose(xp, now, array, found)
    return found
