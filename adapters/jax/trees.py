"""Trees of parameters as JAX has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as xp
from samestep.arrays import listed
from samestep.rule import Rule

__all__ = ["dotted", "flattened", "leaves", "matched", "parts", "strong"]


def leaves(tree: Any) -> tuple[list[Any], Any]:
    """Every leaf, and the structure, whose class has no stub."""
    return jax.tree.flatten(tree)


def flattened(params: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Every leaf with its path, and the structure, whose class has no stub."""
    return jax.tree_util.tree_flatten_with_path(params)


def dotted(path: Any) -> str:
    """A path as predicates see it in every framework: names joined by dots.

    Flax NNX shows its variables when state is made, and in a step the arrays that are their values.
    """
    path = path[:-1] if path[-1:] == (jax.tree_util.GetAttrKey("value"),) else path
    return jax.tree_util.keystr(path, simple=True, separator=".")


def strong(rule: Rule, path: Any, leaf: Any, of: str = "") -> jax.Array:
    """A leaf as an array whose type is not weak, so that the types in a state never change."""
    try:
        return xp.asarray(leaf, dtype=xp.result_type(leaf))
    except TypeError:
        raise TypeError(
            f"{rule.name}: {of}parameter {dotted(path)!r} is {type(leaf).__name__}; it must be an "
            "array or a number"
        ) from None


def matched(rule: Rule, what: str, tree: Any, paths: list[Any], structure: Any) -> list[Any]:
    """The values of a tree for each parameter."""
    try:
        found: list[Any] = structure.flatten_up_to(tree)
    except (TypeError, ValueError) as error:
        of_params = {dotted(path) for path, _ in paths}
        there, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is None)
        of_tree = {dotted(path) or type(leaf).__name__ for path, leaf in there}
        apart = {"only there": of_tree - of_params, "only in the parameters": of_params - of_tree}
        words = [f"{where}: {listed(names)}" for where, names in apart.items() if names]
        raise ValueError(
            f"{rule.name}: the tree of {what} is not that of the parameters; "
            + ("; ".join(words) or "its nodes are of other types")
        ) from error
    return found


def parts(value: Any) -> Any:
    """A slot of a parameter; one in several parts comes out of Flax NNX as a mapping by place."""
    return tuple(part for _, part in sorted(value.items())) if isinstance(value, Mapping) else value
