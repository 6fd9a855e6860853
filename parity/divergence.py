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
    scales: Snapshot = {}
    for step, (ours, theirs, old) in enumerate(zip(actual, expected, before, strict=True)):
        if ours.keys() != theirs.keys():
            raise ValueError(f"step {step}: the runs hold {sorted(ours)} and {sorted(theirs)}")
        found.growth.append(0.0)
        for key in ours:
            size = numpy.fmax(numpy.abs(theirs[key]), numpy.abs(theirs[key] - old[key]))
            if whole and size.size:
                size = numpy.full_like(size, numpy.fmax.reduce(size, axis=None))
            scales[key] = numpy.fmax(size, scales.get(key, 0.0))
        for slot, path in ours:
            if slot in alike:
                scales[slot, path] = numpy.fmax(scales[slot, path], scales["param", path])
        for key, value in ours.items():
            _note(found, step, key, value, theirs[key], scales[key], dtype)
            found.curves.setdefault(key, []).append(_relative(value, theirs[key], scales[key]))
    return found


def _relative(actual: numpy.ndarray, expected: numpy.ndarray, scale: numpy.ndarray) -> float:
    """The largest difference, relative to the size of its element; infinite if one side is NaN."""
    with numpy.errstate(invalid="ignore"):
        apart = numpy.abs(actual - expected) / numpy.where(scale == 0, 1.0, scale)
    apart = numpy.where(
        (actual == expected) | (numpy.isnan(actual) & numpy.isnan(expected)), 0, apart
    )
    return float(numpy.max(numpy.nan_to_num(apart, nan=numpy.inf), initial=0.0))


def _note(
    found: Divergence,
    step: int,
    key: tuple[str, str],
    actual: numpy.ndarray,
    expected: numpy.ndarray,
    scale: numpy.ndarray,
    dtype: str,
) -> None:
    if numpy.array_equal(actual, expected, equal_nan=True):
        return
    distance = ulps(actual, expected, scale, dtype)
    worst = numpy.unravel_index(int(numpy.argmax(distance)), distance.shape)
    ulp = float(distance[worst])
    if ulp == 0:
        return
    size = float(scale[worst]) or 1.0
    difference = Difference(step, *key, ulp, float(abs(actual[worst] - expected[worst])) / size)
    found.growth[-1] = max(found.growth[-1], ulp)
    found.first = found.first or difference
    if key[0] not in found.worst or ulp > found.worst[key[0]].ulp:
        found.worst[key[0]] = difference
