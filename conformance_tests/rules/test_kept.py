"""The same steps whatever way a parameter is kept: its axes in another order, or in a stack."""

from __future__ import annotations

import numpy
import pytest

from samestep.parity import Trajectory, compare, record
from samestep.parity.backend import NumPy

LAYERS = record(seed=5, steps=8, shapes={"w": (6, 5, 4)})


def run(rule, trajectory, backend=None, dtype="float64"):
    backend = backend or NumPy()
    begun = backend.start(rule, trajectory.params, dtype)
    found = [backend.snapshot(begun)]
    for grads in trajectory.grads:
        begun.step(grads)
        found.append(backend.snapshot(begun))
    return found


def moved(trajectory, change):
    """A trajectory with every array changed."""
    return Trajectory(
        {path: change(array) for path, array in trajectory.params.items()},
        [{path: change(array) for path, array in grads.items()} for grads in trajectory.grads],
    )


def reads(setting):
    return setting.needs != "element"


@pytest.mark.only(where=lambda setting: "layout" in setting.hypers)
@pytest.mark.parametrize("shape", [(6, 4), (6, 5, 3, 3)], ids=["matrix", "convolution"])
def test_outputs_last_are_outputs_first_turned_around(setting, shape):
    first = record(seed=5, steps=8, shapes={"w": shape})
    last = moved(first, lambda array: numpy.moveaxis(array, 0, -1))
    found = run(setting.replace(layout="io"), last)
    back = [
        {key: numpy.moveaxis(a, -1, 0) if a.ndim else a for key, a in snapshot.items()}
        for snapshot in found
    ]
    expected = run(setting.replace(layout="oi"), first)
    assert compare(back, expected, "float64", whole=True).ulp < 1e4


def stack_of(trajectory, axes, shape):
    """The layers of a trajectory's only parameter as a stack with these batch axes."""
    sizes = [shape[axis] for axis in axes]
    count = int(numpy.prod(sizes))
    return moved(
        trajectory,
        lambda array: numpy.moveaxis(
            array[:count].reshape(*sizes, *array.shape[1:]), range(len(axes)), axes
        ),
    )


def layers_of(snapshot, axes, ndim):
    """The snapshots of the layers of a stack; batch axes of what has no other axes come first."""

    def layers(array):
        at = axes if array.ndim == ndim else range(len(axes))
        front = numpy.moveaxis(array, at, range(len(axes)))
        return front.reshape(-1, *front.shape[len(axes) :])

    return [
        dict(zip(snapshot, parts, strict=True))
        for parts in zip(*map(layers, snapshot.values()), strict=True)
    ]


@pytest.mark.only(where=lambda setting: reads(setting) and not setting.phases)
@pytest.mark.parametrize(
    ("axes", "shape"), [((0,), (3, 5, 4)), ((0, 2), (3, 5, 2, 4))], ids=["first", "two"]
)
def test_a_stack_steps_as_each_of_its_layers(setting, axes, shape):
    """To the last bit, state too."""
    stack = stack_of(LAYERS, axes, shape)
    found = run(setting.replace(batch_axes=axes), stack)
    apart = [layers_of(snapshot, axes, len(shape)) for snapshot in found]
    for at in range(len(apart[0])):
        alone = run(setting, moved(LAYERS, lambda array, at=at: array[at]))
        for step, (one, other) in enumerate(zip([rows[at] for rows in apart], alone, strict=True)):
            assert one.keys() == other.keys()
            for key, value in other.items():
                numpy.testing.assert_array_equal(one[key], value, err_msg=f"{key}, step {step}")
