"""Gradients pass through steps, to parameters and to every number of a rule."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.jax_trees import KINDS, scaled, stepper, tree
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.zeros import numbered, starts


@pytest.mark.parametrize("kind", ["matrix", "route"])
def test_gradients_pass_through_ten_steps(kind, wide):
    """Of the loss after training, in the first parameters and in all hyperparameters at once."""
    _differentiated(KINDS[kind])


@pytest.mark.thorough
@pytest.mark.only(where=lambda rule: rule.continuous)
def test_gradients_pass_through_ten_steps_of_every_rule(rule_class):
    """But where a tiny change of the gradient makes no tiny change of a step."""
    with jax.enable_x64(True):
        _differentiated(typical(rule_class))


@pytest.mark.parametrize("form", ["update", "triple"])
def test_derivatives_are_finite_at_zero(form, wide):
    _finite(typical(samestep.LAMB), form)


@pytest.mark.thorough
def test_derivatives_are_finite_at_zero_for_every_rule(rule_class):
    with jax.enable_x64(True):
        _finite(typical(rule_class), "update")


@pytest.mark.thorough
def test_derivatives_are_finite_at_zero_in_float32(rule_class):
    _finite(typical(rule_class), "update")


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(samestep.Centralize(samestep.Adafactor(), layout="oi"), id="Adafactor"),
        pytest.param(samestep.Prodigy(), id="Prodigy", marks=pytest.mark.thorough),
    ],
)
def test_derivatives_at_small_gradients_are_those_of_float64(rule):
    """Of two steps; 1e-30, the eps of Adafactor, has a square that float32 takes for 0."""
    found = _slopes(rule, np.float32)
    with jax.enable_x64(True):
        exact = _slopes(rule, np.float64)
    for size, *pair in zip(SMALL, *found, *exact, strict=True):
        for own, wide in zip(pair[:2], pair[2:], strict=True):
            near = 2e-5 * np.abs(wide).max()
            np.testing.assert_allclose(own, wide, rtol=0, atol=near, err_msg=str(size))


@pytest.mark.thorough
def test_derivatives_at_small_gradients_are_finite_in_every_setting(setting):
    assert all(np.isfinite(slope).all() for slope in _slopes(setting, np.float32))


SMALL = (0.0, 1e-30, 1e-25, 1e-20, 1e-18, 1e-15, 1e-12, 1e-8)


def _slopes(rule, dtype):
    """The derivatives of two steps by gradients and parameters, for each size of the gradients."""
    optimizer = adapter.bind(rule)
    noise = np.random.default_rng(0).uniform(0.5, 2, (3, 4)) * [1, -1, 1, -1]
    here = np.asarray(np.cos(np.arange(1, 13)).reshape(3, 4), dtype)

    def moved(grad, param):
        state = optimizer.init({"w": jax.lax.stop_gradient(param)})
        params = {"w": param}
        for factor in (1.0, -0.5):
            updates, state = optimizer.update({"w": factor * grad}, state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return jnp.sum(params["w"] * noise.astype(dtype))

    slopes = jax.jit(jax.vmap(jax.grad(moved, (0, 1)), (0, None)))
    grads = np.stack([size * noise[:, ::-1] for size in SMALL]).astype(dtype)
    return jax.tree.map(np.asarray, slopes(grads, here))


def _finite(rule, form):
    """By gradients, parameters and numbers, after three steps."""

    @jax.jit
    @partial(jax.grad, argnums=(0, 1, 2))
    def derivatives(grads, params, numbers):
        own, start = numbered(rule, numbers.__getitem__), jax.lax.stop_gradient(params)
        optimizer = adapter.bind(own)
        init, update, get_params = samestep.triple(own)
        state = optimizer.init(start) if form == "update" else init(params)
        for place, factor in enumerate((1.0, -0.5, 2.0)):
            now = jax.tree.map(lambda g, f=factor: f * g, grads)
            if form == "triple":
                state = update(place, now, state)
                params = get_params(state)
            else:
                params, state = stepper(optimizer)(params, state, now)
        return sum(map(jnp.sum, jax.tree.leaves(params)))

    numbers = jnp.zeros(len([*rule.numbers()]))
    for zero, *given in starts(rule):
        found = derivatives(*jax.tree.map(jnp.asarray, given), numbers)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found)), zero


def _differentiated(rule):
    params, targets, way = (tree(rule, seed) for seed in range(3))

    def loss(params):
        apart = jax.tree.map(lambda p, c: jnp.sum(jnp.cosh(p - c)), params, targets)
        return sum(jax.tree.leaves(apart))

    @jax.jit
    @jax.value_and_grad
    def trained(at):
        step = stepper(adapter.bind(scaled(rule, at["scale"])))
        start = jax.tree.map(lambda p, w: p + at["along"] * w, params, way)
        carry = start, adapter.bind(scaled(rule, at["scale"])).init(start)
        (end, _), _ = jax.lax.scan(
            lambda carry, _: (step(*carry, jax.grad(loss)(carry[0])), None), carry, length=10
        )
        return loss(end)

    here = {"scale": 0.9, "along": 0.1}
    value, slopes = trained(here)
    assert jnp.isfinite(value)
    for name in here:
        apart = 1e-5
        up, down = (trained({**here, name: here[name] + d})[0] for d in (apart, -apart))
        expected = (up - down) / (2 * apart)
        assert abs(expected) > 1e-6
        np.testing.assert_allclose(slopes[name], expected, rtol=2e-6)
