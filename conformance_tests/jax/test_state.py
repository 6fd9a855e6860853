"""A state: its types, its dtypes, what optax finds in it, and what it is made from."""

from __future__ import annotations

from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.jax_trees import KINDS, close, same, stepper, tree, types
from samestep.conformance.harness.settings import typical


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
        ranging = "float32" if dtype == "float16" else dtype
        wanted = {"state": dtype, "range": ranging}.get(slot.init.dtype, "float32")
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
    for t in range(1, 30):
        grad = tree(samestep.Rule, 100 + t)["out"]
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad * grad
        moved = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - 0.1 * (moved + 1e-4 * p)
        m = np.asarray(m).astype(np.float32).astype(np.float64)
        params, state = step(params, state, grad)
        assert state.slots["m"].dtype == jnp.float32 and state.slots["v"].dtype == jnp.float64
        close(params, jnp.asarray(p))


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


def test_a_shared_state_of_another_rule_is_refused():
    params, optimizer = {"w": jnp.ones(2)}, adapter.Prodigy()
    state = optimizer.init(params)
    with pytest.raises(ValueError, match="Prodigy: the shared state has d, d_max; Prodigy keeps d"):
        optimizer.update(params, state._replace(shared={"d": 1.0, "d_max": 1.0}), params)


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


def test_states_that_have_missed_other_calls_are_stepped_by_one_transformation_in_turn():
    """The parameters of the first have one count, and are gathered; the second's have two."""
    params = {name: jnp.ones(3) for name in "ab"}
    grads = {name: jnp.asarray([1.0, -2.0, 0.5]) for name in "ab"}

    def after(optimizer, missing):
        state = optimizer.init(params)
        for name in missing:
            state = optimizer.update({**grads, name: None}, state, params)[1]
        return state

    optimizer, other = (samestep.jax.bind(samestep.AdamW(lr=0.1)) for _ in range(2))
    one, two = after(optimizer, "ab"), after(optimizer, "abb")
    wanted, _ = other.update(grads, two, params)
    optimizer.update(grads, one, params)
    found, _ = optimizer.update(grads, two, params)
    assert all(jnp.array_equal(found[name], wanted[name]) for name in params)
