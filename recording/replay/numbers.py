"""The numbers of a run: whether a resumed run goes on with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import numpy

from samestep.recording.reading import Step
from samestep.rule import Rule

from .extrapolation import follows
from .rules import Rules, title

__all__ = ["Apart", "Numbers"]


class Apart(NamedTuple):
    """Numbers at a resume, in words."""

    wrong: list[str]
    """Those with which the run does not go on."""
    unknown: list[str]
    """Those of which it cannot be known."""


ABSENT = object()
Values = tuple[Any, ...]
"""A number or an option at a step, once for all parameters that have it alike at all steps."""


class Numbers:
    """The numbers and options at every step so far."""

    def __init__(self) -> None:
        self._at: dict[int, Mapping[str, Rule]] = {}
        self._first: int | None = None
        self._known: dict[int, dict[str, Any]] = {}

    def note(self, step: int, rules: Mapping[str, Rule]) -> None:
        """Note the numbers at a step."""
        self._at[step] = rules
        self._first = step if self._first is None else self._first

    def _of(self, rule: Rule | None) -> Mapping[str, Any]:
        """The numbers and options of a rule, and its name."""
        if rule is None:
            return {}
        if id(rule) not in self._known:
            options = {"rule": title(rule), **rule.hypers}
            self._known[id(rule)] = {name: _single(value) for name, value in options.items()}
        return self._known[id(rule)]

    def apart(self, steps: Sequence[Step], rules: Rules) -> Apart:
        """In words, the numbers with which a resumed run does not go on, or may not.

        Args:
            steps: the steps after the resume.
            rules: the rules of the parameters.
        """
        number, found = steps[0].number, Apart([], [])
        after = [rules.of(step) for step in steps]
        last = self._at.get(number, self._at.get(number - 1, {}))
        every = [*self._at.values(), *after]
        paths = [path for path in after[0] if path in last]
        ways = {tuple(id(own.get(path)) for own in every): path for path in paths}
        both = [[self._of(own[path]) for own in (last, after[0])] for path in ways.values()]
        for name in dict.fromkeys(n for one, other in both for n in one if n in other):
            columns = {
                tuple(self._of(own.get(path)).get(name, ABSENT) for own in every): None
                for path, (one, other) in zip(ways.values(), both, strict=True)
                if name in one and name in other
            }
            values = [*zip(*columns, strict=True)]
            at = {s: own for s, own in zip(self._at, values, strict=False) if ABSENT not in own}
            later = takewhile(lambda own: ABSENT not in own, values[len(self._at) :])
            self._judge(found, number, name, at, [*later])
        return found

    def _judge(
        self, found: Apart, number: int, name: str, at: Mapping[int, Values], after: list[Values]
    ) -> None:
        """Note a number with which a run does not go on at a step, or may not."""
        for step, value in enumerate(after, number):  # the run may have been there already
            then = at.get(step, value)
            if then != value:
                found.wrong.append(
                    f"{name} was {_shown(then)} at step {step} before the resume, and is "
                    f"{_shown(value)}"
                )
                return
        if not (past := _before(at, number)):
            return
        last, now, start = past[-1], after[0], self._first or 0
        begun = [at.get(step) for step in (start, start + 1)]
        said = f"{name} was {_shown(last)} at step {number - 1}, and is {_shown(now)}"
        judged = [follows(*pair) for pair in _series(past, after)] or ["" if last == now else None]
        if not any(words is None or words for words in judged):
            return
        if last != now and [*after[:2]] == begun[: len(after)]:
            words = (
                f"the schedule of {name} began again: {said} at step {number} as at step {start}"
            )
        elif any(judged):
            words = f"the schedule of {name} {next(filter(None, judged))}: {said} from step "
            words += f"{number} on"
        elif last != now and not _usual(at, last, after):
            words = f"{said} from step {number} on"
        else:
            found.unknown.append(f"whether {name} goes on cannot be judged: {said}")
            return
        found.wrong.append(words)


def _before(at: Mapping[int, Values], number: int) -> list[Values]:
    """The values at the consecutive steps before a step."""
    past: list[Values] = []
    while (step := number - len(past) - 1) in at:
        past.append(at[step])
    return past[::-1]


def _usual(at: Mapping[int, Values], last: Values, after: Sequence[Values]) -> bool:
    """Whether a number changes elsewhere as it does at the resume."""
    before = {(at[step - 1], value) for step, value in at.items() if step - 1 in at}
    changes = {(one, other) for one, other in {*before, *pairwise(after)} if one != other}
    return any(_alike(change, (last, after[0])) for change in changes)


def _alike(change: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether a change is at least half as large as another, in the same direction."""
    sizes = [_size(*pair) for pair in (change, other)]
    if any(size is None for size in sizes):
        return change == other
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


def _series(past: Sequence[Any], now: Sequence[Any]) -> Iterator[tuple[list[float], list[float]]]:
    """The values of every single number before and after a resume, where all are numbers."""
    width = len(_flat(past[-1]))

    def whole(values: Iterable[Any]) -> list[list[float]]:
        return [*takewhile(lambda own: len(own) == width, map(_flat, values))]

    before, after = whole(reversed(past))[::-1], whole(now)
    if width and after:
        for place in range(width):
            yield [own[place] for own in before], [own[place] for own in after]


def _flat(value: Any) -> list[float]:
    """The numbers in a tuple of values; empty if one is no number."""
    parts = [_flat(part) if isinstance(part, tuple) else [part] for part in value or ()]
    found = [part for own in parts for part in own]
    return found if all(isinstance(part, float) for part in found) and all(parts) else []


def _shown(values: Values) -> str:
    return " and ".join(dict.fromkeys(map(_text, values)))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
