"""Inside optax's tools and under JAX's transformations, every value beside an independent one.

Where a dialect makes the two the same, optax's own optimizer goes through the same tool; elsewhere
the same is done by hand. Both sides run in float64, where only a mistake makes a difference.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import samestep
from samestep import Where
from samestep.conformance.harness.settings import all_rules, typical
from samestep.conformance.peers import dialects
from samestep.declaration import Option
from samestep.schedules import InverseTimeDecay
from samestep.wrapper import Wrapper

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
adapter = pytest.importorskip("samestep.jax")
examples = pytest.importorskip("jax.example_libraries.optimizers")
jnp = jax.numpy

FLOAT64 = 1e-10
"""Far below what any other formula would give, and above rounding in float64 over some steps."""
STEPS = 30
PEERS = {peer.rule: peer for peer in dialects()["optax"].PEERS}


def one_of_each_kind() -> dict[str, Any]:
    """A rule for every need, a wrapper, and a route whose branches have different slots."""
    found: dict[str, Any] = {}
    for cls in all_rules():
        if not issubclass(cls, Wrapper):
            found.setdefault(cls.needs, typical(cls))
    found["wrapper"] = typical(samestep.Lookahead)
    found["route"] = samestep.route(
        (Where(path="*.b"), samestep.SGD(lr=0.1, momentum=0.9, weight_decay=0.1)),
        (Where(path="out"), samestep.Prodigy(d0=1e-3, weight_decay=0.1)),
        samestep.AdamW(lr=0.1, weight_decay=0.1),
    )
    return found


KINDS = one_of_each_kind()
kinds = pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
single = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "route"])
"""Not a route, which has no numbers of its own."""


@pytest.fixture
def wide():
    with jax.enable_x64(True):
        yield


def tree(rule, seed, dtype=None):
    """Arrays of either sign over four decades, a tenth of them zero."""
    random = np.random.default_rng(seed)

    def array(*shape):
        values = random.standard_normal(shape) * 10.0 ** random.integers(-3, 1, shape)
        values *= random.random(shape) > 0.1
        return jnp.asarray(values, dtype or jnp.zeros(()).dtype)

    biases = {} if rule.min_ndim else {"b": array(3)}
    return {"layer": {"w": array(4, 3), **biases}, "out": array(2, 4)}


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def close(found, expected, tolerance=FLOAT64):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(a, b)


def types(state):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)


def stepper(optimizer):
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


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


# Inside optax's tools.


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
    "MultiSteps": lambda inner: optax.MultiSteps(
        inner, lambda count: 2 + count % 2, accumulator_dtype=jnp.float64
    ).gradient_transformation(),
    "MultiSteps, skipping": lambda inner: optax.MultiSteps(
        inner,
        2,
        should_skip_update_fn=optax.skip_not_finite,
        accumulator_dtype=jnp.float64,
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
    + [(tool, name) for tool in ("chain", "MultiSteps") for name in ("Prodigy", "route")]
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


def whole_options(rule):
    """Options that are whole numbers, which optax would make arrays of."""
    return [
        name
        for name, field in type(rule).fields().items()
        if isinstance(field, Option) and type(rule.hypers[name]) is int
    ]


def injected(rule):
    """The class of the rule's name with its values, of which optax makes arrays where it can."""
    values = {name: rule.hypers[name] for name in type(rule).fields()}
    inner = [rule.rule] if isinstance(rule, Wrapper) else []
    make = optax.inject_hyperparams(getattr(adapter, rule.name), static_args=whole_options(rule))
    numbers = {n for n, v in values.items() if type(v) in (int, float)} - {*whole_options(rule)}
    return make(*inner, **values), {name: values[name] for name in numbers}


def test_every_number_may_be_injected(rule_class):
    optimizer, numbers = injected(typical(rule_class))
    params = tree(typical(rule_class), 0)
    state = optimizer.init(params)
    assert {n: float(v) for n, v in state.hyperparams.items()} == pytest.approx(numbers)
    updates, after = jax.eval_shape(optimizer.update, params, state, params)
    assert types(updates) == types(params) and types(after) == types(state)


@single
def test_every_number_may_be_changed_between_jitted_steps(kind, wide):
    rule = KINDS[kind]
    (optimizer, numbers), params = injected(rule), tree(rule, 0)
    state, own = optimizer.init(params), adapter.bind(rule).init(params)
    step = jax.jit(stepper(optimizer))
    for t in range(5):
        changed = {
            name: value * ((1.25 if value >= 1 else 0.75) if t % 2 else 1.0)
            for name, value in numbers.items()
            if type(value) is float and math.isfinite(value)
        }
        state.hyperparams.update({n: jnp.asarray(v, float) for n, v in changed.items()})
        grads = tree(rule, 100 + t)
        fixed = stepper(adapter.bind(rule.replace(**changed)))
        expected, own = fixed(params, own, grads)
        params, state = step(params, state, grads)
        close(params, expected)
        assert {n: float(v) for n, v in state.hyperparams.items()}.items() >= changed.items()
    assert step._cache_size() == 1


def injected_pair():
    """AdamW of both, with a schedule, and a beta that can be changed."""
    ours = optax.inject_hyperparams(
        lambda lr, b1, wd: adapter.AdamW(lr=lr, betas=(b1, 0.999), weight_decay=wd, like="optax")
    )
    theirs = optax.inject_hyperparams(optax.adamw)
    rate = optax.exponential_decay(0.1, 5, 0.5)
    return ours(lr=rate, b1=0.9, wd=0.1), theirs(learning_rate=rate, b1=0.9, weight_decay=0.1)


def test_injected_schedules_and_betas_are_optax_s(wide):
    ends = []
    for optimizer in injected_pair():
        params, step = tree(samestep.Rule, 0), jax.jit(stepper(optimizer))
        state = optimizer.init(params)
        for t in range(12):
            if t == 6:
                state = optax.tree_utils.tree_set(state, b1=jnp.asarray(0.5, float))
            params, state = step(params, state, tree(samestep.Rule, 100 + t))
        assert step._cache_size() == 1
        ends.append(params)
    close(*ends)


def test_a_number_of_another_type_traces_as_often_as_in_optax():
    sizes = []
    for optimizer in injected_pair():
        params = tree(samestep.Rule, 0)
        state, step = optimizer.init(params), jax.jit(stepper(optimizer))
        for value in (0.5, jnp.asarray(0.5), jnp.float32(0.5), np.float32(0.5), 0.25):
            state.hyperparams["b1"] = value
            params, state = step(params, state, params)
        sizes.append(step._cache_size())
    assert sizes[0] == sizes[1]


def test_what_cannot_be_injected_is_refused_in_words():
    with pytest.raises(TypeError, match=r"Muon: ns_steps may not be .* static_args=\['ns_steps'\]"):
        optax.inject_hyperparams(adapter.Muon)(lr=0.1).init(jnp.ones((2, 2)))
    with pytest.raises(TypeError, match=r"AdamW\(like='optax'\): all arguments .*lambda lr: AdamW"):
        optax.inject_hyperparams(adapter.AdamW)(lr=0.1, like="optax").init(jnp.ones(2))
    injected = optax.inject_hyperparams(adapter.AdamW, static_args="mask")
    decaying = injected(lr=0.5, weight_decay=0.5, mask=lambda p: p.ndim > 0)
    params = {"a": jnp.ones(2), "b": jnp.ones(())}
    updates, _ = decaying.update(
        jax.tree.map(jnp.zeros_like, params), decaying.init(params), params
    )
    same(updates, {"a": jnp.full(2, -0.25), "b": jnp.zeros(())})


def test_optax_finds_and_sets_what_a_state_holds(rule_class):
    rule, utils = typical(rule_class), optax.tree_utils
    params = tree(rule, 0)
    optimizer = optax.chain(optax.clip(1.0), adapter.bind(rule), optax.scale(1.0))
    state = optimizer.init(params)
    own = utils.tree_get(state, "State")
    assert own is state[1] and utils.tree_get(state, "step") == 0
    for kept in (own.slots, own.shared):
        for name, value in kept.items():
            assert utils.tree_get(state, name) is value
            other = jax.tree.map(lambda x: x + 1, value)
            changed = utils.tree_set(state, **{name: other, "step": jnp.int32(7)})
            same(utils.tree_get(changed, name), other)
            assert changed[1].step == 7 and state[1].step == 0
            assert types(changed) == types(state)


def test_optax_tells_parameters_in_a_state_from_the_rest(rule_class):
    rule = typical(rule_class)
    params = tree(rule, 0)
    optimizer = optax.chain(adapter.bind(rule), optax.trace(0.9))
    state = optimizer.init(params)
    found, _ = optax.tree_utils.tree_map_params(
        optimizer, lambda leaf: leaf + 1, state, transform_non_params=lambda leaf: "other"
    )
    same(found.slots, jax.tree.map(lambda leaf: leaf + 1, state[0].slots))
    assert found.step == "other" and found.shared == dict.fromkeys(rule.shared(), "other")
    specs = jax.tree.map(lambda leaf: f"like {leaf.shape}", params)
    found, _ = optax.tree_utils.tree_map_params(
        optimizer,
        lambda leaf, spec: spec,
        state,
        specs,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    assert found.slots == dict.fromkeys(rule.slots(), specs)


def test_parameters_without_a_slot_are_told_apart_by_none():
    rule, params = KINDS["route"], tree(samestep.Rule, 0)
    optimizer = adapter.bind(rule)
    specs = jax.tree.map(lambda leaf: leaf.ndim, params)
    found = optax.tree_utils.tree_map_params(
        optimizer,
        lambda leaf, spec: None if leaf is None else spec,
        optimizer.init(params),
        specs,
        is_leaf=lambda node: node is None,
    )
    assert found.slots["m"] == specs
    assert found.slots["p0"] == {"layer": {"w": None, "b": None}, "out": 2}


# Under JAX's transformations.


@kinds
def test_replicas_may_be_mapped_over(rule, wide):
    """A new set of parameters, state and gradients for each of three seeds."""
    optimizer = adapter.bind(rule)
    params = [tree(rule, seed) for seed in range(3)]
    grads = [[tree(rule, 100 * t + seed) for seed in range(3)] for t in range(1, 6)]
    together, state = stacked(params), jax.vmap(optimizer.init)(stacked(params))
    step = jax.jit(jax.vmap(stepper(optimizer)))
    for now in grads:
        together, state = step(together, state, stacked(now))
    alone = []
    for seed, own in enumerate(params):
        current, kept = own, optimizer.init(own)
        for now in grads:
            current, kept = stepper(optimizer)(current, kept, now[seed])
        alone.append((current, kept))
    close((together, state), stacked(alone))


@pytest.mark.only(where=lambda rule: not isinstance(rule, Wrapper))
def test_injected_learning_rates_may_be_mapped_over(rule_class):
    """One state for each rate, all stepped by one call; a state is told its rate as an array."""
    with jax.enable_x64(True):
        mapped_over(typical(rule_class))


def mapped_over(rule):
    inject = optax.inject_hyperparams(lambda lr: adapter.bind(rule.replace(lr=lr)))
    params, rates = tree(rule, 0), jnp.asarray([0.5, 0.05])
    state = jax.vmap(lambda lr: inject(lr=lr).init(params))(rates)
    together, step = (
        stacked([params, params]),
        jax.jit(jax.vmap(stepper(inject(lr=0.0)), (0, 0, None))),
    )
    for t in range(3):
        together, state = step(together, state, tree(rule, 100 + t))
    alone = []
    for rate in (0.5, 0.05):
        optimizer = adapter.bind(rule.replace(lr=rate))
        current, kept = params, optimizer.init(params)
        for t in range(3):
            current, kept = stepper(optimizer)(current, kept, tree(rule, 100 + t))
        alone.append(current)
    close(together, stacked(alone))


@pytest.mark.parametrize("kind", ["factored", "matrix", "wrapper", "route"])
def test_gradients_pass_through_ten_steps(kind, wide):
    """Of the loss after training, in the first parameters and in all hyperparameters at once."""
    _differentiated(KINDS[kind])


@pytest.mark.thorough
@pytest.mark.only(where=lambda rule: rule.continuous)
def test_gradients_pass_through_ten_steps_of_every_rule(rule_class):
    """But where a tiny change of the gradient makes no tiny change of a step."""
    with jax.enable_x64(True):
        _differentiated(typical(rule_class))


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


def scaled(rule, factor):
    """The rule with every finite number that is no count nearer to 0, or above 1 further away."""

    def moved(number):
        if not isinstance(number, float) or not math.isfinite(number):
            return number
        return number * factor if number <= 1 else number / factor

    return rule.map_numbers(moved)


DTYPES = ["bfloat16", "float16", "float32", "float32 beside float64", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes_are_known_without_computing(rule_class, dtype):
    """They are those of a real state, before and after a step, and parameters keep theirs."""
    rule, (dtype, *beside) = typical(rule_class), dtype.split(" beside ")
    with jax.enable_x64("float64" in (dtype, *beside)):
        params, optimizer = tree(rule, 0, dtype), adapter.bind(rule)
        first = optimizer.init(params)
        state = jax.eval_shape(optimizer.init, params)
        updates, after = jax.eval_shape(optimizer.update, params, state, params)
        assert types(state) == types(first) == types(after)
        assert types(updates) == types(params)
        wanted = {leaf.dtype.name for leaf in jax.tree.leaves(first.slots)}
        assert wanted <= {dtype, "float64" if dtype == "float64" else "float32"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_state_dtype_asked_for_stays(rule_class, dtype):
    rule = typical(rule_class).replace(state_dtype=dtype)
    params, optimizer = tree(rule, 0, jnp.float32), adapter.bind(rule)
    state = optimizer.init(params)
    for name, slot in rule.slots().items():
        wanted = {"state": dtype}.get(slot.init.dtype, "float32")
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state.slots[name])} == {wanted}
    updates, after = jax.eval_shape(optimizer.update, params, state, params)
    assert types(after) == types(state) and types(updates) == types(params)


def test_a_narrower_mean_is_rounded_once_a_step(wide):
    """As by hand; optax multiplies by beta in the narrow dtype as well."""
    params = tree(samestep.Rule, 0)["out"]
    optimizer = adapter.AdamW(lr=0.1, like="optax", state_dtype={"m": "float32"})
    state, step = optimizer.init(params), jax.jit(stepper(optimizer))
    p = np.asarray(params)
    m = v = np.zeros_like(p)
    for t in range(1, STEPS):
        grad = tree(samestep.Rule, 100 + t)["out"]
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad * grad
        moved = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - 0.1 * (moved + 1e-4 * p)
        m = np.asarray(m).astype(np.float32).astype(np.float64)
        params, state = step(params, state, grad)
        assert state.slots["m"].dtype == jnp.float32 and state.slots["v"].dtype == jnp.float64
        close(params, jnp.asarray(p))


@kinds
@pytest.mark.parametrize("start", ["eager", "jit"])
def test_donated_buffers_are_used_again(rule, start):
    """From the first step on; JAX warns of a buffer it cannot use, and refuses one given twice."""
    optimizer, params = adapter.bind(rule), tree(rule, 0)
    state = (optimizer.init if start == "eager" else jax.jit(optimizer.init))(params)
    expected = jax.jit(stepper(optimizer))(params, state, tree(rule, 1))
    expected = jax.tree.map(np.asarray, expected)
    given = jax.tree.leaves((params, state))
    buffers = {leaf.unsafe_buffer_pointer() for leaf in given}
    assert len(buffers) == len(given)
    found = jax.jit(stepper(optimizer), donate_argnums=(0, 1))(params, state, tree(rule, 1))
    assert all(leaf.is_deleted() for leaf in given)
    assert {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(found)} == buffers
    same(found, expected)


@single
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
    params = tree(rule, 0)

    def step(factor, params, state, grads):
        return stepper(adapter.bind(scaled(rule, factor)))(params, state, grads)

    state, bound = adapter.bind(rule).init(params), adapter.bind(rule)
    with jax.checking_leaks(), jax.numpy_dtype_promotion("strict"):
        for _ in range(2):
            jax.eval_shape(step, 0.9, params, state, params)
            jax.eval_shape(bound.update, params, state, params)


@kinds
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


# What optax asks of its own.


@single
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


def test_complex_parameters_and_gradients_are_refused(rule_class):
    rule = typical(rule_class)
    params, optimizer = tree(rule, 0, jnp.float32), adapter.bind(rule)
    state = optimizer.init(params)
    before = jax.tree.map(np.array, (params, state))
    imaginary = {**params, "out": params["out"] * 1j}
    allowed = "dtype complex64; allowed: bfloat16, float16, float32, float64"
    with pytest.raises(TypeError, match=rf"{rule.name}: parameter 'out' has {allowed}"):
        optimizer.init(imaginary)
    with pytest.raises(TypeError, match=rf"{rule.name}: parameter 'out' has {allowed}"):
        optimizer.update(params, state, imaginary)
    with pytest.raises(
        TypeError, match=rf"{rule.name}: parameter 'out': its gradient has {allowed}"
    ):
        jax.jit(optimizer.update)(imaginary, state, params)
    same((params, state), before)


def test_parameters_are_asked_for(rule_class):
    rule = typical(rule_class)
    params, optimizer = tree(rule, 0), adapter.bind(rule)
    words = f"{rule.name}: update(grads, state, params) needs params"
    with pytest.raises(ValueError, match=re.escape(words)):
        optimizer.update(params, optimizer.init(params))


def test_a_state_may_be_made_from_shapes(rule_class):
    """As in optax; what starts as a copy of the parameter says that it cannot be."""
    rule = typical(rule_class)
    params, optimizer = tree(rule, 0), adapter.bind(rule)
    shapes = jax.eval_shape(lambda: params)
    if any(slot.init.dtype == "parameter" for slot in rule.slots().values()):
        words = f"{rule.name}: parameter 'layer.*' is ShapeDtypeStruct.* use jax.eval_shape"
        with pytest.raises(TypeError, match=words):
            optimizer.init(shapes)
        return
    same(optimizer.init(shapes), optimizer.init(params))


class Pair(NamedTuple):
    w: Any
    b: Any


@jax.tree_util.register_dataclass
@dataclass
class Module:
    w: Any
    b: Any


@jax.tree_util.register_pytree_with_keys_class
class Frozen(Mapping):
    """A mapping that cannot be changed, as Flax's."""

    def __init__(self, items):
        self._items = dict(items)

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)

    def tree_flatten_with_keys(self):
        keys = tuple(self._items)
        return [(jax.tree_util.DictKey(key), self._items[key]) for key in keys], keys

    @classmethod
    def tree_unflatten(cls, keys, values):
        return cls(zip(keys, values, strict=True))


NODES = {
    "dict": lambda w, b: {"w": w, "b": b},
    "NamedTuple": Pair,
    "dataclass": Module,
    "frozen mapping": lambda w, b: Frozen({"w": w, "b": b}),
    "with None": lambda w, b: {"w": w, "b": b, "none": None, "more": [None, ()]},
}


@pytest.mark.parametrize("node", NODES)
@kinds
def test_any_node_of_a_tree_will_do(rule, node):
    """The values are those of two arrays in a list, and predicates see the names."""
    if rule.min_ndim or rule is KINDS["route"]:
        rule = samestep.route((Where(path="m.w"), samestep.Muon()), samestep.AdamW())
    make, optimizer = NODES[node], adapter.bind(rule)
    w, b = tree(samestep.Rule, 0)["out"], tree(samestep.Rule, 1)["layer"]["b"]
    plain, whole = {"m": {"b": b, "w": w}}, {"m": make(w, b)}
    state, expected = optimizer.init(whole), optimizer.init(plain)
    for _ in range(2):
        updates, state = optimizer.update(whole, state, whole)
        others, expected = optimizer.update(plain, expected, plain)
        assert type(updates["m"]) is type(whole["m"])
        assert jax.tree.structure(updates) == jax.tree.structure(whole)
        found = updates["m"] if isinstance(updates["m"], Mapping) else vars_of(updates["m"])
        same({name: found[name] for name in ("b", "w")}, others["m"])


def vars_of(node):
    return node._asdict() if isinstance(node, tuple) else vars(node)


@jax.tree_util.register_dataclass
@dataclass
class Variable:
    """A parameter as Flax NNX shows it when state is made."""

    value: object


def test_a_variable_has_the_path_of_its_value():
    """A model's own names are kept, whatever they are."""
    array, seen = jnp.ones(3), []
    rule = samestep.AdamW(mask=lambda parameter: seen.append(parameter.path) or True)
    optimizer = adapter.bind(rule)
    optimizer.init({"value": {"w": Variable(array)}, "b": {"value": array}})
    assert {*seen} == {"value.w", "b.value"}
    params = {"value": {"w": array}, "b": {"value": array}}
    optimizer.update(params, optimizer.init(params), params)
    assert {*seen} == {"value.w", "b.value"}


def test_a_slot_in_parts_may_come_back_as_a_mapping_by_place():
    """As it does out of an optimizer of Flax NNX; what is missing is noticed."""
    params = {"w": jnp.ones((3, 2))}
    optimizer = adapter.SM3(lr=0.1, momentum=0.9)
    state = optimizer.init(params)
    expected = optimizer.update(params, state, params)
    parts = dict(enumerate(state.slots["mu"]["w"]))
    slots = {**state.slots, "mu": {"w": MappingProxyType(parts)}}
    same(optimizer.update(params, state._replace(slots=slots), params), expected)
    slots["mu"] = {"w": MappingProxyType({0: parts[0]})}
    with pytest.raises(ValueError, match=r"SM3: the state of 'w' has a slot mu of shape"):
        optimizer.update(params, state._replace(slots=slots), params)


def test_an_array_is_a_tree(rule_class):
    """Of one leaf; and a tree without any has a state with all that is shared."""
    rule = typical(rule_class)
    optimizer, param = adapter.bind(rule), tree(rule, 0)["out"]
    state, expected = optimizer.init(param), optimizer.init({"w": param})
    for _ in range(2):
        update, state = optimizer.update(param, state, param)
        updates, expected = optimizer.update({"w": param}, expected, {"w": param})
        same(update, updates["w"])
    for empty in ({}, [], {"a": None}):
        updates, after = optimizer.update(empty, optimizer.init(empty), empty)
        assert updates == empty and after.step == 1
        assert types(after.shared) == types(state.shared)


def test_a_shared_state_of_another_rule_is_refused():
    params, optimizer = {"w": jnp.ones(2)}, adapter.Prodigy()
    state = optimizer.init(params)
    with pytest.raises(ValueError, match="Prodigy: the shared state has d, d_max; Prodigy keeps d"):
        optimizer.update(params, state._replace(shared={"d": 1.0, "d_max": 1.0}), params)


# Routes.


def test_a_route_has_slots_only_where_a_rule_has_them():
    """Elsewhere there is nothing, before and after a step, jitted, mapped over and abstract."""
    params, optimizer = tree(samestep.Rule, 0), adapter.bind(KINDS["route"])
    state = optimizer.init(params)
    assert state.slots["p0"]["layer"] == {"w": None, "b": None}
    assert state.slots["v"]["layer"]["b"] is None and state.slots["m"]["layer"]["b"] is not None
    abstract = jax.eval_shape(optimizer.init, params)
    _, after = jax.jit(optimizer.update)(params, state, params)
    assert types(abstract) == types(state) == types(after)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, after)
    assert jax.tree.structure(doubled) == jax.tree.structure(state)
    _, again = jax.jit(optimizer.update)(params, doubled, params)
    assert types(again) == types(state)


def test_a_parameter_that_goes_nowhere_is_named_before_anything_is_computed():
    rule = samestep.route((Where(min_ndim=2), samestep.Muon()), (Where(path="*.b"), samestep.SGD()))
    params = {"layer": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}}
    optimizer = adapter.bind(rule)
    words = r"route: parameter 'scale' of shape \(\) goes nowhere; .*Where\(path='\*\.b'\)"
    with pytest.raises(ValueError, match=words):
        optimizer.init({**params, "scale": jnp.ones(())})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(optimizer.init, {**params, "scale": jnp.ones(())})
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


# The triple of jax.example_libraries; its sm3 keeps shapes in its state, which jit refuses.

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


# Sharded over eight devices, which a process of its own must be started for.


def on_eight_devices(function):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = f"import samestep.conformance.jax.test_citizen as t; t.{function.__name__}()"
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_state_is_sharded_as_its_parameters():
    on_eight_devices(_sharded_by_the_compiler)


def test_shardings_in_types_stay_as_they_are():
    on_eight_devices(_sharded_in_types)


def _large(seed):
    random = np.random.default_rng(seed)
    shapes = {"layer": {"w": (16, 8), "b": (8,)}, "out": (8, 16)}
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda s: jnp.asarray(random.standard_normal(s)), shapes, is_leaf=is_shape)


def _sharded_by_the_compiler():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.P("x"))

    def taken(rule, seed):
        values = _large(seed)
        return values if not rule.min_ndim else {"out": values["out"]}

    for rule in KINDS.values():
        optimizer, plain = adapter.bind(rule), taken(rule, 0)
        params = jax.device_put(plain, spread)
        state, own = optimizer.init(params), optimizer.init(plain)
        step = jax.jit(stepper(optimizer))
        for t in range(2):
            for slot in state.slots.values():
                kept = jax.tree.leaves(slot, is_leaf=lambda node: node is None)
                for leaf, param in zip(kept, jax.tree.leaves(params), strict=False):
                    if leaf is not None and leaf.shape == param.shape:
                        assert leaf.sharding.is_equivalent_to(spread, leaf.ndim), (rule, leaf)
            for leaf in jax.tree.leaves(params):
                shard = leaf.addressable_shards[3].data
                assert shard.shape == (leaf.shape[0] // 8, *leaf.shape[1:]), rule
            grads = taken(rule, 1 + t)
            plain, own = step(plain, own, grads)
            params, state = step(params, state, jax.device_put(grads, spread))
            close((params, state), (plain, own))
        updates, _ = optimizer.update(params, state, params)
        assert all(u.sharding.is_equivalent_to(spread, u.ndim) for u in jax.tree.leaves(updates))


def _sharded_in_types():
    """What optax asks of its own in ``sharding_test``: types are the same, step by step."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
        for rule in KINDS.values():
            params = jnp.ones((2, 8, 4), jnp.float16, out_sharding=sharding)
            optimizer = adapter.bind(rule)
            state, compiled = optimizer.init(params), jax.jit(optimizer.init)(params)
            steps = [
                f(params, state, params) for f in (optimizer.update, jax.jit(optimizer.update))
            ]
            first = jax.tree.map(jax.typeof, state)
            assert jax.tree.map(jax.typeof, compiled) == first, rule
            for updates, after in steps:
                assert jax.tree.map(jax.typeof, after) == first, rule
                assert jax.typeof(updates) == jax.typeof(params), rule
