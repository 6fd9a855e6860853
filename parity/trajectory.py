"""Recorded trajectories: the parameters to start from and the gradients of every step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import is_

import numpy

from samestep.kept import as_seen, said
from samestep.rule import Rule

from .ulp import rounded

__all__ = ["SHAPES", "Trajectory", "as_recorded", "record", "suited"]

SHAPES: Mapping[str, tuple[int, ...]] = {
    "scalar": (),
    "single": (1,),
    "empty": (0, 3),
    "bias": (33,),
    "matrix": (16, 9),
    "twin": (16, 9),
    "kernel": (6, 5, 3, 3),
}


@dataclass(frozen=True)
class Trajectory:
    """Starting parameters by path, and one dict of gradients per step; float64 arrays."""

    params: dict[str, numpy.ndarray]
    grads: list[dict[str, numpy.ndarray]]

    def rounded(self, dtype: str) -> Trajectory:
        """The same trajectory with values that ``dtype`` holds exactly."""
        return Trajectory(
            {path: rounded(array, dtype) for path, array in self.params.items()},
            [{path: rounded(g, dtype) for path, g in step.items()} for step in self.grads],
        )

    def taken(self, paths: Collection[str], steps: int | None = None) -> Trajectory:
        """The trajectory of some parameters, for the first steps."""
        return Trajectory(
            {path: array for path, array in self.params.items() if path in paths},
            [{path: g for path, g in step.items() if path in paths} for step in self.grads[:steps]],
        )


def record(
    seed: int = 0,
    steps: int = 200,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    decades: tuple[float, float] = (-5.0, 1.0),
) -> Trajectory:
    """A trajectory that tells rules apart.

    Gradients change sign from step to step and span decades: each element has a scale of its own,
    and so has each step. They hold exact zeros: one element in ten at random, one element always,
    and one whole step if there are several. Parameters start at sizes from 1e-3 to 1, some at zero.
    The first gradients have the signs of the parameters, so that coupled decay adds to them.
    Otherwise the first step could be a difference of nearly equal numbers, whose relative error
    says nothing.

    Args:
        seed: seed of the random generator.
        steps: number of steps.
        shapes: shapes of the parameters, by path.
        decades: the range of log10 of a gradient's size.
    """
    random = numpy.random.default_rng(seed)
    low, high = decades
    params, scales = {}, {}
    for path, shape in shapes.items():
        params[path] = random.normal(size=shape) * 10 ** random.uniform(-3, 0, shape)
        params[path] = numpy.where(random.uniform(size=shape) < 0.05, 0.0, params[path])
        scales[path] = random.uniform(low + 1, high - 1, shape)
    grads = []
    for step in range(steps):
        drift = random.uniform(-1, 1)
        grads.append(
            {
                path: _gradient(random, shape, scales[path] + drift, zero=0 < step == steps // 2)
                for path, shape in shapes.items()
            }
        )
    for path, first in (grads[0] if grads else {}).items():
        grads[0][path] = numpy.copysign(first, params[path])
    return Trajectory(params, grads)


def _gradient(
    random: numpy.random.Generator, shape: tuple[int, ...], decade: numpy.ndarray, zero: bool
) -> numpy.ndarray:
    gradient = numpy.asarray(random.normal(size=shape) * 10.0**decade)
    gradient[random.uniform(size=shape) < 0.1] = 0.0
    if gradient.ndim and gradient.size > 1:
        gradient.flat[0] = 0.0
    return gradient * (not zero)


def as_recorded(rule: Rule) -> Rule:
    """The rule for recorded parameters, kept as it sees them where it says nothing."""
    inside = tuple(map(as_recorded, rule.inside))
    own = as_seen(rule) if "layout" in rule.fields() else {}
    new = {n: v for n, v in own.items() if said(rule, n) is None}
    if not new and all(map(is_, inside, rule.inside)):
        return rule
    return rule._copy({**rule._values, **new}, inside)


def suited(rule: Rule, trajectory: Trajectory) -> Trajectory:
    """The part of a trajectory whose parameters the rule takes."""
    return trajectory.taken(
        {path for path, array in trajectory.params.items() if array.ndim >= rule.min_ndim}
    )
