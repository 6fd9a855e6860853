"""Every slot of every parameter in a state of optax, each found once, and nothing left over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy

import jax
from samestep import quirks
from samestep.arrays import known, listed
from samestep.checkpoints.state import CheckpointError
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .nodes import Node, States
from .places import Own, Place
from .tables import (
    BESIDE,
    CONTAINERS,
    COUNTS,
    FORM,
    INSIDE,
    KEPT,
    OURS,
    SHARED,
    SIGNS,
    TOLD,
    UNREAD,
    Kept,
)

__all__ = ["found", "shared_places"]

_FACTORED = ("v_row", "v_col", "v")


def found(states: States, rules: Iterable[Rule], *, foreign: bool) -> list[Own]:
    """Every parameter with the places of all its slots.

    Args:
        states: the state.
        rules: of each parameter.
        foreign: whether parts are refused that no rule of ours knows.

    Raises:
        CheckpointError: a slot is not there, or there twice; or there is more than the rules have.
    """
    pairs = enumerate(zip(states.params, rules, strict=True))
    owned = [_owned(states, at, path, rule) for at, (path, rule) in pairs]
    _refuse_containers(states, owned)
    _refuse_other_told(states, owned)
    _refuse_left(states, owned, foreign)
    return owned


def _owned(states: States, at: int, path: str, rule: Rule) -> Own:
    ours = [
        node
        for node in states.of_kinds(OURS)
        if not node.value.slots
        or any(states.entries(node, slot)[at] is not None for slot in node.value.slots)
    ]
    table: dict[str, Kept] = {}
    base = rule
    while isinstance(base, Wrapper) and not _has(ours, base):
        table |= _table(base, base._slots)
        _refuse_other_form(base)
        base = base.rule
    if ours:
        table |= {slot: Kept((OURS,), slot) for slot in base.slots()}
    else:
        table |= _table(base, base.slots())
        _refuse_other_form(base)
    places = {slot: _found_once(states, at, path, base, slot, kept) for slot, kept in table.items()}
    return Own(path, states.params[path], rule, base, places)


def _has(ours: list[Node], rule: Rule) -> bool:
    return any({*rule.slots()} <= {*node.value.slots} for node in ours)


def _table(rule: Rule, slots: Iterable[str]) -> dict[str, Kept]:
    """The places in which optax keeps these slots of a rule."""
    if rule.name not in KEPT:
        raise CheckpointError(
            f"{rule.name} has no equal in optax; those that have are {', '.join(sorted(KEPT))}"
        )
    kept = KEPT[rule.name]
    signs = {slot: kept[of] for slot, of in SIGNS.get(rule.name, {}).items()}
    return _chosen({**kept, **signs}, slots, rule)


def _chosen(table: Mapping[str, Kept], names: Iterable[str], rule: Rule) -> dict[str, Kept]:
    wanted = [*names]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise CheckpointError(f"optax keeps no {listed(missing)} for {rule!r}")
    return {name: table[name] for name in wanted}


def _refuse_other_form(rule: Rule) -> None:
    """Refuse a rule whose slots are other quantities than optax's."""
    preset = type(rule).dialects.get("optax")
    for name in sorted(FORM & rule.fields().keys()):
        if preset is None:
            break
        theirs = preset.values.get(name, rule.fields()[name].default)
        if rule._values[name] != theirs:
            raise CheckpointError(
                f"{rule!r}: {name} is {rule._values[name]!r} here and {theirs!r} in optax; give "
                f'{rule.name}(..., like="optax")'
            )
    mine = {quirk for quirk in quirks.named(type(rule), rule.quirks) if quirk.changes_state}
    theirs = {quirk for quirk in (preset.quirks if preset else ()) if quirk.changes_state}
    for quirk in sorted(mine ^ theirs, key=lambda quirk: quirk.name):
        here, there = quirk.said(rule)[:: 1 if quirk in mine else -1]
        raise CheckpointError(
            f'{rule!r} {here}, and optax {there}; give {rule.name}(..., like="optax")'
        )
    if getattr(rule, "growth_rate", math.inf) != math.inf:
        raise CheckpointError(f"{rule!r}: optax has no growth_rate, and keeps no d_max for it")


def _found_once(states: States, at: int, path: str, rule: Rule, slot: str, kept: Kept) -> Place:
    """The one place where a slot of a parameter is."""
    factored = kept.states == ("FactoredState",)
    fields = _FACTORED if factored else (kept.field,)
    places = [
        Place(node, kept, fields, entries)
        for node in states.of_kinds(*kept.states)
        if (entries := tuple(_entry(states, node, f, at, kept) for f in fields))[0] is not None
    ]
    if len(places) != 1:
        _refuse_times(states, f"slot {slot} of parameter {path!r} of {rule!r}", kept, places)
    return _of_factored(rule, states.params[path], places[0]) if factored else places[0]


def _entry(states: States, node: Node, field: str, at: int, kept: Kept) -> Any:
    return node.held(field) if kept.once else states.entries(node, field)[at]


def _refuse_times(states: States, what: str, kept: Kept, places: list[Place]) -> None:
    where = f" ({', '.join(place.node.place for place in places)})" if places else ""
    raise CheckpointError(
        f"{what} is {len(places)} times in the state{where}; it must be once, as {kept.field} of "
        f"{' or '.join(kept.states)}; there is: {states.listed()}"
    )


def _of_factored(rule: Rule, param: Any, place: Place) -> Place:
    """Rows and columns of factored parameters, and the full average of the others."""
    shapes = rule.slots()["v"].init.shapes
    factored = shapes is not None and len(shapes(tuple(param.shape), rule)) > 1
    part = slice(0, 2) if factored else slice(2, 3)
    return place._replace(fields=place.fields[part], entries=place.entries[part])


def shared_places(states: States, owned: list[Own]) -> dict[str, Place]:
    """The places of the state that all parameters share, by name."""
    places: dict[str, Place] = {}
    for own in owned:
        for name, kept in _shared_table(own).items():
            if name not in places:
                places[name] = _shared_once(states, own, name, kept)
    return places


def _shared_table(own: Own) -> dict[str, Kept]:
    """The places of the shared state of a parameter's rule."""
    table: dict[str, Kept] = {}
    for wrapper in own.wrappers:
        table |= _chosen(SHARED.get(wrapper.name, {}), wrapper._shared, wrapper)
    names = own.base.shared()
    if any(node.ours for node in own.nodes):
        return table | {name: Kept((OURS,), name) for name in names}
    return table | _chosen(SHARED.get(own.base.name, {}), names, own.base)


def _shared_once(states: States, own: Own, name: str, kept: Kept) -> Place:
    nodes = [node for node in own.nodes if node.kind in kept.states]
    places = [
        Place(node, kept, (kept.field,), (held,))
        for node in nodes or states.of_kinds(*kept.states)
        for held in [node.value.shared[name] if node.ours else getattr(node.value, kept.field)]
    ]
    if len(places) != 1:
        _refuse_times(states, f"{name} of {own.rule!r}", kept, places)
    return places[0]


def _refuse_containers(states: States, owned: list[Own]) -> None:
    """Raise if a part of the state steps in another way than the given rules."""
    around = {wrapper.name for own in owned for wrapper in own.wrappers}
    for kind, wrapper in CONTAINERS.items():
        count = len(states.of_kinds(kind))
        if count > 1 or (count and wrapper not in around):
            raise CheckpointError(
                f"the state has {kind} {count} times, and the rule is {_rules(owned)}; it belongs "
                f"to one {wrapper}(...) around the rule"
            )
        if wrapper in around and not count:
            raise CheckpointError(f"{wrapper} needs {kind}; the state has {states.listed()}")


def _refuse_other_told(states: States, owned: list[Own]) -> None:
    """Raise if a number in the state, which is the transformation's, is not that of a rule."""
    for own in owned:
        for rule in (*own.wrappers, own.base):
            kind, field, name, at = TOLD.get(rule.name, ("", "", "", None))
            for node in states.of_kinds(kind):
                held = numpy.asarray(getattr(node.value, field))
                given = rule.hypers[name] if at is None else rule.hypers[name][at]
                if held != numpy.asarray(known(given), held.dtype):
                    raise CheckpointError(
                        f"{node.place}.{field} is {float(held):.7g}, with which optax has made the "
                        f"transformation; for it, {rule!r} has {name}={rule.hypers[name]!r}"
                    )


def _rules(owned: list[Own]) -> str:
    return listed({repr(own.rule): 0 for own in owned})


def _refuse_left(states: States, owned: list[Own], foreign: bool) -> None:
    """Raise if state would get lost, or if the rule would not have written it."""
    used = _used(states, owned)
    kinds = {kind for table in KEPT.values() for kept in table.values() for kind in kept.states}
    for node in states.nodes:
        if node.kind in BESIDE or not (foreign or node.kind in kinds):
            continue
        left = _unused(node, node.kind in kinds, used.get(node.place, set()))
        if left:
            raise CheckpointError(
                f"{node.place} is {node.kind}, and {listed(left)} of it is no slot of "
                f"{_rules(owned)}; there is: {states.listed()}"
            )


def _used(states: States, owned: list[Own]) -> dict[str, set[str]]:
    """The fields that hold something of the rules, by part."""
    slots = [place for own in owned for place in own.places.values()]
    used: dict[str, set[str]] = {}
    for place in (*slots, *shared_places(states, owned).values()):
        fields = _FACTORED if place.node.kind == "FactoredState" else place.fields
        used.setdefault(place.node.place, set()).update(fields)
    return used


def _unused(node: Node, keeps: bool, used: set[str]) -> list[str]:
    """Fields with arrays that are not slots."""
    if node.ours:
        names: Iterable[str] = node.value.slots
    elif node.kind in INSIDE and node.kind not in CONTAINERS and not keeps:
        return []
    elif node.fields is None:
        return [node.kind]
    else:
        apart = {*COUNTS, *UNREAD, INSIDE.get(node.kind)}
        names = [name for name in node.fields if name not in apart]
    return [name for name in names if name not in used and jax.tree.leaves(node.held(name))]
