"""Parameters as matrices, an output a row: products in a narrower dtype, projection."""

from __future__ import annotations

from typing import Any

from samestep.arrays import cast
from samestep.kept import letters_of, said
from samestep.vocabulary import at_least, sqrt

__all__ = [
    "apart",
    "as_matrix",
    "narrowed",
    "projected",
    "row_norms",
    "views",
]

Array = Any


def apart(rule: Any, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The sizes of the inputs and of the places of a kernel, each in the order of its axes.

    The rule declares ``tells_places``; else every axis counts as an input.
    """
    several = max(1, (said(rule, "layout") or "").count("o")) - 1  # which are seen as one
    letters = letters_of(rule, len(shape) + several).replace("o", "") or "i" * len(shape)
    found: dict[str, list[int]] = {"i": [], "x": []}
    for size, letter in zip(shape[1:], letters, strict=False):
        found[letter].append(size)
    return found["i"], found["x"]


def as_matrix(xp: Any, x: Array, whole: bool = False) -> Array:
    """``x`` as a matrix of shape (outputs, everything else), or the ``whole`` of it as one row."""
    if whole:
        return xp.reshape(x, (1, -1))
    return xp.reshape(x, (x.shape[0], -1)) if x.ndim > 2 else x


def narrowed(xp: Any, x: Array, dtype: str) -> Array:
    """A float32 or float64 array in bfloat16.

    Libraries that have no bfloat16 round to its 8 bits, by Veltkamp's splitting.
    """
    if hasattr(xp, dtype):
        return cast(xp, x, getattr(xp, dtype))
    large = (2.0 ** (45 if x.dtype == xp.float64 else 16) + 1) * x
    return large - (large - x)


def projected(
    xp: Any, u: Array, param: Array, grad: Array, whole: bool, s: Any
) -> tuple[Array, Array]:
    """AdamP's projection by rows of ``as_matrix``: whether it applies, and the projected u.

    The projected u is orthogonal to the parameter. The projection applies where param and grad are
    nearly orthogonal: the largest absolute cosine of the rows, of n elements each, is below
    ``s.delta / sqrt(n)``. ``s.least`` is the least norm.
    """
    p, g, along = (as_matrix(xp, x, whole) for x in (param, grad, u))
    size, cosine = row_norms(xp, p), xp.sum(p * g, axis=1, keepdims=True)
    cosine = cosine / at_least(xp, size, s.least) / at_least(xp, row_norms(xp, g), s.least)
    fits = xp.max(xp.abs(cosine)) < s.delta / p.shape[1] ** 0.5
    p = p / (size + s.least)
    tangent = along - p * xp.sum(p * along, axis=1, keepdims=True)
    return fits, xp.reshape(tangent, param.shape)


def views(param: Array) -> tuple[bool, ...]:
    """Whether each projection of AdamP is of the whole: first that, then by outputs."""
    return (True, False) if param.ndim > 1 else ()


def row_norms(xp: Any, rows: Array) -> Array:
    """Euclidean norm of every row, shape (rows, 1)."""
    return sqrt(xp, xp.sum(rows * rows, axis=1, keepdims=True))
