"""Averaged parameters: what ``Average`` keeps, in the place of the parameters and back.

    rule = samestep.Average(samestep.AdamW(lr=1e-3), average_decay=0.999)
    ...
    with samestep.swapped(model.update, params, samestep.averaged(rule, params, state)):
        evaluate(model)

Neither knows a framework; ``assign`` is the model's own way of taking parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat

from . import tree
from .arrays import cast
from .rule import Rule, State

__all__ = ["averaged", "swapped"]


def averaged(rule: Rule, params: Any, state: State) -> Any:
    """The averaged parameters, in the dtypes of the parameters.

    Args:
        rule: an ``Average``, or a rule with one in it.
        params: the parameters, an array or a tree of arrays.
        state: of ``rule.update``, or of an optimizer of ``samestep.jax``.

    Returns:
        A tree shaped like ``params``. A parameter that is not averaged, on another branch of a
        route, is itself in it.

    Raises:
        ValueError: the rule keeps no average.
    """
    if "average" not in rule.slots():
        raise ValueError(
            f"averaged: {rule!r} keeps no average; make it Average({rule.name}(...)), say"
        )
    kept = state.slots["average"]

    def average(path: tuple[Any, ...], param: Any) -> Any:
        found = tree.subtree(kept, path)
        if found is None or not hasattr(param, "dtype"):  # a module of another library, as a whole
            return param if found is None else found
        return cast(array_api_compat.array_namespace(param), found, param.dtype)

    return tree.rebuild(params, average)


@contextmanager
def swapped(assign: Callable[[Any], Any], params: Any, averages: Any) -> Iterator[None]:
    """Averages in the place of the parameters inside; whatever happens there, not afterwards.

    Args:
        assign: puts parameters into a model: MLX's ``model.update``, torch's
            ``model.load_state_dict``, ``partial(nnx.update, model)`` of Flax.
        params: the parameters as ``assign`` takes them; in torch copies, since it writes into them.
        averages: the averages, likewise.
    """
    assign(averages)
    try:
        yield
    finally:
        assign(params)
