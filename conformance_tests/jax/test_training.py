"""Training loops: minima, replicas and the triple of jax.example_libraries."""

from __future__ import annotations

import math

import jax
import jax.example_libraries.optimizers as examples
import jax.numpy as jnp
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.jax_trees import (
    KINDS,
    close,
    each_kind,
    each_single_kind,
    stacked,
    stepper,
    tree,
)
from samestep.conformance.harness.settings import typical

STEPS = 30


@each_kind
def test_replicas_may_be_mapped_over(rule, wide):
    """A new set of parameters, state and gradients for each of three seeds."""
    optimizer = adapter.bind(rule)
    params = [tree(rule, seed) for seed in range(3)]
    grads = [[tree(rule, 100 * t + seed) for seed in range(3)] for t in range(1, 6)]
    together, state = stacked(params), jax.vmap(optimizer.init)(stacked(params))
    step = jax.jit(jax.vmap(stepper(optimizer)))
    for now in grads:
        together, state = step(together, state, stacked(now))
    alone, single = [], jax.jit(stepper(optimizer))
    for seed, own in enumerate(params):
        current, kept = own, optimizer.init(own)
        for now in grads:
            current, kept = single(current, kept, now[seed])
        alone.append((current, kept))
    close((together, state), stacked(alone))


@each_single_kind
def test_minima_are_found(kind):
    """A parabola in float32 and in bfloat16, and Rosenbrock's valley, at one of five rates each.

    All in one tree, each of which has its own best rate; a rate falls along a cosine.
    """
    _minimised(KINDS[kind])


@pytest.mark.thorough
def test_minima_are_found_by_every_rule(rule_class):
    _minimised(typical(rule_class))


def _minimised(rule):
    decays = {"weight_decay", "lr_decay"} & rule.hypers.keys()  # the rate falls by itself below
    rule = rule.replace(**dict.fromkeys(decays, 0.0))
    column = (lambda x: x[:, None]) if rule.min_ndim else (lambda x: x)
    goal = column(jnp.asarray([1.0, -1.0, 1.0]))
    start = {
        "parabola": column(jnp.asarray([-1.0, 10.0, 1.0])),
        "narrow": column(jnp.asarray([-1.0, 10.0, 1.0], jnp.bfloat16)),
        "valley": column(jnp.zeros(2)),
    }
    goals = {"parabola": goal, "narrow": goal, "valley": column(jnp.ones(2))}

    def loss(params):
        a, b = params["valley"].ravel()
        parabolas = [jnp.sum((params[n] - goal) ** 2) for n in ("parabola", "narrow")]
        return sum(parabolas) + (1 - a) ** 2 + 100 * (b - a**2) ** 2

    steps = 10_000

    @jax.jit
    @jax.vmap
    def trained(rate):
        falling = rule.replace(lr=lambda t: rate * (0.5 + 0.5 * jnp.cos(jnp.pi * t / steps)))
        optimizer = adapter.bind(falling)
        step = stepper(optimizer)
        return jax.lax.fori_loop(
            0,
            steps,
            lambda _, carry: step(*carry, jax.grad(loss)(carry[0])),
            (start, optimizer.init(start)),
        )

    params, state = trained(jnp.asarray([10.0, 1.0, 0.1, 0.01, 0.001]))
    assert params["narrow"].dtype == jnp.bfloat16 and (state.step == steps).all()
    for name, found in params.items():
        apart = jnp.abs(found.astype(jnp.float32) - goals[name]).reshape(5, -1).max(axis=1)
        if name == "valley" and not rule.continuous:
            continue  # steps of one length cross the valley from side to side
        assert jnp.nanmin(apart) < 3e-2, (name, apart)


TRIPLES = {
    "adagrad": ("Adagrad", {}, lambda: examples.adagrad(0.02)),
    "adamax": ("Adamax", {}, lambda: examples.adamax(0.02)),
    "rmsprop": ("RMSprop", {}, lambda: examples.rmsprop(0.02)),
    "rmsprop, momentum": ("RMSprop", {"momentum": 0.9}, lambda: examples.rmsprop_momentum(0.02)),
}


@pytest.mark.parametrize("name", TRIPLES)
def test_a_triple_takes_the_place_of_jax_s(name, wide):
    """In the training loop that JAX documents: one function of index, state and batch, jitted."""
    rule, values, theirs = TRIPLES[name]
    own = samestep.triple(getattr(samestep, rule)(lr=0.02, like="jax-example", **values))
    ends = []
    for opt_init, opt_update, get_params in (own, theirs()):

        def step(i, state, batch, update=opt_update, get_params=get_params):
            def loss(params):
                return sum(jnp.sum(jnp.cosh(p - batch)) for p in jax.tree.leaves(params))

            return update(i, jax.grad(loss)(get_params(state)), state)

        step = jax.jit(step)
        state = opt_init(tree(samestep.Rule, 0))
        for i in range(STEPS):
            state = step(i, state, jnp.asarray(math.sin(i), float))
        state = jax.lax.fori_loop(STEPS, 2 * STEPS, lambda i, s, f=step: f(i, s, jnp.sin(i)), state)
        ends.append(get_params(state))
        assert step._cache_size() <= 2  # the loop's index is an array
    close(*ends)
