"""What every rule promises as a value: copies, empty trees, and a step that keeps nothing else."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy

import samestep
from samestep.conformance.harness.settings import is_own, typical
from samestep.parity import compare, one_step, oracle, record
from samestep.parity.trajectory import suited


def test_rules_can_be_copied_pickled_and_shown(rule_class):
    rule = typical(rule_class)
    assert copy.deepcopy(rule) == rule == rule.replace()
    if is_own(rule_class):
        assert pickle.loads(pickle.dumps(rule)) == rule
        assert eval(repr(rule), vars(samestep)) == rule
    assert inspect.signature(rule_class) == rule_class.__signature__


def test_a_tree_without_parameters_is_stepped(rule_class):
    rule = typical(rule_class)
    state = rule.init({})
    assert rule.update({}, {}, state) == ({}, state._replace(step=1))


def test_no_array_of_the_callers_is_kept(rule_class):
    rule = typical(rule_class)
    param, grad = numpy.ones((4, 3)), numpy.full((4, 3), 0.5)
    state = rule.init(param)
    for _ in range(7):
        param, state = rule.update(grad, param, state)
    held = [
        a
        for value in state.slots.values()
        for a in (value if isinstance(value, tuple) else [value])
    ]
    assert not any(numpy.shares_memory(a, b) for a in held for b in (grad, param))


def test_one_step_of_the_oracle_is_a_step_of_the_rule(rule_class):
    rule = typical(rule_class)
    trajectory = suited(rule, record(seed=2, steps=7))
    snapshots = oracle(rule, trajectory)
    for step, grads in enumerate(trajectory.grads):
        found = one_step(rule, snapshots[step], grads, step)
        assert compare([found], [snapshots[step + 1]], "float64").first is None
