"""The units of a parameter: the weights of each output, whose axis is the first."""

from __future__ import annotations

from typing import Any

from samestep.vocabulary import sqrt

__all__ = ["inputs", "unit_norm"]

Array = Any


def inputs(x: Array) -> tuple[int, ...]:
    """All axes except the output axis."""
    return tuple(range(1, x.ndim))


def unit_norm(xp: Any, x: Array) -> Array:
    """Euclidean norm of each output's weights, broadcastable to ``x``; a vector is one unit."""
    axes = inputs(x) if x.ndim > 1 else None
    return sqrt(xp, xp.sum(x * x, axis=axes, keepdims=True))
