"""Stacks of parameters, and their layers one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy

from samestep.parity import Trajectory, follow, record
from samestep.parity.backend import NUMPY, Backend, Snapshot
from samestep.rule import Rule

__all__ = ["LAYERS", "layers_of", "moved", "run", "stack_of"]

Shape = tuple[int, ...]

LAYERS = record(seed=5, steps=8, shapes={"w": (6, 5, 4)})
"""A trajectory of a parameter whose first axis has layers."""


def run(
    rule: Rule, trajectory: Trajectory, backend: Backend = NUMPY, dtype: str = "float64"
) -> list[Snapshot]:
    """Snapshots of a rule on a backend, before the first step and after every step."""
    return follow(backend.start(rule, trajectory.params, dtype), backend, trajectory)


def moved(trajectory: Trajectory, change: Callable[[numpy.ndarray], numpy.ndarray]) -> Trajectory:
    """A trajectory with every array changed."""
    return Trajectory(
        {path: change(array) for path, array in trajectory.params.items()},
        [{path: change(array) for path, array in grads.items()} for grads in trajectory.grads],
    )


def stack_of(trajectory: Trajectory, axes: Shape, shape: Shape) -> Trajectory:
    """The first layers of a trajectory as a stack of this shape with these batch axes."""
    sizes = [shape[axis] for axis in axes]
    count = int(numpy.prod(sizes))

    def stack(array: numpy.ndarray) -> numpy.ndarray:
        layers = array[:count].reshape(*sizes, *array.shape[1:])
        return numpy.moveaxis(layers, range(len(axes)), axes)

    return moved(trajectory, stack)


def layers_of(snapshot: Snapshot, axes: Shape, ndim: int) -> list[Snapshot]:
    """The snapshots of the layers of a stack of ``ndim`` axes.

    The batch axes of an array with another number of axes come first.
    """

    def layers(array: numpy.ndarray) -> numpy.ndarray:
        at: Sequence[int] = axes if array.ndim == ndim else range(len(axes))
        front = numpy.moveaxis(array, at, range(len(axes)))
        return front.reshape(-1, *front.shape[len(axes) :])

    columns = [layers(value) for value in snapshot.values()]
    return [dict(zip(snapshot, parts, strict=True)) for parts in zip(*columns, strict=True)]
