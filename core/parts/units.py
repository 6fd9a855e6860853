"""The units of a parameter: what belongs to one output."""

from __future__ import annotations

from typing import Any

__all__ = ["inputs", "unit_norm"]

Array = Any


def inputs(x: Array, layout: str) -> tuple[int, ...]:
    """All axes but the output's, which ``layout`` names: one of ``matrix.LAYOUTS``."""
    return tuple(range(1, x.ndim) if layout == "oi" else range(x.ndim - 1))


def unit_norm(xp: Any, x: Array, layout: str) -> Array:
    """Euclidean norm of every output's weights, broadcastable to ``x``; of a vector as a whole."""
    axes = inputs(x, layout) if x.ndim > 1 else None
    return xp.sqrt(xp.sum(x * x, axis=axes, keepdims=True))
