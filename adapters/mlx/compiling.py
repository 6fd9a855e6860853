"""A kernel compiled by ``mx.compile``, and the form of the numbers that it takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mlx.core as xp
from samestep import step as stepping
from samestep.rule import Rule

__all__ = ["as_arrays", "compiled"]


def as_arrays(values: Any, param: xp.array) -> Any:
    """Scalars as 0-d arrays, so that a change of value does not compile again."""
    if isinstance(values, dict):
        return {name: as_arrays(value, param) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(as_arrays(value, param) for value in values)
    if isinstance(values, bool):
        return xp.array(values)
    return xp.array(values, stepping.compute_dtype(xp, param.dtype))


@cache
def compiled(function: Callable[..., Any], xp: Any, rule: Rule) -> Callable[..., Any]:
    """The kernel, compiled once per rule and dtype, and per shape if the rule may read shapes.

    A compiled function without shapes keeps the numbers that were computed from the first one's,
    and cannot have the parts of a product.
    """
    # of the package's rules, those that see no axes do not multiply
    shaped = rule.sees_axes or not _is_own(rule) or getattr(function, "stacks", False)
    made: Callable[..., Any] = xp.compile(partial(function, xp, rule), shapeless=not shaped)
    return made if shaped else stepping.as_vectors(xp, made)


def _is_own(rule: Rule) -> bool:
    """Whether a rule and the rules inside are the package's, of which none reads a size."""
    return rule.is_own() and all(map(_is_own, rule.inside))
