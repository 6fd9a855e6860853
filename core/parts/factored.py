"""State with one vector per axis instead of one number per element."""

from __future__ import annotations

from typing import Any

from samestep.declaration import Initial, option
from samestep.kept import letters_of
from samestep.vocabulary import at_least, ema, sqrt

from .moments import quotient, raised

__all__ = ["averaged", "factored_axes", "largest_by_axis", "lines", "pair", "smallest"]

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
ROOTS = 1.084e-19, 1.49e-154
"""The least root of a normal number, in float32 and in float64."""

axes = option("last", "axes that are factored, of HWIO", choices=("last", "largest"))
min_dim = option(1, "least size of both axes for them to be factored", ge=1)


def factored_axes(shape: Shape, rule: Any) -> tuple[int, ...]:
    """The two axes along which means are taken; empty for vectors, or below ``rule.min_dim``.

    They are the last two, or the two largest, the largest first, of a kernel as HWIO. So they are
    the same axes of a convolution in whatever layout it is kept. Of several axes of inputs, or of
    outputs, the last one is factored.
    """
    order: Any = range(len(shape))
    if len(shape) > 2:
        letters = letters_of(rule, len(shape)) or "x" * len(shape)
        last = {letters.rfind("i"): 1, letters.rfind("o"): 2}
        order = sorted(order, key=lambda axis: last.get(axis, 0))
    if rule.axes == "largest":
        order = sorted(order, key=lambda axis: shape[axis])
    axes = tuple(order)[:-3:-1]
    return axes if len(axes) == 2 and min(shape[a] for a in axes) >= rule.min_dim else ()


def _zeros(xp: Any, param: Any, rule: Any) -> tuple[Any, ...]:
    zeros, axes = xp.zeros_like(param), factored_axes(param.shape, rule)
    return tuple(xp.sum(zeros, axis=axis, keepdims=True) for axis in axes) or (zeros,)


def _shapes(shape: Shape, rule: Any) -> tuple[Shape, ...]:
    axes = factored_axes(shape, rule)
    without = (tuple(1 if i == a else size for i, size in enumerate(shape)) for a in axes)
    return tuple(without) or (shape,)


def _lines(xp: Any, param: Any, rule: Any) -> tuple[Any, ...]:
    zeros = _zeros(xp, param, rule)
    return zeros if len(zeros) > 1 else (xp.sum(zeros[0]),)


def _shapes_of_lines(shape: Shape, rule: Any) -> tuple[Shape, ...]:
    shapes = _shapes(shape, rule)
    return shapes if len(shapes) > 1 else ((),)


lines = Initial(_lines, _shapes_of_lines)
"""Initialiser of a slot: as ``pair``, but one 0-d zero where no axes are factored."""

pair = Initial(_zeros, _shapes)
"""Initialiser of a slot: zero means along the two axes that the rule's options ``axes`` and
``min_dim`` choose, broadcastable to the parameter; without such axes, one zero per element."""


def averaged(
    xp: Any, old: tuple[Array, ...], square: Array, axes: Shape, added: bool, s: Any
) -> tuple[tuple[Array, ...], Array]:
    """The new means of a square along two axes, and the root of the mean that they approximate.

    The approximation may be 0 whatever was added: where a row and a column without gradients meet,
    it is 1e-54 for means of 1e-6 and an eps of 1e-30. The root is then that of the smallest number.

    Args:
        xp: array namespace.
        old: the old means, as the initialiser ``pair`` makes them.
        square: the square, shaped like the parameter.
        axes: ``factored_axes`` of the parameter; if empty, there is one mean per element.
        added: whether eps was added to the square; else it bounds the root, and the mean over all
            elements.
        s: ``weights`` of the average, ``eps``, and ``vanishes``, its ``moments.lost``.
    """

    def bounded(x: Array) -> Array:
        return x if added else at_least(xp, x, s.eps[0])

    if axes:
        row, col = (
            ema(mean, xp.mean(square, axis=axis, keepdims=True), s.weights)
            for mean, axis in zip(old, axes, strict=True)
        )
        mean = bounded(xp.mean(row, axis=axes[1], keepdims=True))
        full = quotient(xp, *raised(xp, row, mean), s.vanishes) * col
        root = xp.clip(sqrt(xp, full), ROOTS[full.dtype == xp.float64], None)
        return (row, col), bounded(root)
    full = ema(old[0], square, s.weights)
    return (full,), bounded(sqrt(xp, full))


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
