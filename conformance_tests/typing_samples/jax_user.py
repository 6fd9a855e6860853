"""A training loop in JAX: eager and under jit, a schedule, a wrapped rule."""

from typing import Any, assert_type

import jax
import jax.numpy as jnp

import samestep
from samestep.jax import SGD, Adan, Lion, RuleTransformation, bind

Params = dict[str, jax.Array]


def loss(params: Params, inputs: jax.Array) -> jax.Array:
    """The mean squared error of a linear model of the sum."""
    return jnp.mean((inputs @ params["w"] + params["b"] - inputs.sum(1)) ** 2)


def train(optimizer: RuleTransformation, steps: int) -> Params:
    """Take some steps under jit."""
    params: Params = {"w": jnp.zeros(4), "b": jnp.zeros(())}
    state = optimizer.init(params)

    @jax.jit
    def step(params: Params, state: Any, inputs: jax.Array) -> tuple[Params, Any]:
        grads = jax.grad(loss)(params, inputs)
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for seed in range(steps):
        params, state = step(params, state, jax.random.normal(jax.random.key(seed), (8, 4)))
    return params


adan = Adan(lr=1e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02)
assert_type(adan, RuleTransformation)
assert_type(adan.rule, samestep.Rule)
optimizers = [
    adan,
    Lion(lr=lambda step: 1e-4 * (step + 1), betas=(0.9, 0.99), decay="decoupled"),
    SGD(jnp.asarray(0.1), momentum=0.9),
    bind(samestep.Lookahead(samestep.AdamW(lr=1e-3), sync_period=5)),
]
for optimizer in optimizers:
    train(optimizer, steps=2)
