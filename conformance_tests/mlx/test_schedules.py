"""Numbers that change: schedules, and a learning rate that is set."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx import optimizers, utils

import samestep
import samestep.mlx as adapter
from samestep import schedules
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.mlx_trees import assert_close, assert_equal, flat
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical

KINDS = ["AdamW", "SM3", "LAMB", "Adafactor", "Muon", "Prodigy", "Lookahead"]
"""A rule of every kind: by element, axis, norm, factor, matrix, over all parameters, a wrapper."""


SHAPES = {"w": (4, 3), "u": (2, 3)}


def gradients(t):
    random = np.random.default_rng(t)
    return {p: mx.array(random.standard_normal(s).astype("f")) for p, s in SHAPES.items()}


def stepped(optimizer, params, steps):
    for t in steps:
        params = optimizer.apply_gradients(gradients(t), params)
    return params


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_a_schedule_is_the_number_set_before_every_step(name, compiled):
    """Of every number at once, and a pair of them too; traced once where the step is compiled."""
    rule, traces, steps = typical(getattr(samestep, name)), [], 6
    numbers = {
        field: value
        for field, value in rule.hypers.items()
        if isinstance(value, float) and 0 < value < float("inf") and field in fields(rule)
    }
    assert numbers
    lines = {n: schedules.Linear(0.875 * value, value, steps) for n, value in numbers.items()}
    if "betas" in rule.hypers:
        lines["betas"] = tuple(schedules.Linear(0.5 * b, b, steps) for b in rule.hypers["betas"])
    scheduled, by_hand = (
        adapter.bind(each, execution="reference") for each in (rule.replace(**lines), rule)
    )
    ours = theirs = {path: mx.ones(shape) for path, shape in SHAPES.items()}
    scheduled.init(ours)
    run = scheduled.apply_gradients

    def step(grads, params):
        traces.append(1)
        return scheduled.apply_gradients(grads, params)

    if compiled:
        run = mx.compile(step, inputs=scheduled.state, outputs=scheduled.state)
    inside = getattr(rule, "steps_inside", lambda step: step)
    for t in range(steps):
        for field, line in lines.items():
            at = t if field in type(rule).fields() else inside(t)
            now = tuple(part(at) for part in line) if isinstance(line, tuple) else line(at)
            setattr(by_hand, field, now)
        ours = run(gradients(t), ours)
        mx.eval(ours, scheduled.state)
        theirs = by_hand.apply_gradients(gradients(t), theirs)
        if compiled:  # its numbers are float32
            assert_close(ours, theirs, 2e-5)
        else:
            assert_equal(ours, theirs)
    assert len(traces) == compiled


def fields(rule):
    """The fields that may be scheduled."""
    return {n for n, f in rule.all_fields().items() if hasattr(f, "unit")}


SCHEDULES = {
    "cosine": optimizers.cosine_decay(0.5, 5),
    "joined": optimizers.join_schedules(
        [optimizers.linear_schedule(0.125, 0.5, 2), optimizers.step_decay(0.5, 0.25, 1)], [2]
    ),
    "python": lambda step: 0.5 / (1 + step),
}


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", each_rule())
def test_a_schedule_is_called_with_the_steps_taken_so_far(name, kind):
    rule, schedule = build(name), SCHEDULES[kind]
    scheduled, manual = made(adapter, rule.replace(lr=schedule)), made(adapter, rule)
    params = same = {path: mx.ones(shape) for path, shape in SHAPES.items()}
    steps_inside = getattr(rule, "steps_inside", lambda step: step)
    rates = [float(schedule(steps_inside(t))) for t in range(5)]
    assert scheduled.learning_rate.item() == np.float32(rates[0]) and len(set(rates)) > 1
    for t, rate in enumerate(rates):
        manual.learning_rate = rate
        params, same = stepped(scheduled, params, [t]), stepped(manual, same, [t])
        assert_equal(params, same)


@pytest.mark.parametrize("name", each_rule())
def test_setting_the_learning_rate_is_building_with_it(name):
    rule = build(name)
    a, b, c = made(adapter, rule), made(adapter, rule.replace(lr=0.3)), made(adapter, rule)
    assert a.learning_rate.item() == np.float32(rule.hypers["lr"])
    a.learning_rate = c.lr = 0.3
    assert a.learning_rate.item() == np.float32(0.3) and a.lr == 0.3
    params = {path: mx.ones(shape) for path, shape in SHAPES.items()}
    results = [stepped(optimizer, params, range(3)) for optimizer in (a, b, c)]
    assert_equal(results[0], results[1])
    assert_equal(results[2], results[1])


def test_a_loaded_learning_rate_is_kept_beside_float64_parameters():
    optimizer, params = adapter.SGD(lr=1e-3), {"w": mx.array([1.0]).astype(mx.float64)}
    optimizer.state = {"step": mx.array(0, mx.uint64), "learning_rate": mx.array(0.5)}
    new = optimizer.apply_gradients({"w": mx.array([1.0]).astype(mx.float64)}, params)
    assert new["w"].item() == 0.5 and optimizer.learning_rate.item() == 0.5


def test_a_loaded_learning_rate_is_the_exact_one():
    for lr in np.linspace(0.1, 0.9, 400):
        rule = samestep.AdamW(lr=float(lr), weight_decay=0.7)
        a, b = made(adapter, rule), made(adapter, rule)
        params = {"w": mx.array([1.0, 3.0])}
        a.init(params)
        b.state = utils.tree_unflatten(list(flat(a.state).items()))
        grads = {"w": mx.array([0.0, 0.0])}
        assert_equal(a.apply_gradients(grads, params), b.apply_gradients(grads, params))


def test_hyperparameters_are_attributes():
    a, b = adapter.AdamW(), adapter.AdamW(betas=(0.5, 0.75), weight_decay=0.5)
    assert (a.betas, a.eps) == ((0.9, 0.999), 1e-8)
    a.betas, a.weight_decay = (0.5, 0.75), 0.5
    params, grads = {"w": mx.array([1.0, -2.0])}, {"w": mx.array([0.5, 0.25])}
    assert_equal(a.apply_gradients(grads, params), b.apply_gradients(grads, params))
    for name, value in [("betas", (0.5, 1.5)), ("lr", -1.0), ("learning_rate", -1.0)]:
        with pytest.raises(ValueError, match="AdamW"):
            setattr(a, name, value)
    assert a.betas == (0.5, 0.75) and a.lr == 1e-3
    with pytest.raises(AttributeError, match="momentum"):
        _ = a.momentum


@pytest.mark.parametrize("value", [-1.0, float("nan"), True])
def test_an_array_for_a_number_is_held_to_the_range(value):
    with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be "):
        adapter.AdamW(lr=mx.array(value))
    optimizer = adapter.AdamW()
    with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be "):
        optimizer.learning_rate = mx.array(value)


def test_a_learning_rate_of_few_digits_is_refused():
    optimizer, params = samestep.mlx.AdamW(), {p: mx.ones(s) for p, s in SHAPES.items()}
    optimizer.init(params)
    number = mx.array(0.1, mx.bfloat16)
    with pytest.raises(ValueError, match="lr must be a number of Python, or of float32 or float64"):
        optimizer.learning_rate = number
    optimizer.state["learning_rate"] = number
    with pytest.raises(ValueError, match="lr must be a number of Python, or of float32 or float64"):
        optimizer.apply_gradients(gradients(0), params)
