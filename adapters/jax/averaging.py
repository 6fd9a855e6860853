"""The point at which a model is evaluated, in JAX's own trees."""

from __future__ import annotations

from typing import Any

import jax.numpy as xp
from samestep.averaging import evaluated, evaluating
from samestep.kept import rule_of
from samestep.rule import Rule, State

from .trees import as_complex, dotted, flattened, is_complex, matched, parts, real

__all__ = ["averaged"]


def averaged(rule: Rule, params: Any, state: State) -> Any:
    """The parameters with which to evaluate, in the dtypes of the parameters.

    Args:
        rule: a rule that has them, ``Average`` or Schedule-Free, or has one in it:
            ``optimizer.rule``.
        params: the parameters, any pytree of arrays, of registered classes too.
        state: of ``optimizer.init`` or ``optimizer.update``.

    Returns:
        A pytree like ``params``. A parameter that is evaluated as it is, on another branch of a
        route, is itself in it.

    Raises:
        TypeError: ``state`` is not a state.
        ValueError: the rule evaluates at the parameters, or the state is that of another rule or
            tree.
    """
    now = evaluating(rule, state)
    paths, structure = flattened(params)
    slots = {
        name: matched(rule, f"slot {name} of the state", state.slots[name], paths, structure)
        for name in sorted(rule.slots())
    }

    def point(place: int, path: Any, leaf: Any) -> Any:
        own = rule_of(now, dotted(path), leaf)
        if not own.has_point:
            return leaf
        leaf = xp.asarray(leaf, xp.result_type(leaf))
        kept = {name: parts(slots[name][place]) for name in own.slots()}
        found = evaluated(own, xp, real(leaf), kept)
        return as_complex(found) if is_complex(leaf) else found

    return structure.unflatten(point(place, *pair) for place, pair in enumerate(paths))
