"""Kernels of other shapes: for any shape from one for vectors; for a stack from one for arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .arrays import map_parts
from .once import once

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["as_vectors", "stacked"]

Array = Any
Slots = dict[str, Any]


def as_vectors(xp: Any, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``advance`` or ``local`` for any shape, from a kernel for vectors.

    A rule that does not read axes needs to be compiled only once for all shapes.
    """

    def vector(array: Array) -> Array:
        return xp.reshape(array, (-1,))

    def like(old: Array, new: Array) -> Array:
        return xp.reshape(new, old.shape)

    def flat(grad: Array, param: Array, slots: Slots, common: Slots, s: Any) -> Any:
        def shaped(new: Slots) -> Slots:
            return {name: map_parts(like, slots[name], value) for name, value in new.items()}

        vectors = {name: map_parts(vector, value) for name, value in slots.items()}
        first, second = kernel(vector(grad), vector(param), vectors, common, s)
        if isinstance(first, dict):  # local: slots and sums
            return shaped(first), second
        return xp.reshape(first, param.shape), shaped(second)

    return flat


@once
def stacked(function: Callable[..., Any], vmap: Callable[..., Any]) -> Callable[..., Any]:
    """``advance`` or ``local`` for several parameters of one shape, along a new first axis.

    ``vmap`` is the framework's function. The result is cached, so that kernels can be cached by it.
    """

    def together(
        xp: Any, rule: Rule, grad: Array, param: Array, slots: Slots, common: Slots, s: Any
    ) -> Any:
        def one(grad: Array, param: Array, slots: Slots) -> Any:
            return function(xp, rule, grad, param, slots, common, s)

        first, second = vmap(one)(grad, param, slots)
        if isinstance(first, dict):  # local: slots and sums
            second = {name: xp.sum(value, axis=0) for name, value in second.items()}
        return first, second

    return together
