"""The same steps whatever way a parameter is kept: its axes in another order, or in a stack."""

from __future__ import annotations

import numpy
import pytest

from samestep.conformance.harness.parametrized import chosen
from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.conformance.harness.stacks import LAYERS, layers_of, moved, run, stack_of
from samestep.kept import saying
from samestep.parity import Trajectory, record
from samestep.parity.backend import NUMPY

WIDE = record(seed=5, steps=2, shapes={"w": (6, 19, 13)})
"""Layers with sums that are long enough for their order to show."""
AXES, SHAPE = (0, 2), (3, 19, 2, 13)
"""Batch axes and shape of such a stack: layers and heads."""


def alone(rule, axes, shape, layers=LAYERS, backend=NUMPY, dtype="float64"):
    """Every layer of a stack by itself, and the stack: snapshots by layer and step.

    Numbers are one after another in memory, as libraries keep them.
    """
    stack = moved(stack_of(layers, axes, shape), numpy.ascontiguousarray)
    found = run(saying(rule, {"batch_axes": axes}), stack, backend, dtype)
    apart = [layers_of(snapshot, axes, len(shape)) for snapshot in found]
    for at in range(len(apart[0])):
        layer = moved(layers, lambda array, at=at: array[at])
        yield [rows[at] for rows in apart], run(rule, layer, backend, dtype)


def assert_outputs_last_are_first_turned_around(rule, shape):
    first = record(seed=5, steps=8, shapes={"w": shape})
    last = moved(first, lambda array: numpy.moveaxis(array, 0, -1))
    back = [
        {key: numpy.moveaxis(a, -1, 0) if a.ndim else a for key, a in snapshot.items()}
        for snapshot in run(saying(rule, {"layout": f"i{'x' * (len(shape) - 2)}o"}), last)
    ]
    expected = run(saying(rule, {"layout": "oi"}), first)
    near = 1e-9 if rule.needs == "factored" else 0  # whose axes are not turned
    for one, other in zip(back, expected, strict=True):
        for (slot, _), value in other.items():
            name = slot.partition(".")[0]  # the two means of a matrix are in the order of its axes
            parts = (a for (own, _), a in one.items() if own.partition(".")[0] == name)
            found = next(part for part in parts if part.shape == value.shape)
            numpy.testing.assert_allclose(found, value, near, near * 1e-6, err_msg=slot)


def assert_a_stack_is_its_layers(rule, axes, shape, *where):
    for found, expected in alone(rule, axes, shape, *where):
        for step, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert one.keys() == other.keys()
            for key, value in other.items():
                numpy.testing.assert_array_equal(one[key], value, err_msg=f"{key}, step {step}")


def sees_outputs(rule):
    return "layout" in rule.hypers


def sees_a_parameter(rule):
    """Whether a rule reads more than an element, and nothing of other parameters."""
    return rule.needs != "element" and not rule.phases


@pytest.mark.only(where=sees_outputs)
def test_outputs_last_are_outputs_first_turned_around(rule_class):
    assert_outputs_last_are_first_turned_around(typical(rule_class), (6, 5, 3, 3))


@pytest.mark.thorough
@pytest.mark.only(where=sees_outputs)
@pytest.mark.parametrize("shape", [(6, 4), (6, 5, 3, 3)], ids=["matrix", "convolution"])
def test_outputs_last_are_outputs_first_with_every_option(setting, shape):
    assert_outputs_last_are_first_turned_around(setting, shape)


@pytest.mark.only(where=lambda rule: rule.axes_alike)
def test_axes_that_are_read_alike_may_change_places(rule_class):
    """So no layout makes a difference, and none is asked for."""
    rule, order = typical(rule_class), (2, 0, 1)
    other = run(rule, moved(LAYERS, lambda array: array.transpose(order)))[-1]["param", "w"]
    expected = run(rule, LAYERS)[-1]["param", "w"].transpose(order)
    numpy.testing.assert_allclose(other, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.only(where=sees_a_parameter)
def test_a_stack_steps_as_each_of_its_layers(rule_class):
    """To the last bit, state too; layers and heads are stacked along two axes."""
    assert_a_stack_is_its_layers(typical(rule_class), AXES, SHAPE, WIDE)


def in_reference():
    """A rule with a norm and one of matrices in each library; the other rules are thorough."""
    for rule in all_rules():
        if is_own(rule) and sees_a_parameter(typical(rule)):
            marks = () if rule.__name__ in ("LAMB", "Muon") else pytest.mark.thorough
            for backend in chosen():
                if backend.name == backend.library != "numpy":
                    name = f"{rule.__name__}-{backend.name}"
                    yield pytest.param(rule, backend, id=name, marks=marks)


@pytest.mark.parametrize(("rule", "library"), [*in_reference()])
def test_a_stack_steps_as_each_of_its_layers_in_every_reference_execution(rule, library):
    """To the last bit; the outputs of a layer are last, so that it is turned around."""
    layout = {"layout": "io"} if sees_outputs(typical(rule)) else {}
    kept = typical(rule, **layout)
    assert_a_stack_is_its_layers(kept, AXES, SHAPE, WIDE, library, "float32")


@pytest.mark.thorough
@pytest.mark.only(where=sees_a_parameter)
@pytest.mark.parametrize("axes", [(0,), (1,)], ids=str)
def test_a_stack_steps_as_each_of_its_layers_with_every_option(setting, axes):
    assert_a_stack_is_its_layers(setting, axes, (5, 5, 4))


@pytest.mark.only(where=lambda rule: rule.phases and not sees_outputs(rule))
def test_the_layers_of_a_stack_are_summed_over_once(rule_class):
    """A rule that sums over a tree sees the layers as the parameters of a tree."""
    rule = typical(rule_class)
    found = run(rule.replace(batch_axes=0) if "batch_axes" in rule.hypers else rule, LAYERS)
    tree = Trajectory(
        {str(at): layer for at, layer in enumerate(LAYERS.params["w"])},
        [{str(at): g for at, g in enumerate(grads["w"])} for grads in LAYERS.grads],
    )
    expected = run(rule, tree)
    for ours, theirs in zip(found, expected, strict=True):
        for slot, path in {key for key in ours if key[1]}:
            layers = numpy.stack([theirs[slot, str(at)] for at in range(6)])
            numpy.testing.assert_allclose(ours[slot, path], layers, rtol=1e-9, atol=1e-12)


@pytest.mark.only(where=lambda rule: rule.needs != "element" and rule.continuous)
def test_a_stack_takes_the_same_steps_everywhere(rule_class, backend):
    """Its outputs last, too; in float32, beside NumPy in float64, whose last bits turn no sign."""
    rule = typical(rule_class).replace(batch_axes=1)
    stack = stack_of(LAYERS, (1,), (5, 3, 4)).rounded("float32")
    for layout in ("io", "oi") if sees_outputs(rule) else (None,):
        kept = rule if layout is None else rule.replace(layout=layout)
        found, expected = run(kept, stack, backend, "float32"), run(kept, stack)
        for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            for key, value in theirs.items():
                size = numpy.max(numpy.abs(value), initial=1e-6)
                numpy.testing.assert_allclose(
                    ours[key], value, rtol=1e-4, atol=1e-4 * size, err_msg=f"{key}, step {step}"
                )
