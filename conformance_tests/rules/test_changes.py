"""Steps as changes of the parameter: they land where the step does, and round by themselves."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.conformance.harness.agreement import BOUNDS
from samestep.conformance.harness.changes import changed
from samestep.conformance.harness.settings import typical
from samestep.parity import record, ulps
from samestep.parity.trajectory import suited
from samestep.vocabulary import Wrapper, choose
from samestep.weight_decay import FAMILIES

STEPS = 9
OFF = {"element": 4, "matrix": 256, "RAdam": 8}
"""ULP that a change may be off, where it is not the bound of a step. The Newton-Schulz iteration
amplifies the rounding of small singular values, which a parameter hides; RAdam's step changes its
form at a step."""


def trajectory(rule):
    """Gradients of either sign, and parameters around 64, where float32 has steps of 8e-6."""
    found = suited(rule, record(steps=STEPS))
    params = {path: numpy.asarray(64 + value) for path, value in found.params.items()}
    return params, found.grads


def slow(rule):
    """The rule with a step that is short next to the steps of the parameter.

    There is no decay, which might cancel the gradient. Scout follows by a rate that rounding does
    not change.
    """
    fixed = {"sync_rate": 0.9} if rule.name == "Scout" else {}
    return rule.replace(lr=1e-5, weight_decay=0.0, **fixed)


def lands_where_the_step_does(rule):
    params, gradients = trajectory(rule)
    state = rule.init(params)
    for grads in gradients:
        moves, after = changed(rule, grads, params, state)
        new, expected = rule.update(grads, params, state)
        for path, value in new.items():
            numpy.testing.assert_allclose(params[path] + moves[path], value, rtol=1e-14, atol=1e-14)
        assert after.step == expected.step and repr(after.shared) == repr(expected.shared)
        for name, slot in expected.slots.items():
            numpy.testing.assert_equal(after.slots[name], slot)
        params, state = new, expected


def test_a_change_lands_where_the_step_does(rule_class):
    lands_where_the_step_does(typical(rule_class))


@pytest.mark.parametrize("decay", FAMILIES)
def test_a_change_has_the_decay_of_the_step(decay):
    lands_where_the_step_does(samestep.Adam(lr=0.1, weight_decay=0.3, peak_lr=0.5, decay=decay))


@pytest.mark.thorough
def test_a_change_lands_where_the_step_does_in_every_setting(setting):
    lands_where_the_step_does(setting)


def test_a_change_has_its_own_precision(rule_class):
    """In ULP of the largest change that the element has had; of the array's, of a matrix."""
    rule = slow(typical(rule_class))
    most = OFF.get(rule.name, OFF.get(rule.needs, BOUNDS[rule.needs] * rule.amplifies))
    params, gradients = trajectory(rule)
    params = {path: value.astype("float32") for path, value in params.items()}
    state = rule.init(params)
    largest = {path: numpy.zeros(value.shape) for path, value in params.items()}
    for grads in gradients:
        narrow = {path: grad.astype("float32") for path, grad in grads.items()}
        moves, after = changed(rule, narrow, params, state)
        wide_params, wide_state = wide((params, state))
        exact, _ = changed(rule, wide(narrow), wide_params, wide_state)
        for path, expected in exact.items():
            assert moves[path].dtype == numpy.float32
            size = numpy.abs(expected)
            size = size.max(initial=0) if rule.needs == "matrix" else size
            largest[path] = numpy.maximum(largest[path], size)
            off = ulps(numpy.asarray(moves[path], float), expected, largest[path], "float32")
            assert off.max(initial=0) <= most, path
        params, _ = rule.update(narrow, params, state)
        state = after


@pytest.mark.parametrize("decay", FAMILIES)
def test_a_decay_has_its_own_precision(decay):
    rule = samestep.Adam(lr=1e-5, weight_decay=0.03, peak_lr=2e-5, decay=decay)
    grads, params = {"w": numpy.asarray([0.1, 1.0], "float32")}, {"w": numpy.full(2, 64, "float32")}
    found, _ = changed(rule, grads, params, rule.init(params))
    exact, _ = changed(rule, wide(grads), wide(params), rule.init(wide(params)))
    assert ulps(found["w"].astype(float), exact["w"], exact["w"], "float32").max() <= 4


def wide(values):
    """Arrays, in dicts and tuples, in float64."""
    if isinstance(values, dict):
        return {name: wide(value) for name, value in values.items()}
    if hasattr(values, "_fields"):
        return type(values)(*map(wide, values))
    if isinstance(values, (tuple, list)):
        return tuple(map(wide, values))
    return values.astype("float64") if hasattr(values, "astype") else values


class Halfway(Wrapper, register=False):
    """A wrapper that says only where its step leads."""

    def step(self, xp, grad, param, state, s):
        new, slots = super().step(xp, grad, param, state, s)
        return param + 0.5 * (new - param), slots


class Stubborn(samestep.Lookahead, register=False):
    """Another's wrapper, whose step leads elsewhere."""

    def step(self, xp, grad, param, state, s):
        new, slots = super().step(xp, grad, param, state, s)
        return choose(xp, s.sync, param, new), slots


class Shrinking(samestep.AdamW, register=False):
    """A rule that descends in its own way."""

    def descended(self, param, direction, s):
        return 0.5 * super().descended(param, direction, s)


@pytest.mark.parametrize("outer", [None, samestep.Average, samestep.SkipNonFinite])
@pytest.mark.parametrize("kind", [Halfway, Stubborn, Shrinking])
def test_a_class_that_says_only_where_a_step_leads_has_its_change(kind, outer):
    rule = kind(lr=0.1) if kind is Shrinking else kind(samestep.AdamW(lr=0.1))
    if kind is Stubborn:
        rule = rule.replace(sync_period=2)
    lands_where_the_step_does(rule if outer is None else outer(rule))
