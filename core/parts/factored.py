"""State kept as one vector per axis in place of one number per element."""

from __future__ import annotations

from typing import Any

from samestep.declaration import Initial

__all__ = ["factored_axes", "pair"]

Shape = tuple[int, ...]


def factored_axes(shape: Shape, which: str, min_dim: int) -> tuple[int, ...]:
    """The two axes along which a mean is taken; none for vectors, or below ``min_dim``.

    Args:
        shape: of the parameter.
        which: the ``"last"`` two axes, or the two ``"largest"``, the largest first.
        min_dim: least size of both.
    """
    order: Any = range(len(shape))
    if which == "largest":
        order = sorted(order, key=lambda axis: shape[axis])
    axes = tuple(order)[:-3:-1]
    return axes if len(axes) == 2 and min(shape[axis] for axis in axes) >= min_dim else ()


def _zeros(xp: Any, param: Any, rule: Any) -> tuple[Any, ...]:
    zeros, axes = xp.zeros_like(param), factored_axes(param.shape, rule.axes, rule.min_dim)
    return tuple(xp.sum(zeros, axis=axis, keepdims=True) for axis in axes) or (zeros,)


def _shapes(shape: Shape, rule: Any) -> tuple[Shape, ...]:
    axes = factored_axes(shape, rule.axes, rule.min_dim)
    without = (tuple(1 if i == a else size for i, size in enumerate(shape)) for a in axes)
    return tuple(without) or (shape,)


pair = Initial(_zeros, _shapes)
"""Initialiser of a slot: a zero mean along each of the two axes that the rule's options ``axes``
and ``min_dim`` choose, kept broadcastable to the parameter; else one zero per element."""
