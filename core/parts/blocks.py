"""Blocks of a parameter that share a number: an output row, the rows of a head, or all of it."""

from __future__ import annotations

from typing import Any

from samestep.declaration import Initial, option

__all__ = ["mean_of_block", "per_row"]

Array = Any
Shape = tuple[int, ...]

per = option("row", "what shares one number, of a matrix", choices=("row", "head", "tensor"))
heads = option(1, "number of heads of per='head'; each has as many rows", ge=1)


def mean_of_block(xp: Any, x: Array, per: str, heads: int) -> Array:
    """The mean over the block of every output row, with a size of 1 along the other axes."""
    if x.ndim < 2:
        return xp.mean(x, keepdims=True)
    if per == "row":
        return xp.mean(x, axis=tuple(range(1, x.ndim)), keepdims=True)
    rows, *rest = x.shape
    groups = heads if per == "head" else 1
    means = xp.mean(xp.reshape(x, (groups, -1)), axis=1, keepdims=True)
    every = xp.broadcast_to(means, (groups, rows // groups))
    return xp.reshape(every, (rows, *[1] * len(rest)))


def _shape(shape: Shape, rule: Any) -> Shape:
    if len(shape) < 2:
        return (1,) * len(shape)
    if rule.per == "head" and shape[0] % rule.heads:
        raise ValueError(
            f"{rule.name}(per='head', heads={rule.heads}): a parameter of shape {shape} has "
            f"{shape[0]} output rows, which are not {rule.heads} heads of as many rows"
        )
    return (shape[0], *(1 for _ in shape[1:]))


def _zeros(xp: Any, param: Array, rule: Any) -> Array:
    _shape(param.shape, rule)
    axes = tuple(range(1, param.ndim)) if param.ndim > 1 else None
    return xp.sum(xp.zeros_like(param), axis=axes, keepdims=True)


per_row = Initial(_zeros, _shape)
"""Initialiser of a slot: a zero per output row; one zero for a vector."""
