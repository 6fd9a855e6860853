"""Two recordings of the same run, such as of two frameworks: what differed first?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy

from ..checkpoint.checkpoint import Checkpoint, ParameterState
from ..checkpoint.description import describe, made, numbers
from ..checkpoint.maps import Map
from ..checkpoint.tensor import Tensor
from ..parity.ulp import ulps
from ..recording.reading import Recording, Step
from ..recording.spool import RecordingError
from ..rules.sgd import SGD

__all__ = ["Against", "Apart", "against"]

GRADIENT = 1e-3
"""How far gradients may be apart, relative to the largest of their tensor: frameworks sum in other
orders, and parameters that have drifted apart by rounding have other gradients."""

CHANGE = 1e-2
"""How far the changes of a parameter in one step may be apart, by their norms."""

FOLLOWS = 30.0
"""How many times as far as the gradients so far changes may be apart: Adam divides by a gradient's
size, so that small ones which are wrong by more than large ones weigh as much."""

Kind = Literal["start", "hyperparameters", "gradients", "optimizer", "parameters", ""]


@dataclass(frozen=True)
class Apart:
    """Something in which two recordings differ, at one step."""

    kind: Kind
    step: int
    path: str
    relative: float
    ulp: float
    a: Any = None
    b: Any = None

    def __str__(self) -> str:
        far = f"by {self.relative:.2g} of the largest"
        units = f" ({self.ulp:,.0f} ULP)" if self.ulp < 1e6 else ""
        at = f"step {self.step}, {self.path}"
        if self.kind == "hyperparameters":
            return f"{at} is {self.a!r} in the first and {self.b!r} in the second"
        what = {
            "start": "the parameters before it differ",
            "gradients": "the gradients differ, with parameters that agree",
            "optimizer": "the parameters after it differ, with gradients and parameters that agree",
            "parameters": "the parameters before it differ, and after the step before they did not",
        }[self.kind]
        return f"{at}: {what}, {far}{units}"


class Row(NamedTuple):
    """How far two runs are apart at a step."""

    step: int
    before: float
    gradients: float
    changes: float


@dataclass
class Against:
    """What a comparison of two recordings found."""

    files: tuple[str, str]
    optimizers: tuple[str, str]
    first: Apart | None = None
    hyperparameters: list[Apart] = field(default_factory=list)
    """The first difference of each."""
    rows: list[Row] = field(default_factory=list)
    only: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]
    """Parameters that only one of them has."""

    @property
    def verdict(self) -> Literal["agree", "differ"]:
        """Whether nothing differs beyond what rounding explains."""
        return "agree" if self.first is None and not self.hyperparameters else "differ"

    @property
    def sentence(self) -> str:
        """What differed first."""
        if self.first is None:
            return "nothing differs" if not self.hyperparameters else "hyperparameters differ"
        said = {
            "start": "the parameters to start from differ",
            "gradients": "the gradients differed first",
            "optimizer": "the optimizer differed first",
            "parameters": "something else than the optimizer changed parameters first",
        }
        return said[self.first.kind]


Values = Mapping[str, Tensor]


def against(
    one: Recording, other: Recording, *, names: Map | None = None, tolerance: float | None = None
) -> Against:
    """Compare two recordings step by step.

    Args:
        one, other: the recordings; their steps must have common numbers.
        names: what makes the names and shapes of the first those of the second.
        tolerance: how far gradients and parameters may be apart, relative to the largest of their
            tensor.

    Raises:
        RecordingError: they have no parameter or step in common.
        CheckpointError: the map does not fit.
    """
    theirs = {step.number: step for step in other.steps}
    mine = [step for step in one.steps if step.number in theirs]
    if not mine:
        raise RecordingError(
            f"{one.path} and {other.path} have no step in common: {_span(one)} and {_span(other)}"
        )
    mapped = _mapping(names, one)
    a = {*mapped(mine[0].before)}
    b = {*theirs[mine[0].number].before}
    if not a & b:
        raise RecordingError(
            f"{one.path} and {other.path} have no parameter in common: {', '.join(sorted(a)[:4])} "
            f"and {', '.join(sorted(b)[:4])}; --map gives them the same names"
        )
    found = Against((one.path, other.path), (one.optimizer, other.optimizer))
    found.only = sorted(a - b), sorted(b - a)
    state = _State(tolerance or GRADIENT)
    for step in mine:
        pair = theirs[step.number]
        found.hyperparameters += _numbers(found, step, pair, mapped)
        apart = state.apart(step, pair, mapped, sorted(a & b), found.rows)
        if apart is not None and found.first is None:
            found.first = apart
    return found


def _span(one: Recording) -> str:
    numbers_ = [step.number for step in one.steps]
    return f"{numbers_[0]} to {numbers_[-1]}" if numbers_ else "none"


@dataclass
class _State:
    """How far two runs have been apart so far."""

    tolerance: float
    gradients: float = 0.0
    last: int | None = None

    def apart(
        self,
        step: Step,
        pair: Step,
        mapped: Callable[[Values], Values],
        paths: list[str],
        rows: list[Row],
    ) -> Apart | None:
        """The first of a step's differences: before it, in gradients, in what it changes."""
        mine = {name: mapped(getattr(step, name)) for name in ("before", "grads", "after")}
        theirs = {name: getattr(pair, name) for name in ("before", "grads", "after")}
        row, found = [0.0, 0.0, 0.0], []
        for path in paths:
            before = [side["before"][path] for side in (mine, theirs)]
            if before[0].shape != before[1].shape:
                raise RecordingError(
                    f"{path} has shape {before[0].shape} in the first and {before[1].shape} in the "
                    "second; --map torch:flax (or a file) brings layouts together"
                )
            far, units = _largest(*before)
            row[0] = max(row[0], far)
            if far > self.tolerance:
                kind: Kind = "start" if self.last is None else "parameters"
                found.append((0, Apart(kind, step.number, path, far, units)))
            if path not in mine["grads"] or path not in theirs["grads"]:
                continue
            far, units = _largest(mine["grads"][path], theirs["grads"][path])
            row[1] = max(row[1], far)
            if far > self.tolerance:
                found.append((1, Apart("gradients", step.number, path, far, units)))
            rounding = _rounding(before[0])
            changes = [
                side["after"][path].values() - old.values()
                for side, old in zip((mine, theirs), before, strict=True)
            ]
            far = _norms(changes[0], changes[1], rounding)
            units = _largest(mine["after"][path], theirs["after"][path])[1]
            row[2] = max(row[2], far)
            if far > max(CHANGE, FOLLOWS * max(self.gradients, row[1])):
                found.append((2, Apart("optimizer", step.number, path, far, units)))
        self.gradients, self.last = max(self.gradients, row[1]), step.number
        rows.append(Row(step.number, *row))
        return min(found, key=lambda item: (item[0], -item[1].relative))[1] if found else None


def _largest(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest difference, relative to the largest element, and in ULP of that."""
    a, b = one.values(), other.values()
    if not a.size:
        return 0.0, 0.0
    size = float(numpy.nanmax(numpy.abs(b), initial=0.0))
    scale = numpy.full(a.shape, size if numpy.isfinite(size) else 0.0)
    widest = one.dtype if one.dtype == other.dtype else "float32"
    units = float(numpy.max(ulps(a, b, scale, widest)))
    with numpy.errstate(invalid="ignore"):
        apart = numpy.abs(a - b) / (size or 1.0)
    same = (a == b) | (numpy.isnan(a) & numpy.isnan(b))
    apart = numpy.where(same, 0.0, numpy.nan_to_num(apart, nan=numpy.inf))
    return float(numpy.max(apart)), units


def _norms(one: numpy.ndarray, other: numpy.ndarray, rounding: float) -> float:
    """How far two changes are apart, beside their norms; roundings of the parameter apart."""
    far = float(numpy.linalg.norm(one - other))
    size = float(numpy.linalg.norm(other)) or float(numpy.linalg.norm(one))
    return max(far - rounding, 0.0) / size if size else 0.0


def _rounding(before: Tensor) -> float:
    """The norm of one rounding of every element on either side."""
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}.get(before.dtype, 2.0**-7)
    return float(numpy.linalg.norm(before.values())) * eps


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


def _numbers(
    found: Against, step: Step, pair: Step, mapped: Callable[[Values], Values]
) -> Iterator[Apart]:
    """Numbers that differ for the first time, where both recordings know what they mean here."""
    del mapped
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
