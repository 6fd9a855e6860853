"""State with one vector per axis instead of one number per element."""

from __future__ import annotations

from typing import Any

from samestep.declaration import Initial, option
from samestep.vocabulary import at_least, ema, sqrt

from .moments import quotient, raised

__all__ = ["averaged", "factored_axes", "largest_by_axis", "pair", "smallest"]

Array = Any
Shape = tuple[int, ...]

eps_at = option(
    "added",
    "eps1 is added to grad^2, or bounds v",
    choices=("added", "clamped"),
    says={
        "added": "adds eps to the squared gradient",
        "clamped": "bounds the mean square from below by eps",
    },
)
axes = option("last", "axes that are factored", choices=("last", "largest"))
min_dim = option(1, "least size of both axes for them to be factored", ge=1)


def factored_axes(shape: Shape, which: str, min_dim: int) -> tuple[int, ...]:
    """The two axes along which means are taken; empty for vectors, or below ``min_dim``.

    Args:
        shape: shape of the parameter.
        which: the ``"last"`` two axes, or the two ``"largest"``, the largest first.
        min_dim: the least size of both axes.
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
"""Initialiser of a slot: zero means along the two axes that the rule's options ``axes`` and
``min_dim`` choose, broadcastable to the parameter; without such axes, one zero per element."""


def averaged(
    xp: Any,
    old: tuple[Array, ...],
    square: Array,
    axes: Shape,
    pair: Any,
    least: Any,
    lost: tuple[Any, ...],
) -> tuple[tuple[Array, ...], Array]:
    """The new means of a square along two axes, and the root of the mean that they approximate.

    Args:
        xp: array namespace.
        old: the old means, as the initialiser ``pair`` makes them.
        square: the square, shaped like the parameter.
        axes: ``factored_axes`` of the parameter; if empty, there is one mean per element.
        pair: ``weights`` of the average.
        least: a lower bound of the root and of the mean over all elements, or None.
        lost: the divisor at which ``moments.quotient`` is 0, if there is one.
    """
    new: tuple[Array, ...]
    if axes:
        row, col = (
            ema(mean, xp.mean(square, axis=axis, keepdims=True), pair)
            for mean, axis in zip(old, axes, strict=True)
        )
        mean = xp.mean(row, axis=axes[1], keepdims=True)
        mean = mean if least is None else at_least(xp, mean, least)
        new, full = (row, col), quotient(xp, *raised(xp, row, mean), lost) * col
    else:
        full = ema(old[0], square, pair)
        new = (full,)
    root = sqrt(xp, full)
    return new, root if least is None else at_least(xp, root, least)


def smallest(xp: Any, arrays: tuple[Array, ...]) -> Array:
    """The elementwise minimum of several broadcastable arrays."""
    bound = arrays[0]
    for other in arrays[1:]:
        bound = xp.minimum(bound, other)
    return bound


def largest_by_axis(xp: Any, x: Array, axis: int) -> Array:
    """The maximum over all other axes; x itself below two dimensions."""
    others = tuple(other for other in range(x.ndim) if other != axis)
    return xp.max(x, axis=others, keepdims=True) if others else x
