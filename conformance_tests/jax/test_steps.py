"""The optax transformations under JAX's transformations.

Expected values are those of the rule, stepped by ``rule.update`` on arrays. ``update`` returns
differences, and ``jit`` contracts operations, so values are compared in ULP, per step, of the
largest value that parameter and update have in the array.
"""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.jax_trees import (
    KINDS,
    each_kind,
    each_single_kind,
    same,
    scaled,
    stepper,
    tree,
    types,
)
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.schedules import InverseTimeDecay

RULES = each_rule()
ULP = 2
AMPLIFIES = {"matrix": 8, "tree": 4}
"""The Newton-Schulz iteration amplifies rounding in small singular values; a step size that is
estimated grows by factors."""


class Pair(NamedTuple):
    """A node of a tree."""

    first: object
    second: object


def native(rule):
    """The class of the rule's name, with the rule's values."""
    return made(adapter, rule)


def nodes(rule, seed, dtype=jnp.float32):
    """A dict, a list, a tuple and a NamedTuple of arrays; gradients from different seeds."""
    rng, extra = np.random.default_rng(seed), (2, 2)[: rule.min_ndim]

    def array(*shape):
        return jnp.asarray(rng.standard_normal((*shape, *extra)) * 10 ** rng.uniform(-2, 0), dtype)

    return {"a": [array(3)], "b": (array(), Pair(None, array(3)))}


def train(optimizer, params, state, steps):
    rule = optimizer.rule
    for t in steps:
        updates, state = optimizer.update(nodes(rule, 100 + t), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_close(actual, expected, params=None, bound=(ULP, None)):
    """Equal within that many ULP of the largest value, or parameter beside it, in the array."""
    ulp = bound[0] * (AMPLIFIES.get(bound[1].needs, 1) if bound[1] else 1)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    beside = jax.tree.leaves(expected if params is None else params)
    for a, b, p in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), beside, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        error, value, other = (np.abs(np.asarray(x, np.float64)) for x in (a - b, b, p))
        scale = max(value.max(), other.max())
        assert error.max() <= ulp * float(jnp.finfo(a.dtype).eps) * scale, (a, b)


@pytest.mark.parametrize("precision", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", RULES)
def test_an_update_is_the_difference_that_the_rule_makes(name, precision):
    rule = build(name)
    optimizer, params = native(rule), nodes(rule, 0, precision)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    state, own = optimizer.init(params), rule.init(params)
    for t in range(5):
        grads = nodes(rule, 100 + t)
        updates, state = optimizer.update(grads, state, params, loss=1.0)
        new, own = rule.update(grads, params, own)
        assert_close(updates, jax.tree.map(jnp.subtract, new, params), new)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state.slots, own.slots))
        assert state.shared == own.shared and state.step == t + 1
        params = new


@pytest.mark.parametrize("name", RULES)
def test_jit_is_eager_and_traces_once(name):
    rule, traces = build(name, lr=lambda step: 0.1 / (1 + step)), []
    optimizer, params = native(rule), nodes(rule, 0)
    state = optimizer.init(params)

    @jax.jit
    def compiled(grads, state, params):
        traces.append(1)
        return optimizer.update(grads, state, params)

    for t in range(6):
        grads = nodes(rule, 100 + t)
        eager, expected = optimizer.update(grads, state, params)
        updates, after = compiled(grads, state, params)
        assert_close(updates, eager, params, (ULP, rule))
        assert types(after) == types(state) == types(expected)
        params, state = optax.apply_updates(params, updates), after
    assert len(traces) == 1


@pytest.mark.parametrize("name", RULES)
def test_a_scan_over_steps_is_a_loop(name):
    rule = build(name)
    optimizer, params = native(rule), nodes(rule, 0)
    grads = jax.tree.map(lambda *g: jnp.stack(g), *[nodes(rule, 100 + t) for t in range(20)])

    def body(carry, grads):
        updates, state = optimizer.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    start = (params, optimizer.init(params))
    with jax.checking_leaks():
        (scanned, state), _ = jax.lax.scan(body, start, grads)
    looped, expected = train(optimizer, params, optimizer.init(params), range(20))
    assert_close(scanned, looped, params, (20 * ULP, rule))
    assert types(state) == types(expected) and state.step == 20


@pytest.mark.parametrize("name", RULES)
def test_nothing_stays_nothing_and_what_has_no_gradient_stays_as_it_is(name):
    rule = build(name)
    full, grads = nodes(rule, 0), nodes(rule, 1)
    alone, optimizer = native(rule), native(rule)
    expected, _ = alone.update(grads["a"], alone.init(full["a"]), full["a"])
    params = {"a": full["a"], "none": None}
    updates, _ = optimizer.update({"a": grads["a"], "none": None}, optimizer.init(params), params)
    assert updates["none"] is None
    assert_close(updates["a"], expected, full["a"])
    state = optimizer.init(full)
    updates, after = optimizer.update({**grads, "b": (None, Pair(None, None))}, state, full)
    assert jax.tree.leaves(updates["b"]) == []
    for slot in rule.slots():
        for old, new in zip(
            jax.tree.leaves(state.slots[slot]["b"]),
            jax.tree.leaves(after.slots[slot]["b"]),
            strict=True,
        ):
            assert (old == new).all()
    if not rule.reduces:
        assert_close(updates["a"], expected, full["a"])


@pytest.mark.parametrize("name", RULES)
def test_float64_stays_float64_and_agrees_with_numpy(name):
    rule = build(name)
    with jax.enable_x64(True):
        params = nodes(rule, 0, jnp.float64)
        optimizer, host = native(rule), jax.tree.map(np.asarray, params)
        state, own = optimizer.init(params), rule.init(host)
        update = jax.jit(optimizer.update)
        for t in range(4):
            grads = nodes(rule, 100 + t, jnp.float64)
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            host, own = rule.update(jax.tree.map(np.asarray, grads), host, own)
        assert {x.dtype for x in jax.tree.leaves((params, state.slots))} == {np.dtype("float64")}
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(host), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_a_state_holds_no_buffer_of_the_callers(name):
    rule = build(name)
    params, grads, optimizer = nodes(rule, 0), nodes(rule, 1), native(rule)
    _, state = optimizer.update(grads, optimizer.init(params), params)
    held = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)}
    assert not held & {x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, grads))}


@pytest.mark.parametrize("name", RULES)
def test_a_transformation_is_a_pytree_and_may_be_copied(name):
    rule = build(name)
    params, grads, optimizer = nodes(rule, 0), nodes(rule, 1), native(rule)
    expected, _ = optimizer.update(grads, optimizer.init(params), params)
    leaves, structure = jax.tree.flatten(optimizer)
    for other in (
        structure.unflatten(leaves),
        copy.deepcopy(optimizer),
        optimizer._replace(init=optimizer.init),
    ):
        assert type(other) is type(optimizer) and other.rule == optimizer.rule
        updates, _ = other.update(grads, other.init(params), params)
        assert_close(updates, expected, params, (ULP, rule))


@each_kind
def test_donated_buffers_are_used_again(rule):
    """From the first step on; JAX warns of a buffer it cannot use, and refuses one given twice."""
    optimizer = adapter.bind(rule)
    step = stepper(optimizer)
    kept, donating = jax.jit(step), jax.jit(step, donate_argnums=(0, 1))
    for start in (optimizer.init, jax.jit(optimizer.init)):
        params = tree(rule, 0)
        state = start(params)
        expected = jax.tree.map(np.asarray, kept(params, state, tree(rule, 1)))
        given = jax.tree.leaves((params, state))
        buffers = {leaf.unsafe_buffer_pointer() for leaf in given}
        assert len(buffers) == len(given)
        found = donating(params, state, tree(rule, 1))
        assert all(leaf.is_deleted() for leaf in given)
        assert {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(found)} == buffers
        same(found, expected)


@each_single_kind
def test_every_debugging_mode_is_silent(kind):
    """Eager: strict promotion of dtypes and ranks, and no NaN on the way, from zeros either."""
    _debugged(KINDS[kind])


@pytest.mark.thorough
def test_every_debugging_mode_is_silent_for_every_rule(rule_class):
    _debugged(typical(rule_class))


def _debugged(rule):
    rule = rule.replace(lr=InverseTimeDecay(0.1, 5, 0.5))
    params, optimizer = tree(rule, 0), adapter.bind(rule)
    zeros = jax.tree.map(jnp.zeros_like, params)
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        for start in (params, zeros):
            state = optimizer.init(start)
            for grads in (zeros, params, zeros):
                updates, state = optimizer.update(grads, state, start)
                assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


def test_no_tracer_leaks(rule_class):
    """Of a schedule, a traced number or a step; traced twice, as rules keep some things."""
    rule = typical(rule_class).replace(lr=InverseTimeDecay(0.1, 5, 0.5))

    def step(factor, params, state, grads):
        return stepper(adapter.bind(scaled(rule, factor)))(params, state, grads)

    params, bound = tree(rule, 0, jnp.bfloat16), adapter.bind(rule)
    state = bound.init(params)
    with (
        jax.checking_leaks(),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        for _ in range(2):
            jax.eval_shape(step, 0.9, params, state, params)
            updates, after = jax.eval_shape(bound.update, params, state, params)
    assert types(updates) == types(params) and types(after) == types(state)


@each_kind
def test_the_second_step_is_not_traced_again(rule):
    """Nor compiled, whether parameters are arrays of JAX, of NumPy or numbers."""
    traces = []

    def step(params, state, grads):
        traces.append(1)
        return stepper(adapter.bind(rule))(params, state, grads)

    compiled, optimizer = jax.jit(step), adapter.bind(rule)
    for first in (tree(rule, 0), jax.tree.map(np.asarray, tree(rule, 0))):
        params, state = first, optimizer.init(first)
        for t in range(3):
            params, state = compiled(params, state, tree(rule, t))
    assert len(traces) == 1
    if not rule.min_ndim:
        params = {"layer": {"w": 0.5, "b": 1.0}, "out": 2.0}
        state = optimizer.init(params)
        params = jax.tree.map(jnp.float32, params)
        for _ in range(3):
            params, state = compiled(params, state, params)
        assert len(traces) == 2


@pytest.mark.parametrize("execution", ["reference", "packed", "compiled"])
def test_a_step_may_be_traced_around_known_arrays(execution):
    """As ``optax.apply_if_finite`` traces it outside of ``jit``.

    Arrays of NumPy, and those whose type is weak, become tracers there.
    """
    optimizer = adapter.bind(samestep.AdamW(lr=0.1), execution=execution)
    weak, strong = jnp.full(2, 0.5), jnp.ones(2, jnp.float32)
    kinds = {"weak": weak, "strong": strong, "numpy": np.asarray(weak), "complex": strong + 1j}
    cases = [({"a": strong}, {"a": kind}) for kind in (weak, strong, kinds["numpy"])]
    for params, grads in (*cases, (kinds, kinds)):
        state = optimizer.init(params)

        def step(params=params, grads=grads, state=state):
            return optimizer.update(grads, state, params)

        expected = step()
        for traced in (jax.lax.cond(True, step, step), jax.jit(step)()):
            assert types(traced) == types(expected)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), traced, expected)


def test_a_rule_is_traced_once_for_all_parameters_of_one_shape():
    seen = []

    class Mine(samestep.AdamW, register=False):
        def direction(self, xp, grad, param, state, s):
            seen.append(grad.shape)
            return super().direction(xp, grad, param, state, s)

    params = {f"layer{i}": {"w": jnp.ones((4, 3)), "b": jnp.ones(3)} for i in range(5)}
    groups = [(samestep.Where(path="layer4.*"), {"lr": 1.0})]
    optimizer = adapter.bind(Mine(lr=0.1, weight_decay=0.0, groups=groups))
    state = optimizer.init(params)
    seen.clear()
    updates, _ = jax.jit(optimizer.update)(params, state, params)
    assert sorted(seen) == [(3,), (3,), (4, 3), (4, 3)]  # once more for the numbers of the group
    alike, apart = (float(updates[layer]["w"][0, 0]) for layer in ("layer3", "layer4"))
    assert alike == pytest.approx(-0.1, rel=1e-6) and apart == pytest.approx(-1, rel=1e-6)


def test_finite_derivatives_cost_a_step_no_operation():
    params = {"w": jnp.ones((4, 3))}
    optimizer = adapter.AdamW(lr=0.1)
    text = jax.jit(optimizer.update).lower(params, optimizer.init(params), params).as_text()
    assert text.count("stablehlo.sqrt") == 2 and "stablehlo.select" not in text


def test_auto_says_once_what_it_chose_and_why(caplog):
    """Once for each transformation: what it is called on, and what it is called in."""
    caplog.set_level(logging.INFO, logger="samestep")
    params = nodes(samestep.AdamW(), 0)
    optimizer = adapter.AdamW()
    train(optimizer, params, optimizer.init(params), range(3))
    chosen = "AdamW: execution='auto' is %s"
    assert [record.getMessage() for record in caplog.records] == [
        chosen % "'packed' here: outside jax.jit small parameters are gathered"
    ]
    for transformation in (optimizer, adapter.AdamW()):
        caplog.clear()
        state = transformation.init(params)
        for extra in ({}, {"value": 1.0}):
            jax.jit(transformation.update)(params, state, params, **extra)
        assert [record.getMessage() for record in caplog.records] == [
            chosen % "'reference' here: under jax.jit XLA compiles the whole step"
        ]


@pytest.mark.parametrize("execution", ["reference", "packed", "compiled"])
def test_an_execution_that_was_asked_for_is_not_talked_about(execution, caplog):
    caplog.set_level(logging.INFO, logger="samestep")
    params = nodes(samestep.AdamW(), 0)
    optimizer = adapter.AdamW(execution=execution)
    train(optimizer, params, optimizer.init(params), range(2))
    assert not caplog.records
