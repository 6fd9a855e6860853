"""The point at which a model is evaluated, where that is not at its parameters.

    rule = samestep.Average(samestep.AdamW(lr=1e-3), average_decay=0.999)
    rule = samestep.ScheduleFreeAdamW(lr=0.0025)
    ...
    averages = samestep.averaged(rule, params, state)  # NumPy; in JAX: samestep.jax.averaged

In torch ``optimizer.eval()`` puts them into the model, and ``optimizer.train()`` takes them out. In
MLX ``swapped`` does:

    params = model.parameters()
    averages = samestep.averaged(optimizer.rule, params, optimizer.state)
    with samestep.swapped(model.update, params, averages):
        evaluate(model)

Both functions know no framework: ``assign`` is the model's own function for setting parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import array_api_compat

from . import tree
from .arrays import cast, compute_dtype, is_array, listed
from .coefficients import Record
from .kept import kept_by, rule_of
from .moves import pointed
from .rule import Rule, State
from .shaping import seen

__all__ = ["averaged", "evaluated", "evaluating", "swapped"]


def averaged(rule: Rule, params: Any, state: State | Mapping[str, Any]) -> Any:
    """The parameters with which to evaluate, in the dtypes of the parameters.

    Args:
        rule: a rule that has them: ``Average``, Schedule-Free, or a rule with one in it.
        params: the parameters, an array or a tree (dicts, lists, tuples) of arrays. For other
            trees of JAX use ``samestep.jax.averaged``.
        state: the state that ``rule.init`` or ``rule.update`` returned, or ``optimizer.state`` of
            MLX.

    Returns:
        A tree shaped like ``params``. A parameter that is evaluated as it is, on another branch of
        a route, is returned itself.

    Raises:
        TypeError: the state is no state, or the parameters are not such a tree.
        ValueError: the rule evaluates at the parameters, or the state is another rule's.
    """
    now = evaluating(rule, state)

    def point(path: tuple[Any, ...], param: Any) -> Any:
        if not hasattr(param, "dtype"):
            where = f"parameter {tree.dotted(path)!r}" if path else "params"
            raise TypeError(
                f"averaged: {where} is {type(param).__name__}; it must be an array or a tree "
                "(dicts, lists, tuples) of arrays; of JAX's other trees samestep.jax.averaged "
                "gives the averages"
            )
        own = rule_of(now, tree.dotted(path), param)
        if isinstance(state, State):
            slots = {name: tree.subtree(state.slots[name], path) for name in own.slots()}
        else:
            slots = tree.subtree(state, path) or {}
        if not own.has_point or not own.slots().keys() <= slots.keys():
            return param
        return evaluated(own, array_api_compat.array_namespace(param), param, slots)

    return tree.rebuild(params, point)


def evaluated(rule: Rule, xp: Any, param: Any, slots: Mapping[str, Any]) -> Any:
    """The point of evaluation of one parameter, computed as a step is, in its dtype."""
    dtype = compute_dtype(xp, param.dtype)
    state = {name: cast(xp, value, dtype) for name, value in slots.items()}
    whole = cast(xp, param, dtype)
    point = _point if _of_elements(rule) else seen(_point, kept_by(rule, param.ndim))
    found, _ = point(xp, rule, whole, whole, state, {}, None)
    return cast(xp, found, param.dtype)


def _point(
    xp: Any, rule: Rule, grad: Any, param: Any, slots: dict[str, Any], common: Any, s: Any
) -> tuple[Any, dict[str, Any]]:
    """The point of evaluation in the form of a step, which takes layouts and stacks apart."""
    return pointed(rule, param, Record(slots)), {}


def _of_elements(rule: Rule) -> bool:
    """Whether the point of a rule is one of the package's, each of which reads elements alone."""
    while type(rule).point is Rule.point:
        rule = rule.inside[0]
    return rule.is_own()


def evaluating(rule: Rule, state: State | Mapping[str, Any]) -> Rule:
    """The rule with its numbers at the last call.

    Raises:
        TypeError: ``state`` is not a state.
        ValueError: the rule evaluates at the parameters, or the state is another rule's.
    """
    if not rule.has_point:
        raise ValueError(
            f"averaged: {rule!r} keeps no average; make it Average({rule.name}(...)), say"
        )
    if isinstance(state, State):
        calls, shared = state.step, state.shared
        if rule.slots().keys() - state.slots.keys():
            raise ValueError(
                f"averaged: the state has slots {listed(state.slots)}; {rule.name} keeps "
                f"{listed(rule.slots())}"
            )
    elif isinstance(state, Mapping) and is_array(state.get("step")):
        calls, shared = state["step"], state.get("shared_state", {})
    else:
        raise TypeError(
            f"averaged: the state is {type(state).__name__}; it must be what init() or update() of "
            "a rule or of an optimizer of samestep.jax returned, or optimizer.state of MLX. In "
            "torch optimizer.eval() puts the averages into the model"
        )
    if rule.constant:
        return rule
    last = calls - 1
    withheld = {name: shared[name] for name in rule.withholds}
    return rule.withholding(withheld).at((last + abs(last)) // 2)  # 0 before the first


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
