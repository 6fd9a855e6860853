"""Inside optax's tools every step is optax's own.

Where a dialect makes the two the same, optax's optimizer goes through the same tool. Both sides run
in float64, where only a mistake makes a difference.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep import Where
from samestep.conformance.harness.jax_trees import close, stacked, tree
from samestep.conformance.peers import dialects
from samestep.conformance.peers.optax import multi_steps

STEPS = 30
PEERS = {peer.rule: peer for peer in dialects()["optax"].PEERS}


def trajectory(optimizer, params, grads, **extra):
    """Parameters after every step of a scan under jit, and the last state."""
    optimizer = optax.with_extra_args_support(optimizer)

    @jax.jit
    def run(params, grads):
        def body(carry, grads):
            params, state = carry
            updates, state = optimizer.update(grads, state, params, **extra)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        (_, state), visited = jax.lax.scan(body, (params, optimizer.init(params)), grads)
        return visited, state

    return run(params, grads)


def pair(name):
    """Our optimizer and optax's of the same meaning, in the setting furthest from its defaults."""
    if name == "route":
        bound = adapter.bind(
            samestep.route(
                (Where(min_ndim=2), samestep.AdamW(lr=0.01, weight_decay=0.1, like="optax")),
                samestep.SGD(lr=0.1, momentum=0.9, like="optax"),
            )
        )
        labels = {"layer": {"w": "matrix", "b": "rest"}, "out": "matrix"}
        matrix, rest = optax.adamw(0.01, weight_decay=0.1), optax.sgd(0.1, momentum=0.9)
        return bound, optax.partition({"matrix": matrix, "rest": rest}, labels)
    ours = getattr(adapter, name)(like="optax", **PEERS[name].settings[-1])
    return ours, PEERS[name].make(optax, ours.rule.hypers)


def some(params):
    return jax.tree.map(lambda p: p.shape[0] != 4, params)


def labelled(params):
    return jax.tree.map(lambda p: "other" if p.shape[0] == 4 else "tested", params)


TOOLS = {
    "chain": lambda inner: optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.add_decayed_weights(0.1),
        inner,
        optax.scale_by_schedule(lambda count: 1 / (1 + 0.1 * count)),
        optax.add_decayed_weights(-0.01),
    ),
    "masked": lambda inner: optax.masked(inner, some),
    "partition": lambda inner: optax.partition(
        {"tested": inner, "other": optax.sgd(0.1)}, labelled
    ),
    "multi_transform": lambda inner: optax.multi_transform(
        {"tested": inner, "other": optax.set_to_zero()}, labelled
    ),
    "MultiSteps": lambda inner: multi_steps(
        optax, inner, lambda count: 2 + count % 2
    ).gradient_transformation(),
    "MultiSteps, skipping": lambda inner: multi_steps(
        optax, inner, 2, should_skip_update_fn=optax.skip_not_finite
    ).gradient_transformation(),
    "apply_if_finite": lambda inner: optax.apply_if_finite(inner, max_consecutive_errors=5),
    "flatten": optax.flatten,
    "lookahead": lambda inner: optax.lookahead(inner, sync_period=4, slow_step_size=0.3),
    "lookahead, resetting": lambda inner: optax.lookahead(inner, 4, 0.3, reset_state=True),
    "schedule_free": lambda inner: optax.contrib.schedule_free(inner, 0.01, b1=0.9),
    "reduce_on_plateau": lambda inner: optax.chain(
        inner, optax.contrib.reduce_on_plateau(factor=0.5, patience=3)
    ),
    "conditionally_mask": lambda inner: optax.conditionally_mask(
        inner, lambda count: count % 3 < 2
    ),
}


@pytest.mark.parametrize(
    ("tool", "name"),
    [(tool, "AdamW") for tool in TOOLS]
    + [
        pytest.param(tool, name, marks=pytest.mark.thorough)
        for tool in ("chain", "MultiSteps")
        for name in ("Prodigy", "route")
    ]
    + [("masked", "LARS"), ("partition", "SM3"), ("apply_if_finite", "route")],
)
def test_inside_a_tool_of_optax_every_step_is_that_of_optax(tool, name, wide):
    around, (ours, theirs) = TOOLS[tool], pair(name)
    params = tree(samestep.Rule, 0)
    grads = stacked([tree(samestep.Rule, 100 + t) for t in range(STEPS)])
    if tool in ("apply_if_finite", "MultiSteps, skipping"):
        grads["out"] = (
            grads["out"].at[(3, 4, 11), 0, 0].set(jnp.asarray([jnp.nan, jnp.inf, jnp.nan]))
        )
    if "lookahead" in tool:
        params = optax.LookaheadParams.init_synced(params)
    found, _ = trajectory(around(ours), params, grads, value=1.0)
    expected, _ = trajectory(around(theirs), params, grads, value=1.0)
    moved = jax.tree.map(lambda p, v: bool(jnp.any(v[-1] != p)), params, expected)
    assert any(jax.tree.leaves(moved))
    close(found, expected)
