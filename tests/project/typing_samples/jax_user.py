"""A training loop in JAX under jit: named classes, routes, wrappers, averages, optax around it."""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]  # ships no types

import samestep
import samestep.jax as ours
from samestep import Parameter, Where, route
from samestep.schedules import CosineDecay, warmup_cosine

Params = dict[str, jax.Array]


def loss(params: Params, inputs: jax.Array) -> jax.Array:
    """The mean squared error of a linear model of the sum."""
    return jnp.mean((inputs @ params["w"][:, 0] + params["b"] - inputs.sum(1)) ** 2)


def train(optimizer: ours.RuleTransformation, steps: int) -> Params:
    """Take some steps under jit."""
    params: Params = {"w": jnp.zeros((4, 1)), "b": jnp.zeros(())}
    state = optimizer.init(params)

    @jax.jit
    def step(params: Params, state: Any, inputs: jax.Array) -> tuple[Params, Any]:
        grads = jax.grad(loss)(params, inputs)
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    for seed in range(steps):
        params, state = step(params, state, jax.random.normal(jax.random.key(seed), (8, 4)))
    return params


adan = ours.Adan(lr=1e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02)
assert_type(adan, ours.RuleTransformation)
assert_type(adan.rule, samestep.Rule)
optimizers = [
    adan,
    ours.Lion(lr=lambda step: 1e-4 * (step + 1), betas=(0.9, 0.99), decay="decoupled"),
    ours.SGD(jnp.asarray(0.1), momentum=0.9),
    ours.bind(samestep.Lookahead(samestep.AdamW(lr=1e-3), sync_period=5)),
]


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter has two dimensions or more."""
    return parameter.ndim > 1


rule = samestep.AdamW(lr=1e-3, weight_decay=0.1)
routed = route(
    (Where(min_ndim=2) & ~Where(path="b"), samestep.Muon(lr=0.02, layout="io")),
    (Where(path="b") | Where(ndim=0), samestep.SGD(0.1)),
    rule,
)
assert_type(routed.table({"w": jnp.zeros((4, 1)), "b": jnp.zeros(())}), str)
optimizers += [
    ours.bind(routed, execution="reference"),
    ours.bind(samestep.ClipGlobalNorm(routed, max_norm=1.0)),
    ours.ClipValue(rule, 0.5),
    ours.ClipNorm(rule, clip_norm=lambda step: 1.0 / (step + 1), execution="compiled"),
    ours.ClipGlobalNorm(rule, like="optax"),
    ours.AdaptiveClip(rule, clipping=0.01, layout="io"),
    ours.Centralize(rule, layout="io"),
    ours.Accumulate(rule, every=2, accumulated_dtype="float32"),
    ours.SkipNonFinite(rule),
    ours.Cautious(rule, rescale="mean"),
    ours.Average(rule, average_decay=0.99, averaging="debiased"),
    ours.Lookahead(rule, sync_period=5),
    ours.AdamW(lr=warmup_cosine(1e-3, 10, 100), weight_decay=0.1, mask=is_matrix, like="optax"),
    ours.Lion(lr=CosineDecay(1e-4, 100), groups=[(Where(path="b"), {"lr": 1e-5})]),
    ours.AdamW(lr=optax.cosine_decay_schedule(1e-3, 100), state_dtype={"m": "bfloat16"}),
]
for optimizer in optimizers:
    train(optimizer, steps=2)

params: Params = {"w": jnp.zeros((4, 1)), "b": jnp.zeros(())}
chained = optax.chain(optax.clip_by_global_norm(1.0), ours.AdamW(lr=1e-3), optax.scale(0.5))
updates, _ = chained.update(params, chained.init(params), params)
injected: Any = optax.inject_hyperparams(ours.AdamW)(lr=1e-3)
print(injected.init(params).hyperparams["lr"])

guarded = ours.SkipNonFinite(samestep.Average(rule))
state: Any = guarded.init(params)
updates, state = guarded.update(params, state, params)
params = jax.tree.map(jnp.add, params, updates)
steps: int = int(state.step)
skipped: float = float(state.shared["skipped"])
average: Params = samestep.averaged(guarded.rule, params, state)
print(steps, skipped, average["w"], state.slots["average"]["w"].dtype)
