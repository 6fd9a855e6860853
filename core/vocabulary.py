"""The operations that update rules are written in, on arrays of any framework.

Everything a rule file imports comes from here. Functions take the array namespace ``xp`` where
they need one; in ``Rule.scalars`` it is NumPy on the host when the step is known, and the
framework's own namespace when the step is traced.
"""

from __future__ import annotations

import math
from typing import Any

from .declaration import Initial, hyper, option, shared, slot
from .rule import Rule, Wrapper
from .weight_decay import decayed_direction

__all__ = [
    "Initial",
    "Rule",
    "Wrapper",
    "choose",
    "debias",
    "decayed_direction",
    "ema",
    "hyper",
    "initial_parameter",
    "norm",
    "option",
    "per_axis",
    "shared",
    "sign",
    "slot",
    "weights",
]

Array = Any


def weights(beta: Any) -> tuple[Any, Any]:
    """``(beta, 1 - beta)``: the weights of an exponential moving average (a scalar operation)."""
    return beta, 1 - beta


def debias(xp: Any, beta: Any, t: Any) -> Any:
    """``1 - beta**t`` without cancellation: the weight an average has gathered after ``t`` steps.

    ``1 - 0.999**t`` in float32 is wrong in the fifth digit; ``-expm1(t log(beta))`` is not.
    """
    if isinstance(beta, float) and isinstance(t, int):
        return -math.expm1(t * math.log(beta)) if beta > 0 else 1.0
    if isinstance(beta, float):
        log_beta = math.log(beta) if beta > 0 else -math.inf
    else:
        log_beta = xp.log(beta)
    return -xp.expm1(t * log_beta)


def ema(old: Array, new: Array, pair: tuple[Any, Any]) -> Array:
    """Exponential moving average ``beta old + (1 - beta) new`` with ``pair = weights(beta)``."""
    return pair[0] * old + pair[1] * new


def choose(xp: Any, condition: Any, yes: Array, no: Array) -> Array:
    """``yes`` or ``no``, chosen by a scalar: a Python bool on the host, a 0-d array when traced."""
    if isinstance(condition, bool):
        return yes if condition else no
    return xp.where(condition, yes, no)


def norm(xp: Any, x: Array) -> Array:
    """Euclidean norm over all elements, 0-d."""
    return xp.sqrt(xp.sum(x * x))


def sign(xp: Any, x: Array) -> Array:
    """-1, 0 or 1; NaN stays NaN (torch and MLX return 0 for it)."""
    return xp.where(x > 0, 1.0, xp.where(x < 0, -1.0, x))


def _zeros_per_axis(xp: Any, param: Array) -> tuple[Array, ...]:
    zeros = xp.zeros_like(param)
    if param.ndim < 2:
        return (zeros,)
    others = [tuple(a for a in range(param.ndim) if a != axis) for axis in range(param.ndim)]
    return tuple(xp.sum(zeros, axis=axes, keepdims=True) for axes in others)


def _shapes_per_axis(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    if len(shape) < 2:
        return (shape,)
    return tuple(
        tuple(size if a == axis else 1 for a, size in enumerate(shape))
        for axis in range(len(shape))
    )


initial_parameter = Initial(lambda xp, param: xp.asarray(param, copy=True))
"""Initialiser of a slot: a copy of the parameter as it is at ``init``."""

per_axis = Initial(_zeros_per_axis, _shapes_per_axis)
"""Initialiser of a slot: one zero vector per axis, kept broadcastable to the parameter."""
