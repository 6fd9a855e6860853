"""The trajectories and the reference that a rule is compared with, and the allowed difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy

from samestep.parity import Divergence, Trajectory, compare, oracle, record
from samestep.parity.backend import Snapshot
from samestep.parity.trajectory import SHAPES, suited
from samestep.rule import Rule

__all__ = [
    "ROUNDING",
    "TRAJECTORIES",
    "allowed",
    "apart",
    "late",
    "recorded",
    "sensitivity",
    "steady",
]

ROUNDINGS = 32
"""Operations in a step, about, each of which rounds."""

ROUNDING = 2e4
"""ULP of float64 over 200 steps; two orders of the same sums differ by about 1e-12."""

Shapes = Mapping[str, tuple[int, ...]]
Follow = Callable[[Rule, Trajectory], list[Snapshot]]


def recorded(rule: Rule, steps: int = 120, shapes: Shapes = SHAPES) -> Trajectory:
    """Gradients of the parameters that a rule takes; where it skips bad ones there are some."""
    trajectory = suited(rule, record(seed=1, steps=steps, shapes=shapes))
    trajectory = trajectory.taken({path for path, p in trajectory.params.items() if p.size})
    return _spoilt(trajectory) if "skipped" in rule.shared() else trajectory


def late(rule: Rule, steps: int = 12, shapes: Shapes = SHAPES) -> Trajectory:
    """One parameter starts at zero, and the first two gradients are zero.

    No ratio has a size to divide by then, and no average has anything in it.
    """
    given = recorded(rule, steps, shapes)
    still = {path: value * (path != "twin") for path, value in given.params.items()}
    grads = [{path: g * (t > 2) for path, g in step.items()} for t, step in enumerate(given.grads)]
    return Trajectory(still, grads)


def steady(rule: Rule, steps: int = 12, shapes: Shapes = SHAPES) -> Trajectory:
    """Gradients that keep their directions and grow, so that a rule which may speed up does."""
    given = recorded(rule, steps, shapes)
    first = {path: numpy.nan_to_num(grad) for path, grad in given.grads[0].items()}
    grads = [{path: g * (1 + t / 8) for path, g in first.items()} for t in range(steps)]
    return Trajectory(given.params, grads)


TRAJECTORIES = (recorded, late, steady)


def apart(rule: Rule, ours: list[Snapshot], theirs: list[Snapshot]) -> Divergence:
    """How two runs of a rule differ, in ULP of float64."""
    return compare(ours, theirs, "float64", whole=rule.needs == "matrix")


def allowed(rule: Rule, trajectory: Trajectory) -> float:
    """The ULP by which a rule may differ from its reference."""
    return max(ROUNDING, 16 * sensitivity(rule, trajectory))


def sensitivity(rule: Rule, trajectory: Trajectory, follow: Follow = oracle) -> float:
    """ULP that the rule moves by if its parameters and gradients are rounded a little otherwise.

    ``follow`` computes the rule: by default the rule itself, else its reference.

    Where decay nearly cancels a gradient, or a cosine nearly reaches its threshold, the last bits
    decide; no two implementations agree further than that.
    """
    random = numpy.random.default_rng(0)

    def otherwise(arrays: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
        return {
            path: array
            * (1 + ROUNDINGS * numpy.finfo(float).eps * random.choice([-1, 1], array.shape))
            for path, array in arrays.items()
        }

    start = otherwise(trajectory.params)
    moved = follow(rule, Trajectory(start, [otherwise(step) for step in trajectory.grads]))
    return compare(follow(rule, trajectory), moved, "float64").ulp


def _spoilt(trajectory: Trajectory) -> Trajectory:
    """Some steps with one element that is not finite."""
    grads = [dict(step) for step in trajectory.grads]
    for step, bad in ((4, numpy.nan), (5, numpy.inf), (9, -numpy.inf)):
        if step < len(grads):
            path = list(trajectory.params)[step % len(trajectory.params)]
            grads[step][path] = numpy.array(grads[step][path])
            grads[step][path].flat[-1] = bad
    return Trajectory(trajectory.params, grads)
