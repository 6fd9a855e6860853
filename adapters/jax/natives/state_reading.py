"""A state of optax as a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as xp
from samestep import step as stepping
from samestep.checkpoints.description import on_schedules
from samestep.checkpoints.state import Checkpoint, CheckpointError, ParameterState
from samestep.checkpoints.tensor import Tensor, tensors

from . import injected
from .counting import counts
from .finding import found, shared_places
from .nodes import States
from .places import Own
from .rules_given import rules_of

__all__ = ["from_optax"]


def from_optax(rule: Any, params: Any, state: Any, *, step: int | None = None) -> Checkpoint:
    """Parameters and a state of optax as a checkpoint of a rule.

    Args:
        rule: the rule of the transformation, such as ``samestep.AdamW(lr=1e-3, like="optax")``;
            for ``optax.partition`` a ``samestep.route``, or a dict of rules by label.
        params: the parameters; with ``optax.lookahead`` its ``LookaheadParams``.
        state: the state that ``init`` or ``update`` returned.
        step: how many steps have been taken, where no part of the state counts them.

    Raises:
        CheckpointError: a part of the state is not there, or there twice; no rule of ours keeps it;
            steps are counted nowhere, or differently in two places.
        TypeError: ``rule`` is not a rule, or the state is traced.
    """
    states = States(params, state)
    owned = found(states, rules_of(rule, states), foreign=True)
    parameters = {}
    for own, count in zip(owned, counts(states, owned, step), strict=True):
        now, value = own.rule.replace(**injected.taken(states, own)), Tensor.of(own.param)
        one = ParameterState.of(now, own.param, count, tensors(_slots(own)), value)
        described = on_schedules(one.rule, injected.scheduled(states, own))
        parameters[own.path] = replace(one, rule=described)
    return Checkpoint(parameters, _shared(states, owned), "jax")


def _slots(own: Own) -> dict[str, Any]:
    """The slots of a parameter, in our shapes and with our signs."""
    slots: dict[str, Any] = {}
    for slot, place in own.places.items():
        arrays = [place.signed(array) for array in place.arrays]
        shapes, several = own.shapes(slot)
        if len(arrays) != len(shapes):
            raise CheckpointError(
                f"slot {slot} of parameter {own.path!r} has {len(arrays)} parts; it must have "
                f"{len(shapes)}"
            )
        parts = [own.fitted(slot, *pair) for pair in zip(arrays, shapes, strict=True)]
        if place.kept.times:
            share = own.share(slot, lambda name: own.places[name].arrays[0])
            parts = [xp.where(share > 0, part / share, 0) for part in parts]
        if own.has_sign_only(slot):
            parts = [xp.sign(part) for part in parts]
        slots[slot] = tuple(parts) if several else parts[0]
    return slots


def _shared(states: States, owned: list[Own]) -> dict[str, Tensor]:
    wide = stepping.widest(xp, [own.param for own in owned]) if owned else xp.float32
    return {
        name: Tensor.of(xp.asarray(place.entries[0], wide))
        for name, place in shared_places(states, owned).items()
    }
