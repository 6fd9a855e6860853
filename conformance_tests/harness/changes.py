"""Steps of NumPy arrays as changes, the form in which optax's transformations return them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import array_api_compat.numpy as xp

from samestep import step as stepping
from samestep.rule import Rule, State

__all__ = ["changed"]


def changed(
    rule: Rule, grads: Mapping[str, Any], params: Mapping[str, Any], state: State
) -> tuple[dict[str, Any], State]:
    """The change of every parameter in a step, and the new state; all have gradients."""
    entries = []
    for path, param in params.items():
        own = rule.of(path, param.shape)
        slots = {name: state.slots[name][path] for name in own.slots()}
        entries.append(stepping.entry(own, xp, path, state.step, grads[path], param, slots))
    results, shared = stepping.run(xp, entries, state.shared, step=stepping.change)
    found = dict(zip(params, results, strict=True))
    slots = {name: {**old} for name, old in state.slots.items()}
    for path, (_, new) in found.items():
        for name, value in new.items():
            slots[name][path] = value
    return {path: change for path, (change, _) in found.items()}, State(
        state.step + 1, slots, shared
    )
