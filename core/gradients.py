"""Operations on gradients before a rule sees them: the norm over all gradients, and clipping."""

from __future__ import annotations

import math
import numbers
from functools import reduce
from typing import Any

import array_api_compat

from . import step as stepping
from . import tree
from .arrays import cast, cast_like, dtype_name, is_array, known
from .spread import spread_of

__all__ = ["clip_grads", "l2_norm"]

Array = Any


def l2_norm(arrays: Any) -> Any:
    """Euclidean norm over all elements of all arrays.

    Args:
        arrays: an array of any Array API library, or a tree (dicts, lists, tuples) of them;
            ``None`` is ignored.

    Returns:
        A 0-d array in the widest compute dtype: float64 if one of the arrays is float64, else
        float32, in which squares overflow above 1.8e19. For a tree without arrays, the number 0.0.

    Raises:
        TypeError: an entry of the tree is not an array of a floating dtype.

    torch, MLX and optax agree, except for the order of the sums, and except for float16 and
    bfloat16, which torch and optax square in their own dtype.
    """
    found = _floating("l2_norm", arrays)
    if not found:
        return 0.0
    xp = array_api_compat.array_namespace(found[0])
    wide = stepping.widest(xp, found)
    squares = [cast(xp, _sum_of_squares(xp, array), wide) for array in found]
    spread = spread_of(xp, found)
    squares = squares if spread is None else spread.on(spread.home, squares)
    return xp.sqrt(reduce(lambda a, b: a + b, squares))


def clip_grads(grads: Any, max_norm: Any) -> Any:
    """Gradients scaled down to the norm ``max_norm`` over all arrays, unless their norm is smaller.

        grad = grad * (max_norm / norm)    where norm >= max_norm

    Args:
        grads: an array or a tree of arrays; ``None`` stays ``None``.
        max_norm: largest norm, > 0, in the unit of the gradient: a number or a 0-d array;
            ``math.inf`` clips nothing.

    Returns:
        New arrays of the same shapes and dtypes. If the norm is below ``max_norm``, or ``max_norm``
        is infinite, the values are equal to ``grads`` to the last bit. Else a NaN norm makes every
        value NaN, and an infinite norm makes finite values 0 and infinite values NaN.

    Raises:
        TypeError: an entry of the tree is not an array of a floating dtype.
        ValueError: ``max_norm`` is not a number > 0. A traced value is not checked.

    Agrees with ``jax.example_libraries.optimizers.clip_grads`` and
    ``optax.clip_by_global_norm``, which divides before it multiplies. Differs from
    ``torch.nn.utils.clip_grad_norm_`` and ``mlx.optimizers.clip_grad_norm``, which scale by
    ``min(1, max_norm / (norm + 1e-6))`` and so shrink gradients of norm ``max_norm`` too.
    """
    number = known(max_norm)
    if isinstance(number, bool) or not (is_array(number) or _is_positive(number)):
        raise ValueError(f"clip_grads(max_norm={max_norm!r}): max_norm must be a number > 0")
    found = _floating("clip_grads", grads)
    if not found:
        return grads
    xp = array_api_compat.array_namespace(found[0])
    norm = l2_norm(grads)
    if is_array(max_norm):
        max_norm = cast(xp, xp.asarray(max_norm), norm.dtype)
    stays = (norm < max_norm) | (max_norm == math.inf)
    scale = xp.where(stays, 1.0, max_norm / xp.where(stays, 1.0, norm))
    spread = spread_of(xp, found)

    def clipped(path: Any, grad: Array) -> Array:
        dtype = stepping.compute_dtype(xp, grad.dtype)
        own = scale if spread is None else spread.on(spread.where(grad), [scale])[0]
        product = cast(xp, grad, dtype) * cast(xp, own, dtype)
        return cast_like(xp, product, grad)

    return tree.rebuild(grads, clipped)


def _is_positive(number: Any) -> bool:
    return isinstance(number, numbers.Real) and float(number) > 0


def _sum_of_squares(xp: Any, array: Array) -> Array:
    array = cast(xp, array, stepping.compute_dtype(xp, array.dtype))
    return xp.sum(array * array)


def _floating(function: str, arrays: Any) -> list[Array]:
    """The arrays of a tree; raises unless each has a dtype that a gradient may have."""
    found = []
    for path, array in tree.leaves(arrays):
        dtype = dtype_name(getattr(array, "dtype", type(array).__name__))
        if dtype not in stepping.FLOATING:
            where = tree.dotted(path) or "the argument"
            raise TypeError(
                f"{function}: {where} is of {dtype}; allowed: arrays of "
                f"{', '.join(stepping.FLOATING)}"
            )
        found.append(array)
    return found
