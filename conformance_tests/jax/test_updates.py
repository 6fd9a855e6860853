"""Updates have the precision of their own size, whatever the size of the parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.agreement import BOUNDS
from samestep.conformance.harness.jax_trees import KINDS, each_single_kind
from samestep.parity import ulps

RATE = 1e-6


def updates_of(rule, dtype, how, steps=6):
    """The updates of a transformation, and of the rule in float64 from the same states."""
    optimizer = adapter.bind(rule, **({} if how == "jit" else {"execution": how}))
    update = jax.jit(optimizer.update) if how == "jit" else optimizer.update
    shapes = {"layer": {"w": (4, 3), **({} if rule.min_ndim else {"b": (3,)})}, "out": (2, 4)}
    at, random = (1.0 if dtype == "bfloat16" else 64.0), np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.full(s, at, dtype), shapes, is_leaf=_is_shape)
    state = optimizer.init(params)
    for step in range(steps):
        grads = jax.tree.map(lambda p: jnp.asarray(random.uniform(0.5, 2, p.shape), dtype), params)
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (grads, params, state))
        new, _ = rule.update(*wide[:2], samestep.State(step, wide[2].slots, wide[2].shared))
        updates, state = update(grads, state, params)
        yield updates, jax.tree.map(np.subtract, new, wide[1])


def _is_shape(node):
    return isinstance(node, tuple)


def most_off(rule):
    """ULP that an update may be off in float32; of the largest element, if the rule multiplies."""
    return 256 if rule.needs == "matrix" else BOUNDS[rule.needs]


def precise(rule, dtype, how):
    most = most_off(rule)
    most = most if dtype == "float32" else 2.0 if rule.reduces else 0.5 + most / 2**16
    for updates, expected in updates_of(rule, dtype, how):
        for found, exact in zip(*map(jax.tree.leaves, (updates, expected)), strict=True):
            assert found.dtype == dtype and np.all(exact != 0)
            size = np.abs(exact).max() if rule.needs == "matrix" else np.abs(exact)
            assert ulps(np.asarray(found, np.float64), exact, size, dtype).max() <= most


@pytest.mark.parametrize("how", ["packed", "jit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_update_has_its_own_precision(dtype, how):
    """bfloat16 has no number between 1 and 1.0078, and float32 none between 64 and 64.000008."""
    precise(samestep.Adam(lr=RATE), dtype, how)


def test_an_update_of_a_wrapper_has_its_own_precision():
    """Of one that synchronises meanwhile."""
    precise(samestep.Lookahead(samestep.Adam(lr=RATE), sync_period=3), "float32", "packed")


def test_an_update_in_which_decay_cancels_the_direction_is_as_precise_as_the_decay():
    """One is 1e-3, the other -1e-3 to within a tenth."""
    rule, random = samestep.AdamW(lr=1e-3, weight_decay=0.01), np.random.default_rng(0)
    params = jnp.asarray(-random.uniform(90, 110, 512), "float32")
    grads, optimizer = jnp.ones_like(params), adapter.bind(rule)
    found, _ = optimizer.update(grads, optimizer.init(params), params)
    wide = np.asarray(params, np.float64)
    exact = -1e-3 / (1 + 1e-8) - 1e-5 * wide
    assert ulps(np.asarray(found, np.float64), exact, 1e-5 * np.abs(wide), "float32").max() <= 6


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["packed", "reference", "jit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@each_single_kind
def test_an_update_of_every_kind_has_its_own_precision(kind, dtype, how):
    rule = KINDS[kind]
    precise(rule.replace(lr=RATE, weight_decay=0.0), dtype, how)


def lands(rule, how):
    """``apply_updates`` lands where the docstring of ``samestep.jax`` says, in each step."""
    rule, random = rule.replace(lr=1e-3), np.random.default_rng(0)
    optimizer = adapter.bind(rule)
    update = jax.jit(optimizer.update) if how == "jit" else optimizer.update
    shapes = {"w": (4, 3), **({} if rule.min_ndim else {"b": (3,)})}
    bound = most_off(rule) * rule.amplifies + 1
    for at in (1.0, 1e-3, 1e-6):
        params = {n: jnp.float32(at * random.standard_normal(s)) for n, s in shapes.items()}
        state = optimizer.init(params)
        for step in range(8):
            size = 10.0 ** (step % 3 - 1)
            grads = {n: jnp.float32(size * random.standard_normal(s)) for n, s in shapes.items()}
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (grads, params, state))
            new, _ = rule.update(*wide[:2], samestep.State(step, wide[2].slots, wide[2].shared))
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            for name, old in wide[1].items():
                moved, size = np.abs(new[name] - old), np.abs(old)
                if rule.needs == "matrix":  # whose errors count in ULP of the largest element
                    moved = moved.max()
                larger = np.maximum(size, moved)
                off = ulps(np.asarray(params[name], np.float64), new[name], larger, "float32")
                assert off.max() <= bound, (at, step, name)
                assert np.all(off[size >= 64 * moved] <= 1), (at, step, name)


def test_an_added_update_lands_at_the_step_from_the_same_state():
    lands(samestep.Adam(), "packed")


@pytest.mark.thorough
@each_single_kind
def test_an_added_update_of_every_kind_lands_at_the_step_from_the_same_state(kind):
    lands(KINDS[kind], "jit")


@pytest.mark.parametrize("how", ["chain", "MultiSteps", "norm", "master"])
def test_whoever_reads_an_update_sees_a_small_one(how):
    """A later link of a chain, accumulation, statistics, a copy of the parameters in float32."""
    inner = adapter.Adam(lr=1e-4)
    outer = {
        "chain": optax.chain(inner, optax.scale(2.0)),
        "MultiSteps": optax.MultiSteps(inner, 1),
    }
    optimizer = outer.get(how, inner)
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    found = {"norm": optax.tree.norm(updates), "master": 1.0 + jnp.float32(updates["w"])}
    expected = {"chain": -2e-4, "MultiSteps": -1e-4, "norm": 3**0.5 * 1e-4, "master": 1 - 1e-4}
    rtol = 1e-6 if how == "master" else 2**-8
    np.testing.assert_allclose(np.float64(found.get(how, updates["w"])), expected[how], rtol=rtol)
