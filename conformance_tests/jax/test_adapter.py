"""The optax transformations under JAX's transformations and inside optax's own combinators.

Expected values are those of the rule, stepped by ``rule.update`` on arrays. ``update`` returns
differences, ``jit`` contracts operations and traced coefficients are float32, so values are
compared in ULP, per step, of the largest value that parameter and update have in the array.
"""

import copy
import logging
from typing import NamedTuple

import numpy as np
import pytest

import samestep
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.parametrized import each_rule

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
adapter = pytest.importorskip("samestep.jax")
jnp = jax.numpy

RULES = each_rule()
ULP = 2
TRACED = 4  # coefficients of a traced learning rate are products of several float32 roundings
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


def tree(rule, seed, dtype=jnp.float32):
    """A dict, a list, a tuple and a NamedTuple of arrays; gradients from different seeds."""
    rng, extra = np.random.default_rng(seed), (2, 2)[: rule.min_ndim]

    def array(*shape):
        return jnp.asarray(rng.standard_normal((*shape, *extra)) * 10 ** rng.uniform(-2, 0), dtype)

    return {"a": [array(3)], "b": (array(), Pair(None, array(3)))}


def train(optimizer, params, state, steps):
    rule = optimizer.rule
    for t in steps:
        updates, state = optimizer.update(tree(rule, 100 + t), state, params)
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


def kinds(state):
    return [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(state)]


@pytest.mark.parametrize("precision", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", RULES)
def test_an_update_is_the_difference_that_the_rule_makes(name, precision):
    rule = build(name)
    optimizer, params = native(rule), tree(rule, 0, precision)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    state, own = optimizer.init(params), rule.init(params)
    for t in range(5):
        grads = tree(rule, 100 + t)
        updates, state = optimizer.update(grads, state, params, loss=1.0)
        new, own = rule.update(grads, params, own)
        assert_close(updates, jax.tree.map(jnp.subtract, new, params), new)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state.slots, own.slots))
        assert state.shared == own.shared and state.step == t + 1
        params = new


@pytest.mark.parametrize("name", RULES)
def test_jit_is_eager_and_traces_once(name):
    rule, traces = build(name, lr=lambda step: 0.1 / (1 + step)), []
    optimizer, params = native(rule), tree(rule, 0)
    state = optimizer.init(params)

    @jax.jit
    def compiled(grads, state, params):
        traces.append(1)
        return optimizer.update(grads, state, params)

    for t in range(6):
        grads = tree(rule, 100 + t)
        eager, expected = optimizer.update(grads, state, params)
        updates, after = compiled(grads, state, params)
        assert_close(updates, eager, params, (ULP, rule))
        assert kinds(after) == kinds(state) == kinds(expected)
        params, state = optax.apply_updates(params, updates), after
    assert len(traces) == 1


@pytest.mark.parametrize("name", RULES)
def test_a_scan_over_steps_is_a_loop(name):
    rule = build(name)
    optimizer, params = native(rule), tree(rule, 0)
    grads = jax.tree.map(lambda *g: jnp.stack(g), *[tree(rule, 100 + t) for t in range(20)])

    def body(carry, grads):
        updates, state = optimizer.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    start = (params, optimizer.init(params))
    with jax.checking_leaks():
        (scanned, state), _ = jax.lax.scan(body, start, grads)
    looped, expected = train(optimizer, params, optimizer.init(params), range(20))
    assert_close(scanned, looped, params, (20 * ULP, rule))
    assert kinds(state) == kinds(expected) and state.step == 20


@pytest.mark.parametrize("name", RULES)
def test_learning_rates_may_be_mapped_over(name):
    rule, rates = build(name), jnp.asarray([0.5, 0.125])
    params, grads = tree(rule, 0), tree(rule, 1)

    def one(lr):
        optimizer = native(rule.replace(lr=lr))
        state = optimizer.init(params)
        return optimizer.update(grads, state, params)[0]

    mapped = jax.vmap(one)(rates)
    for i, lr in enumerate([0.5, 0.125]):
        assert_close(jax.tree.map(lambda x, i=i: x[i], mapped), one(lr), params, (TRACED, rule))


@pytest.mark.parametrize("name", RULES)
def test_a_chain_passes_what_comes_before_and_after(name):
    rule = build(name)
    params, grads = tree(rule, 0), tree(rule, 1)
    chained = optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.add_decayed_weights(0.5),
        native(rule),
        optax.scale(-3.0),
    )
    updates, _ = chained.update(grads, chained.init(params), params)
    shrink = jnp.minimum(1.0, 0.1 / optax.tree.norm(grads))
    prepared = jax.tree.map(lambda g, p: g * shrink + 0.5 * p, grads, params)
    alone = native(rule)
    expected, _ = alone.update(prepared, alone.init(params), params)
    assert_close(updates, jax.tree.map(lambda u: -3.0 * u, expected), params, (3 * ULP, rule))


@pytest.mark.parametrize("name", RULES)
def test_masks_and_labels_give_each_optimizer_its_own_part(name):
    rule = build(name)
    params, grads = tree(rule, 0), tree(rule, 1)
    alone, state = native(rule), native(rule).init(params["b"])
    expected, _ = alone.update(grads["b"], state, params["b"])
    masked = optax.masked(native(rule), {"a": False, "b": True})
    several = optax.multi_transform({"x": native(rule), "y": optax.sgd(0.5)}, {"a": "y", "b": "x"})
    for optimizer, other in [(masked, 1.0), (several, -0.5)]:
        updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
        assert_close(updates["b"], expected, params["b"], (ULP, rule))
        rest = jax.tree.map(lambda g, k=other: k * g, grads["a"])
        assert_close(updates["a"], rest)


def has_a_number(rule):
    """A rule by itself has lr; a wrapper may have no number of its own."""
    return any(type(field.default) is float for field in type(rule).fields().values())


@pytest.mark.parametrize("name", each_rule(has_a_number))
def test_an_injected_learning_rate_is_one_that_was_built_in(name):
    rule = build(name, lr=0.25)
    values = {n: v for n, v in rule.hypers.items() if n in type(rule).fields()}
    inner = [samestep.AdamW(lr=0.25)] if hasattr(rule, "rule") else []
    numbers = [n for n, f in type(rule).fields().items() if type(f.default) is float]
    lr = numbers[0] if inner else "lr"
    cls = getattr(adapter, name)
    static = [n for n in type(rule).fields() if n != lr]
    static += ["rule"] * len(inner)
    injected = optax.inject_hyperparams(cls, static_args=static)(*inner, **values)
    params = tree(rule, 0)
    state = injected.init(params)
    fresh = native(rule)
    own = fresh.init(params)
    for t, rate in enumerate([0.5, 0.125, 0.25, 0.5]):
        grads = tree(rule, 100 + t)
        state.hyperparams[lr] = jnp.asarray(rate)
        fresh = cls(*inner, **{**values, lr: rate})
        updates, state = injected.update(grads, state, params)
        expected, own = fresh.update(grads, own, params)
        assert_close(updates, expected, params, (ULP, rule))
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize("name", RULES)
def test_gradients_may_be_accumulated(name):
    rule = build(name)
    params, alone = tree(rule, 0), native(rule)
    several = optax.MultiSteps(native(rule), 2)
    state, own, update = several.init(params), alone.init(params), jax.jit(several.update)
    for t in range(3):
        a, b = tree(rule, 100 + 2 * t), tree(rule, 101 + 2 * t)
        nothing, state = update(a, state, params)
        assert all(not u.any() for u in jax.tree.leaves(nothing))
        updates, state = update(b, state, params)
        mean = jax.tree.map(lambda x, y: x + (y - x) / 2, a, b)
        expected, own = alone.update(mean, own, params)
        assert_close(updates, expected, params, (ULP, rule))
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize("name", RULES)
def test_nothing_stays_nothing_and_what_has_no_gradient_stays_as_it_is(name):
    rule = build(name)
    full, grads = tree(rule, 0), tree(rule, 1)
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
def test_the_types_in_a_state_never_change(name):
    keeps_types(name, weak=False)


@pytest.mark.parametrize("name", each_rule(lambda rule: not rule.min_ndim))
def test_the_types_in_a_state_of_weakly_typed_parameters_never_change(name):
    """They have no dimensions."""
    keeps_types(name, weak=True)


def keeps_types(name, weak):
    rule = build(name)
    params = {"w": jnp.asarray(0.5)} if weak else tree(rule, 0)
    grads = {"w": jnp.asarray(0.25)} if weak else tree(rule, 1)
    optimizer = native(rule)
    states = [optimizer.init(params)]
    for _ in range(3):
        states.append(optimizer.update(grads, states[-1], params)[1])
    assert all(kinds(state) == kinds(states[0]) for state in states[1:])


@pytest.mark.parametrize("name", RULES)
def test_float64_stays_float64_and_agrees_with_numpy(name):
    rule = build(name)
    with jax.enable_x64(True):
        params = tree(rule, 0, jnp.float64)
        optimizer, host = native(rule), jax.tree.map(np.asarray, params)
        state, own = optimizer.init(params), rule.init(host)
        update = jax.jit(optimizer.update)
        for t in range(4):
            grads = tree(rule, 100 + t, jnp.float64)
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            host, own = rule.update(jax.tree.map(np.asarray, grads), host, own)
        assert {x.dtype for x in jax.tree.leaves((params, state.slots))} == {np.dtype("float64")}
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(host), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_strict_promotion_is_respected(name):
    rule = build(name)
    params, grads = tree(rule, 0, jnp.bfloat16), tree(rule, 1, jnp.bfloat16)
    optimizer = native(rule)
    eager, _ = optimizer.update(grads, optimizer.init(params), params)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        updates, _ = jax.jit(optimizer.update)(grads, jax.jit(optimizer.init)(params), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.bfloat16.dtype}
    assert_close(updates, eager, params, (ULP, rule))


@pytest.mark.parametrize("name", RULES)
def test_buffers_may_be_donated(name):
    rule = build(name)
    params, optimizer = tree(rule, 0), native(rule)
    expected, _ = train(optimizer, params, optimizer.init(params), range(4))

    def both(grads, state, params):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    updates, state = optimizer.update(tree(rule, 100), state, params)
    params = optax.apply_updates(params, updates)
    step = jax.jit(both, donate_argnums=(1, 2))
    for t in range(1, 4):
        grads = tree(rule, 100 + t)
        params, state = step(grads, state, params)
        assert not any(g.is_deleted() for g in jax.tree.leaves(grads))
    assert_close(params, expected, tree(rule, 0), (4 * ULP, rule))


@pytest.mark.parametrize("name", RULES)
def test_a_state_holds_no_buffer_of_the_callers(name):
    rule = build(name)
    params, grads, optimizer = tree(rule, 0), tree(rule, 1), native(rule)
    _, state = optimizer.update(grads, optimizer.init(params), params)
    held = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)}
    assert not held & {x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, grads))}


@pytest.mark.parametrize("name", RULES)
def test_what_does_not_fit_is_refused(name):
    rule = build(name)
    params, grads, optimizer = tree(rule, 0), tree(rule, 1), native(rule)
    state = optimizer.init(params)
    refused = pytest.raises((TypeError, ValueError), match=rule.name)
    with refused:
        optimizer.update(grads, state)
    with refused:
        optimizer.update(grads, optax.adam(1e-3).init(params), params)
    with refused:
        optimizer.update(grads, state._replace(slots={"other": params}), params)
    with pytest.raises((TypeError, ValueError), match=rf"{rule.name}: parameter 'a\.0' "):
        optimizer.update({**grads, "a": [grads["a"][0][None]]}, state, params)
    with pytest.raises(TypeError, match=rf"{rule.name}: parameter 'b\.1\.second' "):
        integer = params["b"][1]._replace(second=jnp.arange(2))
        optimizer.init({**params, "b": (params["b"][0], integer)})


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.slots()))
def test_a_state_of_other_shapes_is_refused(name):
    rule = build(name)
    params, optimizer = jnp.ones((3, 2)), native(rule)
    with pytest.raises(ValueError, match=rule.name):
        optimizer.update(params, optimizer.init(jnp.ones((1, 2))), params)


@pytest.mark.parametrize("name", RULES)
def test_a_transformation_is_a_pytree_and_may_be_copied(name):
    rule = build(name)
    params, grads, optimizer = tree(rule, 0), tree(rule, 1), native(rule)
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


@pytest.mark.parametrize("name", RULES)
def test_bind_is_the_class_and_schedules_start_at_zero(name):
    seen = []
    rule = build(name, lr=lambda step: seen.append(int(step)) or 0.5 / (1 + step))
    params = tree(rule, 0)
    a, _ = train(native(rule), params, native(rule).init(params), range(3))
    steps_inside = getattr(rule, "steps_inside", lambda step: step)
    assert seen == sorted(seen) and {*seen} == {steps_inside(step) for step in range(3)}
    bound = adapter.bind(rule)
    b, _ = train(bound, params, bound.init(params), range(3))
    assert_close(a, b)
    c, state = params, bound.init(params)
    for t in range(3):
        fixed = adapter.bind(rule.replace(lr=0.5 / (1 + steps_inside(t))))
        c, state = train(fixed, c, state, [t])
    assert_close(a, c)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "unknown",
            "AdamW: the tree of the gradients is not that of the parameters; only there: v",
        ),
        ("array", "only there: .*; only in the parameters: layer.w"),
        ("types", "AdamW: the tree of the gradients is not .*; its nodes are of other types"),
        ("words", "AdamW: the gradient of parameter 'layer.w' is str; it must be an array or a"),
        (
            "state",
            "AdamW: the tree of slot m of the state .*; only there: v; only in the parameters",
        ),
    ],
)
def test_trees_that_do_not_fit_are_refused_by_path(kind, message):
    w = jnp.ones(2)
    params, optimizer = {"layer": {"w": w}}, adapter.AdamW()
    state = optimizer.init(params)
    grads = {"unknown": {"v": w}, "array": w, "words": {"layer": {"w": "abc"}}}.get(kind, params)
    if kind == "types":
        params = {"layer": [w]}
        state, grads = optimizer.init(params), {"layer": (w,)}
    if kind == "state":
        state = state._replace(slots={**state.slots, "m": {"v": w}})
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.update(grads, state, params)


def test_python_numbers_are_parameters_and_gradients():
    optimizer = adapter.SGD(lr=0.5)
    updates, state = optimizer.update({"w": 1.0}, optimizer.init({"w": 2.0}), {"w": 2.0})
    assert updates["w"] == -0.5 and state.step == 1
    with pytest.raises(
        TypeError, match="SGD: parameter 'w' is str; it must be an array or a number"
    ):
        optimizer.init({"w": "abc"})


def test_an_injected_number_is_held_to_the_range_outside_jit():
    params = {"w": jnp.ones(2)}
    injected = optax.inject_hyperparams(adapter.AdamW)(lr=0.5)
    state = injected.init(params)
    injected.update(params, state, params)
    state.hyperparams["lr"] = jnp.asarray(-1.0)
    with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be >= 0"):
        injected.update(params, state, params)
    jax.jit(injected.update)(params, state, params)


def test_a_schedule_that_fails_while_traced_says_so():
    params = {"w": jnp.ones(2)}
    optimizer = adapter.AdamW(lr=lambda step: lambda other: other)
    with pytest.raises(ValueError, match="; the schedule gave it for a traced step"):
        jax.jit(optimizer.update)(params, optimizer.init(params), params)


def test_auto_says_once_what_it_chose_and_why(caplog):
    """Once for each transformation: what it is called on, and what it is called in."""
    caplog.set_level(logging.INFO, logger="samestep")
    params = tree(samestep.AdamW(), 0)
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
    params = tree(samestep.AdamW(), 0)
    optimizer = adapter.AdamW(execution=execution)
    train(optimizer, params, optimizer.init(params), range(2))
    assert not caplog.records


@pytest.mark.parametrize("name", RULES)
def test_a_tree_without_parameters_is_stepped(name):
    optimizer = native(build(name))
    updates, state = optimizer.update({}, optimizer.init({}), {})
    assert updates == {} and state.step == 1
