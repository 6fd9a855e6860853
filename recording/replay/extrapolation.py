"""The next value of a number, if it goes on as it did: along a curve, or in periods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy

__all__ = ["follows"]

Series = Sequence[float]
Predict = Callable[[Series], float]

MOST = 4096
"""Earlier values are ignored."""
RECENT = 8
"""Values of the past that a curve must predict."""
ROUNDING = 2.0**-21
"""How far a value in float32 may be off, relative to it; a difference of several is off by more."""

SCALES: list[tuple[Callable[[float], float], Callable[[float], float]]] = [
    (lambda value: value, lambda value: value),
    (math.log, math.exp),
    (lambda value: 1 / value, lambda value: 1 / value),
    (lambda value: value**-2, lambda value: value**-0.5),
]
"""Scales on which schedules are straight lines, with their inverses: linear, exponential, 1 / t and
1 / sqrt(t)."""


class _Course(NamedTuple):
    """How a number has changed."""

    next: Predict
    """The value that follows others."""
    within: float
    """How far a prediction may be off; less than a quarter of a change."""
    reach: int
    """How many steps show whether the number goes on."""


def follows(past: Series, after: Series) -> str | None:
    """In words, how later values do not follow from earlier ones; empty if they do.

    ``None`` if it cannot be known.
    """
    moves = [one != other for one, other in pairwise(past)]
    if not any(moves) and len({past[-1], *after}) == 1:
        return ""
    if len(moves) > 1 and all(moves) and 1 < len(after) == after.count(after[0]):
        return "stands still"
    found = [_follows(course, past, after) for course in _courses(past)]
    if not found and past[-2:] == [after[0]] * 2:
        still = after.count(after[0]) == len(after)
        return "" if still or _has_period([*past, *after]) else None
    return "" if "" in found else next(filter(None, found), None)


def _follows(course: _Course, past: Series, after: Series) -> str | None:
    """The same, for one course that the number may be on."""
    past = [*past]
    for place, value in enumerate(after[: course.reach]):
        expected = course.next(past)
        if abs(value - expected) > course.within:
            if abs(value - course.next([*past, expected])) <= course.within:
                return "is a step ahead"
            following = after[place + 1 : place + 2]
            late = all(abs(later - expected) <= course.within for later in following)
            return "is a step behind" if value == past[-1] and late else None
        past.append(value)
    return ""


def _courses(past: Series) -> Iterator[_Course]:
    """The best curve and the best period, if they tell one step from the next."""
    past = past[-MOST:]
    for candidates in (_curves(past), _periods(past)):
        found = [(_off(*one, past), one) for one in candidates]
        if found:
            (ratio, within), (predict, _, reach) = min(found, key=lambda item: item[0][0])
            if ratio <= 0.25:
                yield _Course(predict, within, reach)


Candidate = tuple[Predict, int, int]
"""A prediction, the number of past values that it must predict, and its reach."""


def _off(predict: Predict, count: int, reach: int, past: Series) -> tuple[float, float]:
    """How far predictions of past values are off, relative to the change of a step and as it is."""
    places = range(len(past) - count, len(past))
    far = max(abs(predict(past[:place]) - past[place]) for place in places)
    size = max(map(abs, past[-count:]))
    changes = [abs(past[place] - past[place - 1]) for place in (*places,)[-max(reach, 3) :]]
    within = 4 * far + ROUNDING * size
    return (within / max(changes) if any(changes) else math.inf), within


def _curves(past: Series) -> Iterator[Candidate]:
    """Polynomials and waves, on every scale that has all values."""
    for place, (scale, back) in enumerate(SCALES):
        if place and min(past, default=0.0) <= 0:
            return
        for needed, ahead in ((2, _line), (3, _parabola), (4, _wave)):
            if (count := min(len(past) - needed, RECENT)) >= 2:
                yield _on(scale, back, ahead, needed), count, 2


def _on(
    scale: Callable[[float], float], back: Callable[[float], float], ahead: Predict, needed: int
) -> Predict:
    def predict(past: Series) -> float:
        try:
            return back(ahead([*map(scale, past[-needed:])]))
        except (ArithmeticError, ValueError):
            return math.inf

    return predict


def _line(past: Series) -> float:
    return 2 * past[-1] - past[-2]


def _parabola(past: Series) -> float:
    return 3 * past[-1] - 3 * past[-2] + past[-3]


def _wave(past: Series) -> float:
    """The next value of ``a + b cos(c t + d)``."""
    one, two, three = (past[at] - past[at - 1] for at in (-3, -2, -1))
    return past[-1] + (three + one) / two * three - two


def _periods(past: Series) -> Iterator[Candidate]:
    """Changes, by a difference or a factor, that come back after a number of steps."""
    for scale, back in SCALES[: 1 if min(past, default=0.0) <= 0 else 2]:
        moves, near = _moves(scale, past)
        for period in range(2, len(moves) // 2 + 1):
            if numpy.abs(moves[-period:] - moves[-2 * period : -period]).max() <= near:
                yield _on(scale, back, _after(period), period + 2), period, period + 1
                break


def _has_period(whole: Series) -> bool:
    """Whether the changes of a number come back all the time."""
    for scale, _ in SCALES[: 1 if min(whole) <= 0 else 2]:
        moves, near = _moves(scale, whole)
        periods = range(2, len(moves) // 2 + 1)
        if any(numpy.abs(moves[p:] - moves[:-p]).max() <= near for p in periods):
            return True
    return False


def _moves(scale: Callable[[float], float], values: Series) -> tuple[Any, float]:
    """The changes on a scale, and how far they may be off by rounding."""
    scaled = [*map(scale, values[-MOST:])]
    return numpy.diff(scaled), ROUNDING * max(map(abs, scaled), default=0.0)


def _after(period: int) -> Predict:
    return lambda past: past[-1] + past[-period] - past[-period - 1]
