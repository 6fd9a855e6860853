"""The numbers of a run: whether a resumed run goes on with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy

from samestep.recording.reading import Step
from samestep.rule import Rule

from .rules import Rules, title

__all__ = ["Numbers"]

Values = Mapping[str, tuple[Any, ...]]
"""By name of a number or option, its different values."""
Changes = dict[str, set[tuple[Any, Any]]]
"""By name, its changes from one step to the next."""


class Numbers:
    """The numbers and options at every step so far."""

    def __init__(self) -> None:
        self._at: dict[int, Values] = {}
        self._first: int | None = None
        self._known: dict[tuple[int, ...], Values] = {}
        self._changes: Changes = {}

    def note(self, step: int, rules: Mapping[str, Rule]) -> None:
        """Note the numbers at a step."""
        now = self._at[step] = self._of(rules)
        self._first = step if self._first is None else self._first
        _note(self._changes, self._at.get(step - 1, now), now)

    def _of(self, rules: Mapping[str, Rule]) -> Values:
        own = {id(rule): rule for rule in rules.values()}
        key = tuple(own)
        if key not in self._known:
            found: dict[str, dict[Any, None]] = {}
            for rule in own.values():
                for name, value in {"rule": title(rule), **rule.hypers}.items():
                    found.setdefault(name, {})[_single(value)] = None
            self._known[key] = {n: tuple(sorted(values, key=repr)) for n, values in found.items()}
        return self._known[key]

    def apart(self, steps: Sequence[Step], rules: Rules) -> Iterator[str]:
        """In words, the numbers with which a resumed run does not go on.

        Args:
            steps: the steps after the resume.
            rules: the rules of the parameters.
        """
        number, changes = steps[0].number, {k: {*v} for k, v in self._changes.items()}
        after = [self._of(rules.of(step)) for step in steps]
        for one, other in pairwise(after):
            _note(changes, one, other)
        now, following = after[0], after[1] if len(after) > 1 else {}
        again, start = self._at.get(number), self._first or 0
        last = self._at[number - 1] if again is None else again
        for name in _differing(last, now):
            was, is_ = _shown(last[name]), _shown(now[name])
            begun = self._at[start].get(name), self._at.get(start + 1, {}).get(name)
            if again is not None:  # the run had been there already
                yield f"{name} was {was} at step {number} before the resume, and is {is_}"
            elif (now[name], following.get(name)) == begun:
                yield (
                    f"the schedule of {name} began again: {name} was {was} at step {number - 1}, "
                    f"and is {is_} at step {number} as at step {start}"
                )
            elif not any(_alike(change, name, last, now) for change in changes.get(name, ())):
                yield f"{name} was {was} at step {number - 1}, and is {is_} from step {number} on"


def _note(changes: Changes, one: Values, other: Values) -> None:
    for name in _differing(one, other) if one is not other else ():
        changes.setdefault(name, set()).add((one[name], other[name]))


def _alike(change: tuple[Any, Any], name: str, last: Values, now: Values) -> bool:
    """Whether a change is at least half as large as another, in the same direction."""
    sizes = [_size(*pair) for pair in (change, (last[name], now[name]))]
    if any(size is None for size in sizes):
        return change == (last[name], now[name])
    usual, size = sizes
    return bool(usual * size > 0 and abs(size) <= 2 * abs(usual))


def _size(one: Any, other: Any) -> Any:
    """The logarithm of a change by a factor; the difference where a number is 0."""
    if len(one) != 1 or len(other) != 1 or not isinstance(one[0], float):
        return None
    a, b = one[0], other[0]
    return math.log(b / a) if a > 0 and b > 0 else b - a


def _single(value: Any) -> Any:
    """A number as float32 has it, which may be how a library keeps it."""
    if isinstance(value, tuple):
        return tuple(map(_single, value))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(numpy.float32(value)) if number else value


def _differing(one: Values, other: Values) -> list[str]:
    return [name for name, values in one.items() if name in other and other[name] != values]


def _shown(values: tuple[Any, ...]) -> str:
    return " and ".join(map(_text, values))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
