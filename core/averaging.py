"""Averaged parameters: reading the averages that ``Average`` keeps, and swapping them in.

    rule = samestep.Average(samestep.AdamW(lr=1e-3), average_decay=0.999)
    ...
    averages = samestep.averaged(rule, params, state)  # NumPy; in JAX: samestep.jax.averaged

In torch and MLX the averages are in the optimizer's own state. ``swapped`` puts them into a model:

    averages = {n: optimizer.state[p]["average"] for n, p in model.named_parameters()}
    assign = partial(model.load_state_dict, strict=False)
    with samestep.swapped(assign, model.state_dict(), averages):
        evaluate(model)

    params = model.parameters()
    averages = mlx.utils.tree_map(lambda p, kept: kept["average"], params, optimizer.state)
    with samestep.swapped(model.update, params, averages):
        evaluate(model)

Both functions know no framework: ``assign`` is the model's own function for setting parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import array_api_compat

from . import tree
from .arrays import cast, listed
from .rule import Rule, State

__all__ = ["averaged", "averages_in", "swapped"]


def averaged(rule: Rule, params: Any, state: State) -> Any:
    """The averaged parameters, in the dtypes of the parameters.

    Args:
        rule: an ``Average``, or a rule with one in it.
        params: the parameters, an array or a tree (dicts, lists, tuples) of arrays. For other
            trees of JAX use ``samestep.jax.averaged``.
        state: the state that ``rule.init`` or ``rule.update`` returned. In torch the averages are
            ``optimizer.state[param]["average"]``; in MLX ``optimizer.state[...]["average"]``.

    Returns:
        A tree shaped like ``params``. A parameter without an average, on another branch of a
        route, is returned itself.

    Raises:
        TypeError: the state is not a ``State``, or the parameters are not such a tree.
        ValueError: the rule keeps no average, or the state is another rule's.
    """
    kept = averages_in(rule, state)

    def average(path: tuple[Any, ...], param: Any) -> Any:
        if not hasattr(param, "dtype"):
            where = f"parameter {tree.dotted(path)!r}" if path else "params"
            raise TypeError(
                f"averaged: {where} is {type(param).__name__}; it must be an array or a tree "
                "(dicts, lists, tuples) of arrays; of JAX's other trees samestep.jax.averaged "
                "gives the averages"
            )
        found = tree.subtree(kept, path)
        if found is None:
            return param
        return cast(array_api_compat.array_namespace(param), found, param.dtype)

    return tree.rebuild(params, average)


def averages_in(rule: Rule, state: State) -> Any:
    """The averages in a rule's state: a tree like the parameters, in the dtype of the state.

    Raises:
        TypeError: ``state`` is not a state.
        ValueError: the rule keeps no average, or the state is another rule's.
    """
    if "average" not in rule.slots():
        raise ValueError(
            f"averaged: {rule!r} keeps no average; make it Average({rule.name}(...)), say"
        )
    if not isinstance(state, State):
        raise TypeError(
            f"averaged: the state is {type(state).__name__}; it must be what init() or update() of "
            "a rule or of an optimizer of samestep.jax returned. In torch the averages are "
            'optimizer.state[p]["average"]; in MLX tree_map(lambda p, kept: kept["average"], '
            "params, optimizer.state)"
        )
    if "average" not in state.slots:
        raise ValueError(
            f"averaged: the state has slots {listed(state.slots)}; {rule.name} keeps "
            f"{listed(rule.slots())}"
        )
    return state.slots["average"]


@contextmanager
def swapped(assign: Callable[[Any], Any], params: Any, averages: Any) -> Iterator[None]:
    """A context in which a model has the averages; the parameters are restored after it.

    They are restored after an exception too, and if ``assign`` fails for the averages.

    Args:
        assign: sets the parameters of a model: MLX's ``model.update``, torch's
            ``model.load_state_dict``, ``partial(nnx.update, model)`` of Flax.
        params: the parameters, as ``assign`` takes them. They are copied, because ``assign`` may
            write into them: ``model.state_dict()`` has the tensors of the model itself.
        averages: the averages, as ``assign`` takes them.
    """
    kept = tree.rebuild(params, _kept)
    try:
        assign(averages)
        yield
    finally:
        assign(kept)


def _kept(path: tuple[Any, ...], value: Any) -> Any:
    """A copy of an array, or of a tree that only its framework knows."""
    if array_api_compat.is_jax_array(value):  # nobody can write into it
        return value
    return deepcopy(value.detach() if hasattr(value, "detach") else value)
