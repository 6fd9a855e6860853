"""Trees of any nodes, and paths in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import samestep
import samestep.jax as adapter
from samestep import Where
from samestep.conformance.harness.jax_trees import KINDS, each_kind, same, tree, types
from samestep.conformance.harness.settings import typical


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
@each_kind
def test_any_node_of_a_tree_will_do(rule, node):
    """The values are those of two arrays in a list, and predicates see the names."""
    if rule.min_ndim or rule is KINDS["route"]:
        rule = samestep.route((Where(path="m.w"), samestep.Muon(layout="oi")), samestep.AdamW())
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
    rule = samestep.AdamW(
        mask=lambda parameter: seen.append(parameter.path) or "w" in parameter.path
    )
    optimizer = adapter.bind(rule)
    optimizer.init({"value": {"w": Variable(array)}, "b": {"value": array}})
    assert {*seen} == {"value.w", "b.value"}
    params = {"value": {"w": array}, "b": {"value": array}}
    optimizer.update(params, optimizer.init(params), params)
    assert {*seen} == {"value.w", "b.value"}


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


def test_python_numbers_are_parameters_and_gradients():
    optimizer = adapter.SGD(lr=0.5)
    updates, state = optimizer.update({"w": 1.0}, optimizer.init({"w": 2.0}), {"w": 2.0})
    assert updates["w"] == -0.5 and state.step == 1
    with pytest.raises(
        TypeError, match="SGD: parameter 'w' is str; it must be an array or a number"
    ):
        optimizer.init({"w": "abc"})
