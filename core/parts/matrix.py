"""Parameters as matrices, an output a row: orthogonalisation, projection."""

from __future__ import annotations

from functools import partial
from typing import Any

from samestep.arrays import cast
from samestep.vocabulary import at_least, norm, sqrt, whole

__all__ = [
    "as_matrix",
    "narrowed",
    "orthogonalize",
    "projected",
    "row_norms",
    "views",
]

Array = Any


def as_matrix(xp: Any, x: Array, whole: bool = False) -> Array:
    """``x`` as a matrix of shape (outputs, everything else), or the ``whole`` of it as one row."""
    if whole:
        return xp.reshape(x, (1, -1))
    return xp.reshape(x, (x.shape[0], -1)) if x.ndim > 2 else x


@whole
def orthogonalize(
    xp: Any, matrix: Array, steps: int, eps: float = 1e-7, dtype: str = "float32"
) -> Array:
    """The matrix, of the same shape, with singular values driven into about 0.7 to 1.2.

    Newton-Schulz iteration with the quintic of Keller Jordan's Muon (2024), on the matrix or its
    transpose, whichever has the smaller Gram matrix. Products are in ``dtype``.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = xp.matrix_transpose(matrix) if tall else matrix
    x = x / (norm(xp, x) + eps)
    product = xp.matmul if dtype == "float32" else partial(_narrow_product, xp, dtype)
    for _ in range(steps):
        gram = product(x, xp.matrix_transpose(x))
        x = a * x + product(b * gram + c * product(gram, gram), x)
    return xp.matrix_transpose(x) if tall else x


def _narrow_product(xp: Any, dtype: str, one: Array, other: Array) -> Array:
    """The product of matrices in a narrower dtype, in their own."""
    result = xp.matmul(narrowed(xp, one, dtype), narrowed(xp, other, dtype))
    return cast(xp, narrowed(xp, result, dtype), one.dtype)


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
