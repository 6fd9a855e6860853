"""The units of a parameter: the weights of each output."""

from __future__ import annotations

from typing import Any

__all__ = ["inputs", "unit_norm"]

Array = Any


def inputs(x: Array, layout: str) -> tuple[int, ...]:
    """All axes except the output axis, which ``layout`` (one of ``matrix.LAYOUTS``) names."""
    return tuple(range(1, x.ndim) if layout == "oi" else range(x.ndim - 1))


def unit_norm(xp: Any, x: Array, layout: str) -> Array:
    """Euclidean norm of each output's weights, broadcastable to ``x``; a vector is one unit."""
    axes = inputs(x, layout) if x.ndim > 1 else None
    return xp.sqrt(xp.sum(x * x, axis=axes, keepdims=True))
