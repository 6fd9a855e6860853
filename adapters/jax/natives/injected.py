"""The numbers that ``optax.inject_hyperparams`` keeps in its state, and those on schedules."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy

from samestep.arrays import listed
from samestep.checkpoints.description import numbers, schedule_of
from samestep.checkpoints.state import Checkpoint
from samestep.rule import Rule

from .nodes import Node, States, like
from .places import Own
from .tables import INJECTED

__all__ = ["given", "scheduled", "taken"]


def taken(states: States, own: Own) -> dict[str, Any]:
    """The injected numbers of a rule; a number that differs by rounding only is unchanged."""
    found: dict[str, Any] = {}
    for node in _above(states, own):
        for name, array in node.value.hyperparams.items():
            target = _target(own.rule, name)
            if target is None:
                continue
            ours, at = target
            now = found.get(ours, own.rule.hypers[ours])
            old = now if at is None else now[at]
            new = old if numpy.asarray(array) == numpy.asarray(old, array.dtype) else float(array)
            found[ours] = new if at is None else (*now[:at], new, *now[at + 1 :])
    return found


def scheduled(states: States, own: Own) -> dict[tuple[str, int | None], str]:
    """The numbers of a rule that the state shows to be schedules of optax's."""
    found: dict[tuple[str, int | None], str] = {}
    around = {above.place for mine in own.nodes for above in mine.above}
    for node in states.of_kinds("ScaleByScheduleState"):
        own_part = (
            around if own.nodes else {a.place for a in node.above if a.kind != "PartitionState"}
        )
        if own_part.issuperset(above.place for above in node.above):
            found["lr", None] = "<optax.scale_by_schedule>"
    for node in _above(states, own):
        for name in getattr(node.value, "hyperparams_states", ()):
            if (target := _target(own.rule, name)) is not None:
                found[target] = f"<optax.inject_hyperparams, {name}>"
    return found


def given(states: States, node: Node, owned: list[Own], saved: Checkpoint) -> dict[str, Any]:
    """The injected numbers of a part as a checkpoint has them.

    What it has several of stays, with a warning that is as from who calls ``to_optax``. So is the
    warning of a schedule that becomes a number.
    """
    values, lost = _several(states, node, owned, saved), _lost(states, node, owned, saved)
    found = dict(node.value.hyperparams)
    for name, array in node.value.hyperparams.items():
        if name in lost:
            warnings.warn(
                f"{node.place}.hyperparams takes {name} as a number; in the checkpoint it is "
                f"{lost[name]}, a schedule",
                UserWarning,
                stacklevel=4,
            )
        if len(values[name]) == 1:
            found[name] = like(values[name].pop(), array)
        elif values[name]:
            warnings.warn(
                f"{node.place}.hyperparams keeps its own {name}; in the checkpoint its parameters "
                f"have {listed(map(repr, sorted(values[name])))}",
                UserWarning,
                stacklevel=4,
            )
    return found


def _several(
    states: States, node: Node, owned: list[Own], saved: Checkpoint
) -> dict[str, set[Any]]:
    """The values in a checkpoint of the parameters that a part injects into, by optax's names."""
    found: dict[str, set[Any]] = {name: set() for name in node.value.hyperparams}
    for own in owned:
        if node.place not in {above.place for above in _above(states, own)}:
            continue
        there = numbers(own.rule, saved.parameters[own.path].rule)
        for name, values in found.items():
            if (target := _target(own.rule, name)) is not None:
                values.add(_at(there, target))
    return found


def _lost(states: States, node: Node, owned: list[Own], saved: Checkpoint) -> dict[str, str]:
    """The schedules in a checkpoint of what is injected as a number, by optax's names."""
    found = {}
    names = node.value.hyperparams.keys() - {*getattr(node.value, "hyperparams_states", ())}
    for own in owned:
        if node.place not in {above.place for above in _above(states, own)}:
            continue
        for name in names:
            target = _target(own.rule, name)
            there = target and schedule_of(own.rule, saved.parameters[own.path].rule, *target)
            if there:
                found[name] = there
    return found


def _above(states: States, own: Own) -> list[Node]:
    """The parts that inject numbers into a parameter's rule."""
    everywhere = [node for node in states.nodes if node.injects]
    if not own.nodes:
        return everywhere if len(everywhere) == 1 else []
    above = {node.place for mine in own.nodes for node in mine.above}
    return [node for node in everywhere if node.place in above]


def _target(rule: Rule, name: str) -> tuple[str, int | None] | None:
    """A number of a rule, and its place in a tuple, by its name in ``inject_hyperparams``."""
    ours, at = INJECTED.get(name, (name, None))
    if name == "decay" and "alpha" not in rule.hypers:
        return None
    value = rule.hypers.get(ours)
    value = value[at] if isinstance(value, tuple) and at is not None else value
    return (ours, at) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _at(values: Mapping[str, Any], target: tuple[str, int | None]) -> Any:
    name, at = target
    return values[name] if at is None else values[name][at]
