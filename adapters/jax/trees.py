"""Trees of parameters as JAX has them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as xp
from samestep.arrays import listed
from samestep.names import dotted as in_dots
from samestep.rule import Rule

__all__ = [
    "as_complex",
    "by_place",
    "dotted",
    "flattened",
    "in_variables",
    "is_complex",
    "is_staged",
    "leaves",
    "matched",
    "parts",
    "real",
    "real_pair",
    "strong",
]


def leaves(tree: Any) -> tuple[list[Any], Any]:
    """Every leaf, and the structure, whose class has no stub."""
    return jax.tree.flatten(tree)


def is_staged(value: Any) -> bool:
    """Whether operations on an array are noted for a compiler, and not executed at once."""
    while isinstance(value, jax.core.Tracer):
        if "Jaxpr" in type(value).__name__:
            return True
        value = getattr(value, "val", getattr(value, "primal", None))  # of vmap, of derivatives
    return False


def flattened(params: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Every leaf with its path, and the structure, whose class has no stub."""
    return jax.tree_util.tree_flatten_with_path(params)


def dotted(path: Any) -> str:
    """A path as predicates see it in every framework: names joined by dots.

    Flax NNX shows its variables when state is made, and in a step the arrays that are their values.
    """
    path = path[:-1] if path[-1:] == (jax.tree_util.GetAttrKey("value"),) else path
    keys = [getattr(key, "idx", getattr(key, "key", None)) for key in path]
    if keys and all(type(key) is int for key in keys):
        return in_dots(keys)
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


def is_complex(array: Any) -> bool:
    """Whether an array, or its shape and dtype, is complex."""
    return bool(xp.issubdtype(array.dtype, xp.complexfloating))


def real(array: Any) -> Any:
    """A complex array as its real and imaginary parts, in a new last axis, as in samestep.torch."""
    if not is_complex(array):
        return array
    if isinstance(array, jax.ShapeDtypeStruct):
        dtype = xp.zeros((), array.dtype).real.dtype
        return jax.ShapeDtypeStruct((*array.shape, 2), dtype)  # type: ignore[no-untyped-call]
    return xp.stack([array.real, array.imag], axis=-1)


def real_pair(rule: Rule, name: str, param: Any, grad: Any = None) -> tuple[Any, Any]:
    """A parameter and its gradient as real arrays.

    Raises:
        TypeError: one of the two is complex, or the rule sees the axes of real parameters.
    """
    if not is_complex(param):
        return param, grad
    who = f"{rule.name}: parameter {name!r} has dtype {param.dtype}"
    if grad is not None and not is_complex(grad):
        raise TypeError(f"{who}, its gradient {grad.dtype}; both must be complex")
    if rule.sees_axes:
        raise TypeError(
            f"{who}; {rule.name} looks at the axes of real parameters (give it to an element rule, "
            "such as AdamW)"
        )
    return real(param), grad if grad is None else real(grad)


def as_complex(pair: Any) -> Any:
    """The complex array of real and imaginary parts in the last axis."""
    return jax.lax.complex(pair[..., 0], pair[..., 1])


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


def in_variables(params: Any) -> bool:
    """Whether parameters are variables of Flax NNX, which keeps several arrays as a mapping."""
    kind = getattr(sys.modules.get("flax.nnx"), "Variable", ())
    nodes = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, kind))
    return any(isinstance(node, kind) for node in nodes)


def by_place(value: Any) -> Any:
    """A slot of a parameter as Flax NNX keeps it: a mapping by place in place of a tuple."""
    if not isinstance(value, tuple):
        return value
    return sys.modules["flax.nnx"].State(dict(enumerate(value)))


def parts(value: Any) -> Any:
    """A slot of a parameter; one in several parts comes out of Flax NNX as a mapping by place."""
    return tuple(part for _, part in sorted(value.items())) if isinstance(value, Mapping) else value
