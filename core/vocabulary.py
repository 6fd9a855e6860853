"""The operations of update rules, on arrays of any framework.

A rule file imports from here and from ``samestep.parts`` only. ``xp`` is the array namespace. In
``Rule.scalars`` it is NumPy if the step is known, and the framework's namespace if it is traced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from .arrays import differentiated, map_parts, traced
from .declaration import Initial, Storage, hyper, option, shared, slot
from .moves import Move, early_step
from .precisions import precision
from .rule import Rule
from .weight_decay import decayed_direction, decayed_parameter, later
from .wrapper import Wrapper

__all__ = [
    "Initial",
    "Move",
    "Rule",
    "Storage",
    "Wrapper",
    "at_least",
    "choose",
    "count",
    "debias",
    "decayed_direction",
    "decayed_parameter",
    "early_step",
    "ema",
    "expm1",
    "hyper",
    "initial_parameter",
    "kept",
    "later",
    "log",
    "norm",
    "option",
    "per_axis",
    "precision",
    "rms",
    "same_sign",
    "scalar",
    "shared",
    "shrinkage",
    "sign",
    "slot",
    "smaller",
    "sqrt",
    "trust_ratio",
    "weights",
    "whole",
]

Array = Any


def weights(beta: Any) -> tuple[Any, Any]:
    """``(beta, 1 - beta)``: the weights of a moving average."""
    return beta, 1 - beta


def debias(xp: Any, beta: Any, t: Any) -> Any:
    """``1 - beta**t`` without cancellation: the sum of an average's weights after ``t`` steps.

    ``beta`` is the decay per step. ``1 - 0.999**t`` in float32 is wrong in the fifth digit.
    """
    if isinstance(beta, float) and isinstance(t, int):
        return -math.expm1(t * math.log(beta)) if beta > 0 else 1.0
    return -expm1(xp, t * log(xp, beta))


def log(xp: Any, x: Any) -> Any:
    """Natural logarithm of a coefficient, in float64 if it is known; -inf for 0."""
    if isinstance(x, float):
        return math.log(x) if x > 0 else -math.inf
    if not differentiated(x):
        return xp.log(x)
    zero = x == 0  # where the derivative is infinite, and no coefficient moves
    return xp.where(zero, -math.inf, xp.log(xp.where(zero, 1.0, x)))


def expm1(xp: Any, x: Any) -> Any:
    """``exp(x) - 1`` of a coefficient, in float64 if it is known."""
    return math.expm1(x) if isinstance(x, float) else xp.expm1(x)


def sqrt(xp: Any, x: Any) -> Any:
    """Square root of an array, or of a coefficient, in float64 if it is known.

    The derivative where x is 0 is 0. An infinite one makes NaN of the derivatives of a whole step.
    """
    if type(x) in (int, float):  # and no scalar of NumPy, which is an array here
        return math.sqrt(x)
    kind: Any = type(x)
    graph = getattr(x, "requires_grad", None)
    if not (graph or (graph is None and traced(kind))):  # ``differentiated``, in place
        return xp.sqrt(x)
    if hasattr(xp, "smooth_sqrt"):  # as in the adapter of JAX, where the forward pass costs no more
        return xp.smooth_sqrt(x)
    zero = x == 0
    return xp.where(zero, 0.0, xp.sqrt(xp.where(zero, 1.0, x)))


def ema(old: Array, new: Array, pair: tuple[Any, Any]) -> Array:
    """The average of ``old`` and ``new`` weighted by ``pair``, which is ``weights(beta)``."""
    return pair[0] * old + pair[1] * new


def choose(xp: Any, condition: Any, yes: Array, no: Array) -> Array:
    """``yes`` if ``condition`` (a bool, or a 0-d array when traced) holds, else ``no``.

    ``yes`` and ``no`` are arrays or tuples of arrays, or functions without arguments that compute
    these, and that are called where their result may be needed.
    """
    if isinstance(condition, bool):
        return _computed(yes if condition else no)
    yes, no = _computed(yes), _computed(no)
    return map_parts(lambda one, other: xp.where(condition, one, other), yes, no)


def _computed(value: Any) -> Any:
    return value() if callable(value) else value


def smaller(xp: Any, a: Any, b: Any) -> Any:
    """The smaller of two coefficients."""
    return choose(xp, a < b, a, b)


def at_least(xp: Any, x: Array, least: Any) -> Array:
    """The larger of ``x`` and ``least``; ``least`` where x is NaN."""
    return xp.where(x > least, x, least)


def count(xp: Any, x: Array) -> Array:
    """The number of elements, 0-d; computed, because one kernel may serve several shapes."""
    return xp.sum(xp.ones_like(x))


def kept(rule: Rule, slot: str, state: Any) -> bool:
    """Whether a slot is in the state, for a slot that an option can switch off.

    Raises:
        AttributeError: the rule declares no such slot.
    """
    if slot not in type(rule)._slots:
        raise AttributeError(f"{rule.name} declares no slot {slot}")
    return slot in vars(state)


def whole(function: Callable[..., Array]) -> Callable[..., Array]:
    """A function of a namespace and one whole matrix, in place of which no shard may be given.

    Its result has the shape of the matrix. Its other arguments are numbers and words. Where
    parameters are sharded, the namespace that a rule gets brings the matrix together.
    """

    @wraps(function)
    def met(xp: Any, matrix: Array, *args: Any, **kwargs: Any) -> Array:
        meet = getattr(xp, "whole", None)
        if meet is None:
            return function(xp, matrix, *args, **kwargs)
        return meet(function, xp, matrix, *args, **kwargs)

    return met


def norm(xp: Any, x: Array) -> Array:
    """Euclidean norm of ``x`` over all elements, 0-d."""
    return sqrt(xp, xp.sum(x * x))


def rms(xp: Any, x: Array) -> Array:
    """Root mean square of ``x`` over all elements, 0-d."""
    return sqrt(xp, xp.mean(x * x))


def sign(xp: Any, x: Array) -> Array:
    """The sign of ``x``: -1 or 1; x itself where that is a zero or NaN, for which libraries differ.

    What is selected is nearly always the same one: where neither torch nor the C++ compiler behind
    MLX makes vectors of a selection, the processor guesses it.
    """
    signs = getattr(xp, "sgn", None) or xp.sign  # of torch; array-api-compat's sign of it indexes
    return xp.where(xp.abs(x) > 0, signs(x), x)


def same_sign(xp: Any, a: Array, b: Array) -> Array:
    """Whether both are positive or both are negative; a product may be too small to tell."""
    return ((a > 0) & (b > 0)) | ((a < 0) & (b < 0))


def shrinkage(xp: Any, length: Array, most: Any) -> Array:
    """The factor that shortens a length to ``most``; 1 for a length of at most that."""
    within = length <= most
    return xp.where(within, 1.0, most / xp.where(within, 1.0, length))


def trust_ratio(xp: Any, size: Array, length: Array) -> Array:
    """``size / length``, 0-d; 1 where one of them is 0."""
    moves = (size > 0) & (length > 0)
    return xp.where(moves, size / xp.where(moves, length, 1.0), 1.0)


def _zeros_per_axis(xp: Any, param: Array, rule: Rule) -> tuple[Array, ...]:
    zeros = xp.zeros_like(param)
    if param.ndim < 2:
        return (zeros,)
    others = [tuple(a for a in range(param.ndim) if a != axis) for axis in range(param.ndim)]
    return tuple(xp.sum(zeros, axis=axes, keepdims=True) for axes in others)


def _shapes_per_axis(shape: tuple[int, ...], rule: Rule) -> tuple[tuple[int, ...], ...]:
    if len(shape) < 2:
        return (shape,)
    return tuple(
        tuple(size if a == axis else 1 for a, size in enumerate(shape))
        for axis in range(len(shape))
    )


initial_parameter = Initial(lambda xp, param, rule: param, dtype="parameter")
"""Initialiser of a slot: the parameter, in its dtype; every slot is a copy."""

scalar = Initial(
    lambda xp, param, rule: xp.sum(xp.zeros_like(param)), lambda shape, rule: (), dtype="compute"
)
"""Initialiser of a slot: one 0-d zero per parameter, in the compute dtype."""

per_axis = Initial(_zeros_per_axis, _shapes_per_axis)
"""Initialiser of a slot: a zero vector per axis, broadcastable to the parameter."""
