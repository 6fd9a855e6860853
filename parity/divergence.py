"""How two runs differ: the first step and slot, the largest difference, and its growth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy

from .backend import Snapshot
from .ulp import ulps

__all__ = ["Difference", "Divergence", "compare"]


@dataclass(frozen=True)
class Difference:
    """The largest difference within one array after one step.

    ``ulp`` counts in ULP of the larger of value and change; ``relative`` is relative to that.
    """

    step: int
    slot: str
    path: str
    ulp: float
    relative: float

    def __str__(self) -> str:
        where = f"{self.slot} of {self.path}" if self.path else self.slot
        return f"step {self.step}: {where} differs by {self.ulp:.3g} ULP ({self.relative:.2g})"


@dataclass
class Divergence:
    """How two runs differ, step by step."""

    growth: list[float] = field(default_factory=list)
    """The largest difference after each step, in ULP; the start comes first."""
    first: Difference | None = None
    """The first difference of all; ``None`` if the runs are equal to the last bit."""
    worst: dict[str, Difference] = field(default_factory=dict)
    """The largest difference of each slot."""
    curves: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """The largest relative difference in each array, by slot and path, after each step."""

    @property
    def ulp(self) -> float:
        """The largest difference of all."""
        return max(self.growth, default=0.0)


def compare(
    actual: Sequence[Snapshot],
    expected: Sequence[Snapshot],
    dtype: str,
    before: Sequence[Snapshot] | None = None,
    *,
    whole: bool = False,
    alike: Collection[str] = (),
) -> Divergence:
    """How a run differs from the expected run, such as the oracle's.

    Differences are counted in ULP of the largest size that an element, or its change in a step,
    has had so far, since an error made while it was large stays.

    Args:
        actual, expected: snapshots, one per step.
        dtype: the format whose ULP are counted.
        before: what ``expected`` came from in each step; by default the expected snapshot before.
        whole: take the size of the whole array for that of every element, as fits matrix rules,
            where each element of a product gathers errors of all the others.
        alike: slots with values of parameters, such as slow weights, in ULP of the parameter.
    """
    found = Divergence()
    before = before or [expected[0], *expected[:-1]]
    steps: dict[tuple[str, str], list[int]] = {}
    for step, (ours, theirs, _) in enumerate(zip(actual, expected, before, strict=True)):
        if ours.keys() != theirs.keys():
            raise ValueError(f"step {step}: the runs hold {sorted(ours)} and {sorted(theirs)}")
        for key in ours:
            steps.setdefault(key, []).append(step)
    runs = {
        key: [numpy.stack([rows[step][key] for step in at]) for rows in (actual, expected, before)]
        for key, at in steps.items()
    }
    scales = {key: _sizes(theirs, old, whole) for key, (_, theirs, old) in runs.items()}
    for (slot, path), at in steps.items():
        if slot in alike:
            of_param = scales["param", path][numpy.searchsorted(steps["param", path], at)]
            scales[slot, path] = numpy.fmax(scales[slot, path], of_param)
    rows = {}
    for key, (run, wanted, _) in runs.items():
        found.curves[key] = _relative(run, wanted, scales[key])
        rows[key] = zip(*_largest(run, wanted, scales[key], dtype), strict=True)
    for step, snapshot in enumerate(actual):
        found.growth.append(0.0)
        for key in snapshot:
            ulp, relative = next(rows[key])
            if ulp > 0:
                _note(found, Difference(step, *key, ulp, relative))
    return found


def _sizes(theirs: numpy.ndarray, old: numpy.ndarray, whole: bool) -> numpy.ndarray:
    """The largest value or change so far, for runs whose first axis is the step."""
    size = numpy.fmax(numpy.abs(theirs), numpy.abs(theirs - old))
    if whole and size.size:
        axes = tuple(range(1, size.ndim))
        size = numpy.broadcast_to(numpy.fmax.reduce(size, axes, keepdims=True), size.shape)
    found: numpy.ndarray = numpy.fmax.accumulate(numpy.fmax(size, 0.0), axis=0)
    return found


def _relative(actual: numpy.ndarray, expected: numpy.ndarray, scale: numpy.ndarray) -> list[float]:
    """The largest difference of each step, relative to the size of its element.

    It is infinite if one side is NaN.
    """
    with numpy.errstate(invalid="ignore"):
        apart = numpy.abs(actual - expected) / numpy.where(scale == 0, 1.0, scale)
    apart = numpy.where(
        (actual == expected) | (numpy.isnan(actual) & numpy.isnan(expected)), 0, apart
    )
    by_step = numpy.nan_to_num(apart, nan=numpy.inf).reshape(len(apart), -1)
    found: list[float] = numpy.max(by_step, axis=1, initial=0.0).tolist()
    return found


def _largest(
    actual: numpy.ndarray, expected: numpy.ndarray, scale: numpy.ndarray, dtype: str
) -> tuple[list[float], list[float]]:
    """The largest difference of each step, in ULP and relative to its size."""
    count = len(actual)
    if actual.size == 0 or numpy.array_equal(actual, expected, equal_nan=True):
        return [0.0] * count, [0.0] * count
    distance = ulps(actual, expected, scale, dtype).reshape(count, -1)
    worst = numpy.arange(count), numpy.argmax(distance, axis=1)
    size = scale.reshape(count, -1)[worst]
    with numpy.errstate(invalid="ignore"):
        apart = numpy.abs((actual - expected).reshape(count, -1)[worst])
        relative = apart / numpy.where(size == 0, 1.0, size)
    return distance[worst].tolist(), relative.tolist()


def _note(found: Divergence, difference: Difference) -> None:
    slot, ulp = difference.slot, difference.ulp
    found.growth[-1] = max(found.growth[-1], ulp)
    found.first = found.first or difference
    if slot not in found.worst or ulp > found.worst[slot].ulp:
        found.worst[slot] = difference
