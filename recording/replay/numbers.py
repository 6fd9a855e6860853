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

    def apart(self, steps: Sequence[Step], rules: Rules) -> Apart:
        """In words, the numbers with which a resumed run does not go on, or may not.

        Args:
            steps: the steps after the resume.
            rules: the rules of the parameters.
        """
        number, found = steps[0].number, Apart([], [])
        after = [self._of(rules.of(step)) for step in steps]
        for name in self._at.get(number, self._at.get(number - 1, {})).keys() & after[0].keys():
            self._judge(found, number, name, [values.get(name) for values in after])
        return found

    def _judge(self, found: Apart, number: int, name: str, after: Sequence[Any]) -> None:
        """Note a number with which a run does not go on at a step, or may not."""
        for step, value in enumerate(after, number):  # the run may have been there already
            then = self._at.get(step, {}).get(name, value)
            if then != value:
                found.wrong.append(
                    f"{name} was {_shown(then)} at step {step} before the resume, and is "
                    f"{_shown(value)}"
                )
                return
        if not (past := self._before(number, name)):
            return
        last, now, start = past[-1], after[0], self._first or 0
        begun = [self._at.get(step, {}).get(name) for step in (start, start + 1)]
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
        elif last != now and not self._usual(name, last, after):
            words = f"{said} from step {number} on"
        else:
            found.unknown.append(f"whether {name} goes on cannot be judged: {said}")
            return
        found.wrong.append(words)

    def _before(self, number: int, name: str) -> list[Any]:
        """The values at the consecutive steps before a step."""
        past: list[Any] = []
        while (step := number - len(past) - 1) in self._at:
            past.append(self._at[step].get(name))
        return past[::-1]

    def _usual(self, name: str, last: Any, after: Sequence[Any]) -> bool:
        """Whether a number changes elsewhere as it does at the resume."""
        later = {(one, other) for one, other in pairwise(after) if one != other and one and other}
        among = self._changes.get(name, set()) | later
        return any(_alike(change, (last, after[0])) for change in among)


def _note(changes: Changes, one: Values, other: Values) -> None:
    for name in _differing(one, other) if one is not other else ():
        changes.setdefault(name, set()).add((one[name], other[name]))


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


def _differing(one: Values, other: Values) -> list[str]:
    return [name for name, values in one.items() if name in other and other[name] != values]


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


def _shown(values: tuple[Any, ...]) -> str:
    return " and ".join(map(_text, values))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
