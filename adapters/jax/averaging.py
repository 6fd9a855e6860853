"""Averaged parameters in JAX's own trees."""

from __future__ import annotations

from typing import Any

import jax.numpy as xp
from samestep.averaging import averages_in
from samestep.rule import Rule, State

from .trees import flattened, joined, matched

__all__ = ["averaged"]


def averaged(rule: Rule, params: Any, state: State) -> Any:
    """The averaged parameters, in the dtypes of the parameters.

    Args:
        rule: an ``Average``, or a rule with one in it: ``optimizer.rule``.
        params: the parameters, any pytree of arrays, of registered classes too.
        state: of ``optimizer.init`` or ``optimizer.update``.

    Returns:
        A pytree like ``params``. A parameter that is not averaged, on another branch of a route,
        is itself in it.

    Raises:
        TypeError: ``state`` is not a state.
        ValueError: the rule keeps no average, or the state is that of another rule or tree.
    """
    kept = averages_in(rule, state)
    paths, structure = flattened(params)
    found = matched(rule, "slot average of the state", kept, paths, structure)
    return structure.unflatten(
        leaf if average is None else _in_dtype(average, xp.result_type(leaf))
        for (_, leaf), average in zip(paths, found, strict=True)
    )


def _in_dtype(average: Any, dtype: Any) -> Any:
    """An average in the dtype of its parameter, which may be complex."""
    pair = xp.issubdtype(dtype, xp.complexfloating)
    return xp.asarray(joined(average) if pair else average, dtype)
