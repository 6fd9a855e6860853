"""Two recordings of the same run, for example in two frameworks: the first difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy

from samestep.checkpoints.description import describe, made, numbers
from samestep.checkpoints.maps import Map
from samestep.checkpoints.state import Checkpoint, ParameterState
from samestep.checkpoints.tensor import Tensor
from samestep.parity.ulp import ulps
from samestep.recording.reading import Recording, Step
from samestep.recording.spool import RecordingError
from samestep.rules.sgd import SGD

__all__ = ["Against", "Apart", "against"]

GRADIENT = 1e-3
"""How far gradients may be apart, relative to the largest of their tensor. Frameworks sum in other
orders, and parameters that rounding has moved apart have other gradients."""

CHANGE = 1e-2
"""How far the changes of a parameter in one step may be apart, by their norms."""

FOLLOWS = 30.0
"""How many times farther apart changes may be than the gradients so far. Adam divides by the size
of a gradient, so small gradients, which have larger errors, count as much as large ones."""

Kind = Literal[
    "start", "hyperparameters", "gradients", "optimizer", "parameters", "drift", "small", "gap"
]
"""Kinds of differences. ``parameters``: parameters differ before a step and hardly differed after
the step before, so something else changed them. ``gap``: the same, in steps that are not in both
recordings. ``drift``: small changes by the optimizer have added up. ``small``: gradients and
optimizer together."""

SAID: Mapping[Kind, str] = {
    "start": "the parameters to start from differ",
    "gradients": "the gradients differed first",
    "optimizer": "the optimizer differed first",
    "drift": "the optimizer differed first, by little in each step",
    "small": "small differences of gradients and of changes have added up",
    "gap": "the parameters differed first, after steps that are not in both recordings",
    "parameters": "something else than the optimizer changed parameters first",
}


@dataclass(frozen=True)
class Apart:
    """A difference of two recordings at one step."""

    kind: Kind
    step: int
    path: str
    relative: float
    ulp: float
    a: Any = None
    b: Any = None
    within: float = CHANGE
    """The largest distance of changes in one step so far."""

    def __str__(self) -> str:
        at = f"step {self.step}, {self.path}"
        if self.kind == "hyperparameters":
            return f"{at} is {self.a!r} in the first and {self.b!r} in the second"
        within = f"each within {self.within:.2g}, have added up by step {self.step}"
        what = {
            "start": "the parameters before it differ",
            "gradients": "the gradients differ, with parameters that agree",
            "optimizer": "the parameters after it differ, with gradients and parameters that agree",
            "parameters": "the parameters before it differ, and after the step before they did not",
            "drift": "the parameters before it differ: differences of the optimizer's changes, "
            + within,
            "small": "the parameters before it differ: differences of gradients and changes, "
            + within,
            "gap": "the parameters before it differ; the step before is not in both recordings",
        }[self.kind]
        return f"{at}: {what}, {self._far()}"

    def _far(self) -> str:
        if not math.isfinite(self.relative):
            return "by NaN or infinity in one of them"
        units = f" ({self.ulp:,.0f} ULP)" if self.ulp < 1e6 else ""
        return f"by {self.relative:.2g} of the largest{units}"


class Row(NamedTuple):
    """How far two runs are apart at a step."""

    step: int
    before: float
    gradients: float
    changes: float


@dataclass
class Against:
    """The result of the comparison of two recordings."""

    files: tuple[str, str]
    optimizers: tuple[str, str]
    first: Apart | None = None
    hyperparameters: list[Apart] = field(default_factory=list)
    """The first difference of each number."""
    rows: list[Row] = field(default_factory=list)
    only: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]
    """Parameters that only one of them has."""
    alone: tuple[list[int], list[int]] = ((), ())  # type: ignore[assignment]
    """Steps that only one of them has; they are not compared."""

    @property
    def verdict(self) -> Literal["agree", "differ"]:
        """Whether nothing differs beyond what rounding explains."""
        return "agree" if self.first is None and not self.hyperparameters else "differ"

    @property
    def sentence(self) -> str:
        """A sentence about the first difference."""
        if self.first is None:
            return "nothing differs" if not self.hyperparameters else "hyperparameters differ"
        return SAID[self.first.kind]

    @property
    def compared(self) -> str:
        """The compared steps, if one recording has steps that the other has not."""
        if not any(self.alone):
            return ""
        numbers_ = [row.step for row in self.rows]
        first, last, count = numbers_[0], numbers_[-1], len(numbers_)
        said = f"steps {first} to {last}" if count > 1 else f"step {first}"
        if count != last - first + 1:
            said = f"{count} steps from {first} to {last}"
        for file, own in zip(self.files, self.alone, strict=True):
            if own:
                said += f"; {len(own)} step{' is' if len(own) == 1 else 's are'} in {file} only"
        return f"in {said}"


Values = Mapping[str, Tensor]


def against(
    one: Recording, other: Recording, *, names: Map | None = None, tolerance: float | None = None
) -> Against:
    """Compare two recordings step by step.

    Args:
        one, other: the recordings; their steps must have common numbers.
        names: a map of the names and shapes of the first to those of the second.
        tolerance: how far gradients and parameters may be apart, relative to the largest of their
            tensor.

    Raises:
        RecordingError: the recordings have no parameter or step in common.
        CheckpointError: the map does not fit.
    """
    mine, theirs = ({step.number: step for step in own.steps} for own in (one, other))
    common = sorted(mine.keys() & theirs.keys())
    if not common:
        raise RecordingError(
            f"{one.path} and {other.path} have no step in common: {_span(one)} and {_span(other)}"
        )
    mapped = _mapping(names, one)
    a = {*mapped(mine[common[0]].before)}
    b = {*theirs[common[0]].before}
    if not a & b:
        raise RecordingError(
            f"{one.path} and {other.path} have no parameter in common: {', '.join(sorted(a)[:4])} "
            f"and {', '.join(sorted(b)[:4])}; --map gives them the same names"
        )
    found = Against((one.path, other.path), (one.optimizer, other.optimizer))
    found.only = sorted(a - b), sorted(b - a)
    found.alone = sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys())
    state = _State(tolerance or GRADIENT)
    for number in common:
        step, pair = mine[number], theirs[number]
        found.hyperparameters += _numbers(found, step, pair)
        sides = _Side.of(step, mapped), _Side.of(pair)
        apart = state.apart(number, *sides, sorted(a & b), found.rows)
        if apart is not None and found.first is None:
            found.first = apart
    return found


def _span(one: Recording) -> str:
    numbers_ = [step.number for step in one.steps]
    return f"{numbers_[0]} to {numbers_[-1]}" if numbers_ else "none"


class _Side(NamedTuple):
    """A step of one of the runs, under common names."""

    before: Values
    grads: Values
    after: Values

    @classmethod
    def of(cls, step: Step, mapped: Callable[[Values], Values] = lambda tensors: tensors) -> _Side:
        return cls(mapped(step.before), mapped(step.grads), mapped(step.after))


@dataclass
class _Past:
    """How far a parameter is apart after the last step, and the causes."""

    far: float = 0.0
    by: dict[Kind, float] = field(default_factory=dict)

    def goes(self, kind: Kind, far: float) -> None:
        """Note how far apart the parameter is now, and the cause of the change."""
        grown = far - self.far
        if math.isfinite(grown) or math.isinf(far):
            self.by[kind] = self.by.get(kind, 0.0) + (0.0 if math.isnan(grown) else grown)
        self.far = far

    @property
    def cause(self) -> Kind:
        """The cause that has brought it farthest apart."""
        return max(self.by, key=lambda kind: self.by[kind])


@dataclass
class _State:
    """How far two runs have been apart so far."""

    tolerance: float
    gradients: float = 0.0
    changes: float = 0.0
    last: int | None = None
    past: dict[str, _Past] = field(default_factory=dict)
    drifts: bool = False
    """Whether changes were once farther apart than the gradients so far explain."""

    def apart(
        self, number: int, mine: _Side, theirs: _Side, paths: list[str], rows: list[Row]
    ) -> Apart | None:
        """The first difference of a step: in parameters before it, in gradients, in changes."""
        shared = [path for path in paths if path in mine.before and path in theirs.before]
        row, found = [0.0, 0.0, 0.0], []
        for path in shared:
            parts = (
                self._before(number, path, mine, theirs),
                self._gradients(number, path, mine, theirs),
            )
            for place, (far, apart) in enumerate(parts):
                row[place] = max(row[place], far)
                found += [(place, apart)] if apart is not None else []
            if path in mine.grads and path in theirs.grads:
                far, apart = self._changes(number, path, mine, theirs, row[1])
                row[2] = max(row[2], far)
                found += [(2, apart)] if apart is not None else []
            self._past(path).goes("drift", _largest(mine.after[path], theirs.after[path])[0])
        self.gradients, self.changes = max(self.gradients, row[1]), max(self.changes, row[2])
        self.last = number
        rows.append(Row(number, *row))
        return min(found, key=lambda item: (item[0], -item[1].relative))[1] if found else None

    def _past(self, path: str) -> _Past:
        return self.past.setdefault(path, _Past())

    def _before(
        self, number: int, path: str, mine: _Side, theirs: _Side
    ) -> tuple[float, Apart | None]:
        """How far parameters are apart before a step."""
        one, other = mine.before[path], theirs.before[path]
        if one.shape != other.shape:
            raise RecordingError(
                f"{path} has shape {one.shape} in the first and {other.shape} in the "
                "second; --map torch:flax (or a file) brings layouts together"
            )
        far, units = _largest(one, other)
        past = self._past(path)
        if self.last is None:
            past.goes("start", far)
        else:
            past.goes("parameters" if number == self.last + 1 else "gap", far)
        if far <= self.tolerance:
            return far, None
        kind = "start" if self.last is None else past.cause
        if kind == "start" and self.last is not None:  # within the tolerance at first
            kind = "drift"
        if kind == "drift" and self.gradients and not self.drifts:
            kind = "small"
        return far, Apart(kind, number, path, far, units, within=max(CHANGE, self.changes))

    def _gradients(
        self, number: int, path: str, mine: _Side, theirs: _Side
    ) -> tuple[float, Apart | None]:
        if path not in mine.grads or path not in theirs.grads:
            return 0.0, None
        far, units = _largest(mine.grads[path], theirs.grads[path])
        apart = Apart("gradients", number, path, far, units)
        return far, apart if far > self.tolerance else None

    def _changes(
        self, number: int, path: str, mine: _Side, theirs: _Side, gradients: float
    ) -> tuple[float, Apart | None]:
        """How far the changes of a step are apart, given how far the gradients are apart."""
        with numpy.errstate(invalid="ignore"):
            one, other = (
                side.after[path].values() - side.before[path].values() for side in (mine, theirs)
            )
        far = _norms(one, other, _rounding(mine.before[path]))
        explained = FOLLOWS * max(self.gradients, gradients)
        self.drifts = self.drifts or far > max(GRADIENT, explained)
        if far <= max(CHANGE, explained):
            return far, None
        units = _largest(mine.after[path], theirs.after[path])[1]
        return far, Apart("optimizer", number, path, far, units)


def _largest(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest difference, relative to the largest element, and in ULP of that."""
    a, b = one.values(), other.values()
    if not a.size:
        return 0.0, 0.0
    size = float(numpy.max(numpy.abs(b), initial=0.0, where=numpy.isfinite(b)))
    scale = numpy.full(a.shape, size)
    widest = one.dtype if one.dtype == other.dtype else "float32"
    units = float(numpy.max(ulps(a, b, scale, widest)))
    with numpy.errstate(invalid="ignore"):
        apart = numpy.abs(a - b) / (size or 1.0)
    same = (a == b) | (numpy.isnan(a) & numpy.isnan(b))
    apart = numpy.where(same, 0.0, numpy.nan_to_num(apart, nan=numpy.inf))
    return float(numpy.max(apart)), units


def _norms(one: numpy.ndarray, other: numpy.ndarray, rounding: float) -> float:
    """How far two changes are apart, by their norms; a rounding of the parameter is left out.

    The distance is infinite if only one change is finite, or if they are infinite in different
    ways.
    """
    finite = numpy.isfinite(one) & numpy.isfinite(other)
    if not numpy.array_equal(one[~finite], other[~finite], equal_nan=True):
        return math.inf
    one, other = one[finite], other[finite]
    far = float(numpy.linalg.norm(one - other))
    size = float(numpy.linalg.norm(other)) or float(numpy.linalg.norm(one))
    return max(far - rounding, 0.0) / size if size else 0.0


def _rounding(before: Tensor) -> float:
    """The norm of one rounding of every element."""
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}.get(before.dtype, 2.0**-7)
    values = before.values()
    return float(numpy.linalg.norm(values[numpy.isfinite(values)])) * eps


def _mapping(names: Map | None, recording: Recording) -> Callable[[Values], Values]:
    if names is None:
        return lambda tensors: tensors
    layout = str(recording.sessions[0].run.get("framework", "numpy"))
    described = describe(SGD(lr=1.0))

    def apply(tensors: Values) -> Values:
        states = {
            name: ParameterState(tensor.shape, tensor.dtype, 0, described, None, tensor)
            for name, tensor in tensors.items()
        }
        found = names.apply(Checkpoint(states, {}, layout)).checkpoint.parameters
        return {name: own.value for name, own in found.items() if own.value is not None}

    return apply


def _numbers(found: Against, step: Step, pair: Step) -> Iterator[Apart]:
    """Numbers that differ for the first time, if both recordings have them under our names."""
    if not all("rule" in group for side in (step, pair) for group in side.groups):
        return
    known = {apart.path for apart in found.hyperparameters}
    sides = []
    for side in (step, pair):
        values: dict[str, set[Any]] = {}
        for group in side.groups:
            for name, value in numbers(made(group["rule"]), group["rule"]).items():
                values.setdefault(name, set()).add(value)
        sides.append(values)
    for name in sides[0].keys() & sides[1].keys() - known:
        if sides[0][name] != sides[1][name]:
            mine, theirs = (sorted(side[name], key=repr) for side in sides)
            shown = (mine[0] if len(mine) == 1 else mine, theirs[0] if len(theirs) == 1 else theirs)
            yield Apart("hyperparameters", step.number, name, 0.0, 0.0, *shown)
