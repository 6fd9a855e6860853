"""Deviations in the averages that a rule keeps: in their weights, and in when they are updated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from itertools import permutations
from typing import Any

import numpy

from samestep.arrays import map_parts, parts
from samestep.parity.trajectory import as_recorded
from samestep.parts.momentum import accelerated
from samestep.quirks import calls, changed, with_calls, with_coefficients
from samestep.rule import Rule
from samestep.step import Record

from .deviation import Deviation, first_coefficients, is_pair

__all__ = ["of_averages"]


def of_averages(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations in the averages of a rule."""
    now = first_coefficients(rule)
    pairs = [name for name, value in now.items() if is_pair(value)]
    for name in pairs:
        yield from _other_weights(name)
    for name, other in permutations(pairs, 2):
        yield Deviation(
            f"{name} weights of {other}",
            f"takes the weights of {other} in the average with {name}",
            f"takes the weights of {name} in the average with {name}",
            with_coefficients(partial(_taken, name, other)),
        )
    known: Any = rule
    for slot, still in _stills(known).items():
        yield _stale(slot, partial(_directed, slot, still))
    if "unbias_m" in now:
        own = f"looks ahead as {rule.__name__} does" if "of_m" in now else ""
        for by, word in ((0, "this"), (1, "the next")):
            yield Deviation(
                f"look ahead, m corrected as in {word} step",
                f"looks one step of momentum ahead, correcting m as in {word} step",
                own or "steps along m without looking ahead",
                partial(_ahead, by),
            )
    elif "m" in rule._slots:
        yield Deviation(
            "state updated first",
            "updates its averages before it takes its direction from them",
            "updates its averages as it takes its direction",
            _updated_first,
        )
    for slot in rule._slots:
        if slot.endswith("_max"):
            yield Deviation(
                f"{slot} forgotten",
                f"divides by {slot.removesuffix('_max')} as it is now",
                f"divides by the largest {slot.removesuffix('_max')} so far",
                partial(_forgotten, slot),
            )
    if calls(rule, accelerated):
        yield from _of_momentum()


def _other_weights(name: str) -> Iterator[Deviation]:
    called = {"weights": "its average"}.get(name, f"the average with {name}")
    yield Deviation(
        f"{name} weights swapped",
        f"gives the old value in {called} the weight 1 - b and the new one b",
        f"gives the old value in {called} the weight b and the new one 1 - b",
        with_coefficients(lambda rule, s: {**s, name: s[name][::-1]}),
    )
    yield Deviation(
        f"{name} sum",
        f"keeps a decaying sum in {called}, adding the new value whole",
        f"weights the new value in {called} by 1 - b",
        with_coefficients(lambda rule, s: {**s, name: (s[name][0], 1.0)}),
    )


def _taken(name: str, other: str, rule: Rule, s: dict[str, Any]) -> dict[str, Any]:
    return {**s, name: s[other]}


def _stale(slot: str, methods: Any) -> Deviation:
    return Deviation(
        f"stale {slot}",
        f"steps by {slot} as it was before this gradient",
        f"steps by {slot} with this gradient in it",
        methods,
    )


class _Look:
    """In place of the correction of m: makes the look-ahead of the new m."""

    def __init__(self, of_m: float, rest: Any) -> None:
        self.of_m = of_m
        self.rest = rest

    def __mul__(self, m: Any) -> Any:
        return self.rest + self.of_m * m


def _ahead(by: int, cls: Any) -> dict[str, Any]:
    def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found = cls.coefficients(self, xp, t)
        later = cls.coefficients(self, xp, t + by)["unbias_m"]
        beta, rest = found["beta1"]
        return {**found, "of_m": beta * later, "of_grad": rest * found["unbias_m"]}

    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        s = changed(s, unbias_m=_Look(s.of_m, s.of_grad * grad))
        return cls.direction(self, xp, grad, param, state, s)

    return {"coefficients": coefficients, "direction": direction}


STILL: dict[str, Any] = {"momentum": 1.0, "fresh": 0.0}
"""Coefficients with which the momentum keeps its old value."""


@cache
def _stills(rule: Any) -> dict[str, dict[str, Any]]:
    """By slot, coefficients with which this slot, and no other, keeps its old value; by trial.

    The largest value of a slot so far goes with the slot.
    """
    typical = {n: f.typical for n, f in rule.fields().items() if getattr(f, "typical", None)}
    made, param = as_recorded(rule(**typical)), numpy.linspace(-1, 1, 16).reshape(4, 4)
    if made.needs == "tree":
        return {}
    s = made.coefficients(numpy, 3)
    old = {name: map_parts(lambda x: x + 0.3, v) for name, v in made.init(param).slots.items()}
    changes: list[dict[str, Any]] = [{n: (1.0, 0.0)} for n, value in s.items() if is_pair(value)]
    changes += [STILL] * (s.keys() >= STILL.keys())
    found: dict[str, dict[str, Any]] = {}
    for change in changes:
        try:
            _, new = made.direction(numpy, 2 * param, param, Record(old), Record({**s, **change}))
        except (IndexError, ValueError, AttributeError):
            return {}
        still = [name for name, value in new.items() if _equal(value, old[name])]
        still = [name for name in still if name.removesuffix("_max") not in {*still} - {name}]
        found |= {still[0]: change} if len(still) == 1 else {}
    return found


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(parts(one), parts(other), strict=True)
    return all(numpy.array_equal(*pair) for pair in pairs)


def _directed(slot: str, still: dict[str, Any], cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        before, slots = cls.direction(self, xp, grad, param, state, changed(s, **still))
        _, new = cls.direction(self, xp, grad, param, state, s)
        return before, {**slots, **({slot: new[slot]} if slot in new else {})}

    return {"direction": direction}


def _forgotten(slot: str, cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        if slot in state:
            state = changed(state, **{slot: 0 * getattr(state, slot)})
        return cls.direction(self, xp, grad, param, state, s)

    return {"direction": direction}


def _updated_first(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        _, new = cls.direction(self, xp, grad, param, state, s)
        after, _ = cls.direction(self, xp, grad, param, changed(state, **new), s)
        return after, new

    return {"direction": direction}


def _of_momentum() -> Iterator[Deviation]:
    yield Deviation(
        "fresh complement",
        "weights what goes into the momentum by the rest of what it should",
        "weights what goes into the momentum by 1 - momentum in a mean, 1 - dampening in a sum",
        with_coefficients(lambda rule, s: {**s, "fresh": 1 - s["fresh"]}),
    )
    yield Deviation(
        "nesterov with the step whole",
        "adds the whole step to the momentum when it looks ahead",
        "adds the step with its weight in the mean when it looks ahead",
        with_calls({accelerated: _whole}),
    )


def _whole(now: Any) -> Any:
    def accelerated(rule: Any, xp: Any, step: Any, state: Any, s: Any) -> Any:
        direction, slots = now(rule, xp, step, state, s)
        if not (rule.nesterov and slots):
            return direction, slots
        return (s.lr * step if rule.lr_at == "inside" else step) + s.momentum * slots["m"], slots

    return accelerated
