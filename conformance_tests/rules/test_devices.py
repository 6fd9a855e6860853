"""Parameters on several devices: array-api-strict has some, and refuses to mix what is on them."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.arrays import parts
from samestep.conformance.harness.settings import typical

strict = pytest.importorskip("array_api_strict")
devices = [strict.Device("device1"), strict.Device("device2")]
SHAPES = {"a": (4, 3), "b": (2, 3), "c": (3, 4), "d": (2, 2)}


def given(seed, several, shapes=SHAPES):
    """Numbers on one device, or in turn on two."""
    random = numpy.random.default_rng(seed)
    return {
        name: strict.asarray(random.normal(size=shape), device=devices[place % (1 + several)])
        for place, (name, shape) in enumerate(shapes.items())
    }


def read(value):
    away = hasattr(value, "to_device")  # a count of missed calls is a number
    return numpy.asarray(value.to_device(strict.Device("CPU_DEVICE")) if away else value)


def trained(rule, several, missing=()):
    """Parameters and state after steps, of which one has a gradient that is no number."""
    params = given(0, several)
    state = rule.init(params)
    for step in range(4):
        grads = {n: g for n, g in given(1 + step, several).items() if step % 2 or n not in missing}
        if step == 2:
            grads["b"] = grads["b"] * strict.asarray(numpy.nan, device=grads["b"].device)
        params, state = rule.update(grads, params, state)
    return params, state


def leaves(params, state):
    found = [*params.values(), *state.shared.values()]
    slots = [value for tree in state.slots.values() for value in tree.values()]
    return [*found, *(part for value in slots for part in parts(value))]


@pytest.mark.parametrize("missing", [(), ("a", "d")])
def test_parameters_on_two_devices_step_as_on_one(rule_class, missing):
    """To the last bit: sums meet on one device, in the order of the parameters."""
    rule = typical(rule_class)
    one, two = (trained(rule, several, missing) for several in (False, True))
    there = {name: devices[place % 2] for place, name in enumerate(SHAPES)}
    for tree in (two[0], *two[1].slots.values()):
        for name, value in tree.items():
            assert {part.device for part in parts(value)} <= {there[name]}
    for here, other in zip(leaves(*one), leaves(*two), strict=True):
        numpy.testing.assert_array_equal(*map(read, (here, other)))


@pytest.mark.parametrize("rule", [samestep.AdamW, samestep.Prodigy])
def test_a_number_on_another_device_is_that_number(rule):
    """It comes to the parameters, which are on one device or on two."""
    for several in (False, True):
        numbers = [strict.asarray(0.1, dtype=strict.float64, device=place) for place in devices]
        one, two = (trained(rule(lr=number), several) for number in numbers)
        for here, other in zip(leaves(*one), leaves(*two), strict=True):
            assert here.device == other.device
            numpy.testing.assert_array_equal(*map(read, (here, other)))


def test_gradients_on_two_devices_are_clipped_as_on_one():
    one, two = (samestep.clip_grads(given(0, several), 0.1) for several in (False, True))
    for name, clipped in two.items():
        assert clipped.device == given(0, True)[name].device
        numpy.testing.assert_array_equal(read(clipped), read(one[name]))


def test_what_all_share_comes_to_a_device_once(monkeypatch):
    """One copy of the sums to the first device, and one of the result and of d to each other."""
    sent = []
    own = type(strict.asarray(0.0)).to_device
    monkeypatch.setattr(
        type(strict.asarray(0.0)),
        "to_device",
        lambda array, device, **more: sent.append(array.shape) or own(array, device, **more),
    )
    for rule, most in ((samestep.ClipGlobalNorm(samestep.SGD(lr=0.1)), 2), (samestep.Prodigy(), 3)):
        copies = []
        for count in (4, 40):
            shapes = {f"{place:02}": (3, 2) for place in range(count)}
            params = given(0, True, shapes)
            state = rule.init(params)
            sent.clear()
            rule.update(given(1, True, shapes), params, state)
            copies.append(len(sent))
        assert copies[0] == copies[1] <= most, (rule, copies)
