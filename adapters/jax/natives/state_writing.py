"""A checkpoint as a state of optax, and as parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp
from samestep import step as stepping
from samestep.arrays import listed
from samestep.checkpoints.description import made
from samestep.checkpoints.state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Wanted,
    common_count,
    matched,
)
from samestep.checkpoints.tensor import Tensor, tensors
from samestep.checkpoints.trees import check_value

from . import injected
from .counting import period, recounted, since_sync
from .finding import found, shared_places
from .nodes import Node, States, like, rebuilt
from .places import Own, Place
from .tables import SIGNS

__all__ = ["to_optax", "to_optax_params"]

Changes = dict[str, dict[str, Any]]
"""The new fields of each part, by its place."""


def to_optax(saved: Checkpoint, state: Any, params: Any) -> Any:
    """A state of optax like a given one, with the values of a checkpoint.

    ``to_optax_params`` gives the parameters of the checkpoint. Numbers that are injected become
    those of the checkpoint; scheduled ones until the next step asks the schedule.

    Args:
        saved: the checkpoint.
        state: a state of the transformation that is to go on, such as ``init`` returns.
        params: the parameters; with ``optax.lookahead`` its ``LookaheadParams``.

    Raises:
        CheckpointError: it does not fit; nothing has been changed.
    """
    states = States(params, state)
    mine = _matched(saved, states)
    owned = found(states, [made(own.rule) for own in mine.values()], foreign=False)
    return rebuilt(state, _changes(states, owned, saved, common_count("optax", mine)))


def to_optax_params(saved: Checkpoint, params: Any) -> Any:
    """The parameters in a checkpoint, in a tree like the given one.

    Args:
        saved: the checkpoint.
        params: a tree of parameters; or ``optax.LookaheadParams``, whose slow weights are then the
            checkpoint's too.

    Raises:
        CheckpointError: it is not of these parameters, or has no values of them.
    """
    states = States(params)
    mine = _matched(saved, states)
    for path, own in mine.items():
        check_value(path, own, states.params[path])

    def tree(values: Mapping[str, Tensor | None]) -> Any:
        return states.structure.unflatten(
            [_value(path, values[path]).like(array) for path, array in states.params.items()]
        )

    fast = tree({path: own.value for path, own in mine.items()})
    if not isinstance(params, optax.LookaheadParams):
        return fast
    slow = tree({path: (own.slots or {}).get("slow", own.value) for path, own in mine.items()})
    return optax.LookaheadParams(fast=fast, slow=slow)


def _value(path: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise CheckpointError(f"the checkpoint has no value of parameter {path!r}")
    return value


def _matched(saved: Checkpoint, states: States) -> dict[str, ParameterState]:
    """The state of these parameters in a checkpoint, under the rules that it names."""
    try:
        rules: dict[str, Any] = {path: made(own.rule) for path, own in saved.parameters.items()}
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    wanted = {path: Wanted(rules.get(path), array) for path, array in states.params.items()}  # type: ignore[arg-type]  # refused first where there is none
    return matched(saved, wanted, saved.shared)


def _changes(states: States, owned: list[Own], saved: Checkpoint, step: int) -> Changes:
    """The fields of each part of a state that become others."""
    every, skipped = period(owned), _skipped(owned, saved)
    changes: Changes = {node.place: {} for node in states.nodes}
    for node, field, tree in _trees(states, owned, saved):
        _change(changes, node, field, tree)
    for name, place in shared_places(states, owned).items():
        if name in saved.shared:
            _change_shared(changes, name, place, saved.shared[name])
    for node in states.nodes:
        mine = changes[node.place]
        mine |= recounted(node, step, every, skipped)
        if node.injects:
            mine["hyperparams"] = injected.given(states, node, owned, saved)
        if node.kind == "LookaheadState":
            since = next((since_sync(own, step, skipped) for own in owned), 0)
            mine["steps_since_sync"] = like(since, node.value.steps_since_sync)
    return changes


def _skipped(owned: list[Own], saved: Checkpoint) -> int:
    """The calls that a wrapper, which is optax's here, has skipped."""
    names = {w.withheld for own in owned for w in own.wrappers if w.withheld}
    return sum(int(saved.shared[name].values()) for name in names & saved.shared.keys())


def _change(changes: Changes, node: Node, field: str, new: Any, of: str = "slots") -> None:
    """Note a new field; in samestep's own state it is an entry of ``slots`` or ``shared``."""
    mine = changes[node.place]
    if node.ours:
        mine[of] = {**mine.get(of, getattr(node.value, of)), field: new}
    else:
        mine[field] = new


def _change_shared(changes: Changes, name: str, place: Place, saved: Tensor) -> None:
    """Note a new number; optax may have one for several of ours, which must then agree."""
    field, node = place.fields[0], place.node
    new = _cast(saved.like(xp.zeros(())), place.entries[0], name)
    held = changes[node.place]
    if not node.ours and field in held and not bool(xp.all(held[field] == new)):
        raise CheckpointError(
            f"{name} is {float(new)!r} in the checkpoint; optax has one number, {field}, for it "
            f"and for another that is {float(held[field])!r}"
        )
    _change(changes, node, field, new, of="shared")


def _trees(states: States, owned: list[Own], saved: Checkpoint) -> Iterator[tuple[Node, str, Any]]:
    """Every field that holds slots, with the slots of the checkpoint."""
    arrays: dict[tuple[str, str], dict[int, list[Any]]] = {}
    for at, own in enumerate(owned):
        kept = saved.parameters[own.path].slots
        slots = tensors(stepping.init_slots(own.rule, xp, own.param)) if kept is None else kept
        for slot, place in own.places.items():
            if own.has_sign_only(slot):
                _refuse_other_sign(own, slot, slots)
                continue
            for field, mine in _native(own, slot, slots, place).items():
                arrays.setdefault((place.node.place, field), {})[at] = mine
    nodes = {node.place: node for node in states.nodes}
    places = [place for own in owned for place in own.places.values() if place.kept.once]
    once = {(place.node.place, place.kept.field) for place in places}
    for (node_place, field), new in arrays.items():
        node = nodes[node_place]
        if (node_place, field) in once:
            yield node, field, _alike(f"{node_place}.{field}", [one for (one,) in new.values()])
            continue
        leaves = [
            leaf
            for at, entry in enumerate(states.entries(node, field))
            for leaf in new.get(at, jax.tree.leaves(entry))
        ]
        yield node, field, jax.tree.unflatten(jax.tree.structure(node.held(field)), leaves)


def _alike(what: str, values: list[Any]) -> Any:
    """The number of all parameters, of which optax has one."""
    if any(bool(value != values[0]) for value in values):
        raise CheckpointError(
            f"{what} is one number for all parameters, which have several in the checkpoint: "
            f"{listed({repr(float(value)): 0 for value in values})}"
        )
    return values[0]


def _native(own: Own, slot: str, slots: Mapping[str, Any], place: Place) -> dict[str, list[Any]]:
    """By field, the arrays of a slot in the shapes and dtypes of the existing arrays."""
    value = slots[slot]
    parts = value if isinstance(value, tuple) else (value,)
    old = place.arrays
    if len(old) != len(parts):
        raise CheckpointError(
            f"slot {slot} of parameter {own.path!r} has {len(parts)} parts, and {len(old)} in "
            f"{place.node.place}"
        )
    what = f"slot {slot} of parameter {own.path!r}"
    new = []
    for tensor, leaf in zip(parts, old, strict=True):
        array = own.fitted(slot, tensor.like(leaf), tuple(leaf.shape))
        share = own.share(slot, lambda name, leaf=leaf: slots[name].like(leaf))  # type: ignore[misc]
        new.append(_cast(place.signed(array) * share, leaf, what))
    several = len(place.fields) > 1  # of which each has one array
    shares = [[array] for array in new] if several else [new]
    return dict(zip(place.fields, shares, strict=True))


def _refuse_other_sign(own: Own, slot: str, slots: Mapping[str, Any]) -> None:
    """Refuse a slot that cannot be told from the sign of another."""
    other = SIGNS[own.base.name][slot]
    if numpy.any(numpy.sign(slots[slot].values()) != numpy.sign(slots[other].values())):
        raise CheckpointError(
            f"slot {slot} of parameter {own.path!r} has other signs than {other}, which is all "
            "that optax keeps of it"
        )


def _cast(array: Any, old: Any, what: str) -> Any:
    """An array in the dtype of the array that it replaces, if it is exact in that dtype."""
    if not hasattr(old, "dtype") or array.dtype == old.dtype:
        return array
    cast = array.astype(old.dtype)
    if bool(xp.any(cast.astype(array.dtype) != array)):
        raise CheckpointError(
            f"{what} is {array.dtype} in the checkpoint and {old.dtype} in the state, which "
            "cannot hold its values"
        )
    return cast
