"""Trees of JAX arrays, a rule of every kind to step them with, and how they are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]  # ships no types
import pytest

import samestep
from samestep import Where
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .settings import all_rules, typical

__all__ = [
    "KINDS",
    "close",
    "each_kind",
    "each_single_kind",
    "same",
    "scaled",
    "stacked",
    "stepper",
    "tree",
    "types",
]

FLOAT64 = 1e-10
"""Far below what any other formula would give, and above rounding in float64 over some steps."""


def _one_of_each_kind() -> dict[str, Any]:
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


KINDS = _one_of_each_kind()
each_kind = pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
each_single_kind = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "route"])
"""Not a route, which has no numbers of its own."""


def tree(rule: Rule | type[Rule], seed: int, dtype: Any = None) -> Any:
    """Arrays of either sign over four decades, a tenth of them zero."""
    random = np.random.default_rng(seed)

    def array(*shape: int) -> jax.Array:
        values = random.standard_normal(shape) * 10.0 ** random.integers(-3, 1, shape)
        values *= random.random(shape) > 0.1
        return jnp.asarray(values, dtype or jnp.zeros(()).dtype)

    biases = {} if rule.min_ndim else {"b": array(3)}
    return {"layer": {"w": array(4, 3), **biases}, "out": array(2, 4)}


def stacked(trees: Sequence[Any]) -> Any:
    """One tree, whose arrays have an axis more."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def close(found: Any, expected: Any, tolerance: float = FLOAT64) -> None:
    """Assert that two trees have the same structure, shapes and dtypes, and nearly the values."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)  # type: ignore[operator]
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def same(found: Any, expected: Any) -> None:
    """Assert that two trees have the same structure and values."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)  # type: ignore[operator]
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(a, b)


def types(state: Any) -> Any:
    """Shapes and dtypes of a tree, and whether a dtype is weak."""
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)


def stepper(optimizer: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """A step of parameters and state, on gradients."""

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def scaled(rule: Rule, factor: Any) -> Rule:
    """The rule with every finite number that is no count nearer to 0, or above 1 further away."""

    def moved(number: Any) -> Any:
        if not isinstance(number, float) or not math.isfinite(number):
            return number
        return number * factor if number <= 1 else number / factor

    return rule.map_numbers(moved)
