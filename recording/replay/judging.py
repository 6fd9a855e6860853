"""Whether a recorded step is the step of the rule, up to rounding.

Each step is judged by itself. The rule takes the step from the recorded parameters, with the state
that follows from the recorded gradients, in float64 and in float32. The recorded result must be
near one of the two: a few ULP of the parameter, plus a small part of the change in the step. A
library that computes ``1 - beta**t`` in float32 is off by 1e-5 of the change; another eps is off by
more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy

from samestep.checkpoints.tensor import Tensor
from samestep.parity.ulp import spacing
from samestep.rule import Rule

__all__ = ["RELATIVE", "ULP", "Bound", "Judge", "Judgement", "distance", "finite"]

ULP = 4.0
"""How many ULP of the parameter a step may be off, in addition to the part of the change."""

RELATIVE: Mapping[str, float] = {
    "float64": 1e-10,
    "float32": 1e-4,
    "float16": 2.0**-8,
    "bfloat16": 2.0**-5,
}
"""The part of the change by which a step may be off, by the dtype of the parameter."""
NUMBER = 1e-6
"""The same for a rule with a number of its own per parameter, which libraries keep in float32."""

EPS: Mapping[str, float] = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}
"""The largest ULP of a dtype, relative to the number."""


class Bound(NamedTuple):
    """How far a step may be off: a number of ULP, or as far as rounding explains."""

    ulp: float | None = None


class Judgement(NamedTuple):
    """How far a step of a parameter is off, at the element where it is farthest."""

    within: bool
    ulp: float
    """The difference in ULP of the largest size so far of the element or of its change."""
    relative: float
    """Relative to the largest change of the parameter in this step."""
    place: tuple[int, ...]
    recorded: float
    computed: float
    tells: bool = False
    """Whether an element has moved by more than it may be off, so that the rule is told from one
    that moves nothing."""


class Judge:
    """Sizes of the elements of every parameter so far, and the bounds that follow."""

    def __init__(self, bound: Bound, dtypes: Mapping[str, str]) -> None:
        self.bound, self.dtypes = bound, dtypes
        self._sizes: dict[str, numpy.ndarray] = {}
        self._moves: dict[str, numpy.ndarray] = {}
        self._unit: dict[str, numpy.ndarray] = {}

    def copy(self) -> Judge:
        """A copy."""
        made = Judge(self.bound, self.dtypes)
        made._sizes, made._moves, made._unit = map(dict, (self._sizes, self._moves, self._unit))
        return made

    def apart(self, name: str, one: numpy.ndarray, other: numpy.ndarray) -> float:
        """The largest distance of two values of a parameter, in ULP of the last step."""
        return float(numpy.max(distance(one, other) / self._unit[name], initial=0.0))

    def judged(
        self,
        name: str,
        rule: Rule,
        before: numpy.ndarray,
        after: numpy.ndarray,
        *computed: numpy.ndarray,
    ) -> Judgement:
        """The distance of a recorded parameter from the nearest computed result."""
        size, move = self._seen(name, rule, before, computed[0])
        if not after.size:
            return Judgement(True, 0.0, 0.0, (), 0.0, 0.0)
        dtype = self.dtypes[name]
        apart = distance(after, computed[0])
        for other in computed[1:]:
            apart = numpy.minimum(apart, distance(after, other))
        units = numpy.asarray(apart / self._unit[name])
        place = numpy.unravel_index(int(numpy.argmax(units)), units.shape)
        worst = float(units[place])
        if self.bound.ulp is None:
            part = _part(rule, dtype) * rule.amplifies
            allowed = ULP * EPS[dtype] * size + part * move
        else:
            allowed = self.bound.ulp * self._unit[name]
        over, moved = apart > allowed, distance(after, before) > allowed
        if beyond := bool(numpy.any(over)):  # among the elements beyond their bound, the farthest
            far = numpy.where(over, apart, -1.0)
            place = numpy.unravel_index(int(numpy.argmax(far)), far.shape)
        change = float(numpy.max(numpy.abs(computed[0] - before), initial=0.0)) or 1.0
        relative = float(numpy.abs(after[place] - computed[0][place])) / change
        at = tuple(int(index) for index in place)
        recorded, expected = float(after[place]), float(computed[0][place])
        tells = bool(numpy.any(moved))
        return Judgement(not beyond, worst, relative, at, recorded, expected, tells)

    def _seen(
        self, name: str, rule: Rule, before: numpy.ndarray, computed: numpy.ndarray
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The largest size and change of every element so far."""
        with numpy.errstate(invalid="ignore"):
            change = numpy.asarray(numpy.abs(computed - before))
        change[~numpy.isfinite(change)] = 0.0
        if change.size:  # an element that hardly moves is as exact as the others around it
            change = numpy.fmax(change, numpy.sqrt(numpy.mean(change * change)))
        size = numpy.asarray(numpy.fmax(numpy.abs(before), numpy.abs(computed)))
        size[~numpy.isfinite(size)] = 0.0
        if rule.needs in ("matrix", "factored", "axes") and size.size:
            change = numpy.full_like(change, numpy.fmax.reduce(change, axis=None))
        self._sizes[name] = numpy.fmax(size, self._sizes.get(name, 0.0))
        self._moves[name] = numpy.fmax(change, self._moves.get(name, 0.0))
        scale = numpy.maximum(self._sizes[name], self._moves[name])
        self._unit[name] = spacing(scale, self.dtypes[name])
        return self._sizes[name], self._moves[name]


def _part(rule: Rule, dtype: str) -> float:
    """The part of the change by which a step may be off.

    A framework rounds float64 to a state of 16 bits by way of float32, and so not always alike.
    torch keeps NAdam's product of momenta, a number, in float32 beside every parameter.
    """
    slots = rule.slots() if dtype == "float64" else {}
    kept = (RELATIVE[name] for name in map(rule.storage, slots) if name is not None)
    numbers = (NUMBER for slot in slots.values() if slot.init.dtype == "compute")
    return max([RELATIVE[dtype], *kept, *numbers])


def finite(tensor: Tensor) -> bool:
    """Whether an array has neither NaN nor infinity."""
    return bool(numpy.all(numpy.isfinite(tensor.values())))


def distance(one: numpy.ndarray, other: numpy.ndarray) -> numpy.ndarray:
    """The differences of elements; infinite if only one of two is finite, or only one is NaN."""
    with numpy.errstate(invalid="ignore"):
        apart: numpy.ndarray = numpy.asarray(numpy.abs(one - other))
    if not numpy.all(numpy.isfinite(apart)):
        same = (one == other) | (numpy.isnan(one) & numpy.isnan(other))
        apart = numpy.where(same, 0.0, numpy.where(numpy.isfinite(apart), apart, numpy.inf))
    return apart
