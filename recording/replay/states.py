"""A recorded state beside the state that follows from the recorded gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy

from samestep.arrays import parts
from samestep.checkpoints.state import Checkpoint, ParameterState
from samestep.checkpoints.tensor import Tensor
from samestep.parity.ulp import rounded
from samestep.recording.reading import Step
from samestep.rule import Rule

from .judging import RELATIVE, Judge, distance
from .stepper import Values
from .trials import Pair

__all__ = ["End", "counts_otherwise", "differing", "shared_differing"]

Arrays = tuple[numpy.ndarray, ...]

NEAR = RELATIVE["float32"]
"""How far arrays may be apart that are said to be the same."""
ALIKE = {**RELATIVE, "float16": 2.0**-4, "bfloat16": 2.0**-2}
"""The same for a slot of a dtype. An average in 16 bits drifts: each step rounds it by 2^-9, and
``1 - beta`` may be less than that."""
LEAST = 2.0**-126 / NEAR
"""Numbers of a rule below this size are compared with it: float32 cannot hold them, as a product of
momenta after a hundred steps."""
SHARED = 1e-2
"""How far sums over all parameters may be off, of which some cancel."""


class End(NamedTuple):
    """The end of a run, from which another may go on."""

    step: Step
    """The last step."""
    pair: Pair
    """The states after it."""
    earlier: Pair
    """The states before it."""
    judge: Judge
    """The judge that has seen the steps so far."""


def differing(
    saved: Checkpoint, end: End, rules: Mapping[str, Rule], params: Values
) -> dict[str, str]:
    """In words, how the recorded state of parameters differs from the state at the end of a run."""
    found = {}
    for name, rule in rules.items():
        state = saved.parameters.get(name)
        if state is not None and name in end.pair.wide.own:
            words = ", ".join(_Beside(end, name, rule, params[name]).words(state))
            if words:
                found[name] = words
    return found


def shared_differing(saved: Checkpoint, end: End) -> Iterator[str]:
    """In words, how recorded numbers that all parameters share differ from those of the run."""
    for name, tensor in saved.shared.items():
        here, there = float(tensor.values()), float(end.pair.wide.shared.get(name, numpy.nan))
        if abs(here - there) > SHARED * abs(there):
            yield f"{name} is {here:.6g} in place of {there:.6g}"


def counts_otherwise(rule: Rule, one: int, other: int) -> bool:
    """Whether a rule takes other steps at another count."""
    first, second = (rule.coefficients(numpy, step + 1) for step in (one, other))
    return repr(first) != repr(second)


@dataclass(frozen=True)
class _Beside:
    """The state of a parameter that should be."""

    end: End
    name: str
    rule: Rule
    param: numpy.ndarray

    def words(self, state: ParameterState) -> Iterator[str]:
        """How a recorded state differs."""
        machine = self.end.pair.wide
        own = machine.own[self.name]
        count = own.step if machine.each else machine.count
        if state.slots is None:
            if count and own.slots:
                yield "there is no state"
            return
        kinds: dict[str, list[str]] = {}
        for slot in own.slots:
            if slot in state.slots:
                said = self._said(slot, parts(state.slots[slot]))
                kinds.setdefault(said, []).append(slot)
        for said, slots in kinds.items():
            if said:
                yield f"{' and '.join(slots)} {'is' if len(slots) == 1 else 'are'} {said}"
        if state.step != count and counts_otherwise(self.rule, state.step, count):
            yield f"it has counted {state.step} steps in place of {count}"

    def _said(self, slot: str, tensors: tuple[Tensor, ...]) -> str:
        """What is in place of a slot; empty if it is the slot."""
        here = tuple(tensor.values() for tensor in tensors)
        there = [*_slots(self.end.pair, self.name, slot)]
        number = self.rule.slots()[slot].init.dtype == "compute"
        far = _far(here, there, LEAST if number else 0.0)
        if far <= ALIKE.get(tensors[0].dtype, NEAR):
            return ""
        if not any(array.any() for array in here):
            return "0"
        for dtype in ("bfloat16", "float16"):
            narrow = all(numpy.array_equal(array, rounded(array, dtype)) for array in here)
            if narrow and far <= RELATIVE[dtype]:
                return f"rounded to {dtype}"
        known = (words for words, other in self._others(slot) if _far(here, other) <= NEAR)
        return next(known, f"off by {far:.2g} of the largest")

    def _others(self, slot: str) -> Iterator[tuple[str, Iterable[Arrays]]]:
        """Arrays that may be in place of a slot, in words."""
        end, own = self.end, self.end.pair.wide.own
        yield f"from before step {end.step.number}", _slots(end.earlier, self.name, slot)
        begun = [machine.begun(self.name, self.rule, self.param) for machine in end.pair]
        yield "as at the beginning", [_arrays(one.slots[slot]) for one in begun]
        for other in own[self.name].slots.keys() - {slot}:
            yield f"what {other} should be", _slots(end.pair, self.name, other)
        for name in own.keys() - {self.name}:
            yield f"the one of {name}", _slots(end.pair, name, slot)


def _slots(pair: Pair, name: str, slot: str) -> Iterator[Arrays]:
    """A slot in float64 and in float32, if the parameter has it."""
    for machine in pair:
        if name in machine.own and slot in machine.own[name].slots:
            yield _arrays(machine.own[name].slots[slot])


def _arrays(value: Any) -> Arrays:
    return tuple(numpy.asarray(part, numpy.float64) for part in parts(value))


def _far(here: Arrays, there: Iterable[Arrays], least: float = 0.0) -> float:
    """How far arrays are from the nearest of others, relative to the largest element.

    That element counts as ``least`` at least, unless it is 0.
    """
    return min((_apart(here, other, least) for other in there), default=numpy.inf)


def _apart(one: Arrays, other: Arrays, least: float) -> float:
    if [a.shape for a in one] != [b.shape for b in other]:
        return float("inf")
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        far = distance(a, b)
        size = float(numpy.max(numpy.abs(b), initial=0.0, where=numpy.isfinite(b)))
        worst = max(worst, float(numpy.max(far, initial=0.0)) / (max(size, least) if size else 1.0))
    return worst
