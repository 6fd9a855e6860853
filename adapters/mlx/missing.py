"""The parameters that an MLX optimizer knows, by the calls that they have missed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import mlx.core as xp
from samestep.arrays import listed
from samestep.checks import check_shared
from samestep.counts import MISSED, Form, Histories, split, withheld
from samestep.rule import Rule

from .trees import leaves

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["BY_NAME", "OWN", "Seen", "begun", "counter", "label", "late"]

OWN = ("step", "learning_rate", "shared_state")
"""Entries of the state in addition to the parameters' entries."""

BY_NAME = Form(lambda labels: "\n".join(sorted(labels)), lambda text: text.split("\n"))
"""A key names parameters by their paths, since others may join them at any step."""

LABELS = str.maketrans({".": "/", "/": "~1", "~": "~0", "\n": "~2"})


def label(path: str) -> str:
    """A path in a key, one to one; a dot would divide the key where MLX flattens a state."""
    return path.translate(LABELS)


def counter(count: Any) -> xp.array:
    """A count as an array of the state."""
    return count if isinstance(count, xp.array) else xp.array(count, xp.int64)


class Seen:
    """The histories of an optimizer's last call, which are usually those of the next."""

    def __init__(self) -> None:
        self.of: Any = None
        self.last: Histories | None = None
        self.shared: dict[str, Any] = {}
        """The shared state that the call left, and a copy, since ``mx.compile`` writes into it."""
        self.copy: dict[str, Any] = {}

    def left(self, shared: dict[str, Any], traced: bool) -> None:
        """Note the shared state that a call leaves."""
        self.shared, self.copy = ({}, {}) if traced else (shared, {**shared})

    def refuse_stale(self, optimizer: RuleOptimizer) -> None:
        """Raise if the counts of missed calls are the last call's, where the step is another.

        That is so after ``optimizer.state.update(saved)``, where nothing was missed in ``saved``.
        """
        shared = optimizer.state.get("shared_state")
        missed = split(self.copy)[1]
        same = shared is self.shared and all(shared.get(key) is missed[key] for key in missed)
        if missed and same:
            raise ValueError(
                f"{optimizer.rule.name}: the state's step was replaced, and the counts of missed "
                "calls, which belong to the step before, were not: shared_state has "
                f"{listed(map(repr, missed))}. Replace the whole state (optimizer.state = saved), "
                "or remove these counts from shared_state: parameters have then missed nothing"
            )

    def histories(
        self,
        optimizer: RuleOptimizer,
        paths: list[str],
        params: Mapping[str, xp.array],
        step: Any,
        common: Mapping[str, Any],
        missed: dict[str, Any],
    ) -> tuple[Histories | None, dict[str, Any]]:
        """The parameters by the calls that they miss, if any does, and the counts of these calls.

        A parameter of a rule without slots has no state to be known by; it counts calls.

        Args:
            optimizer: the optimizer, with its state before the call.
            paths: the parameters that have a gradient.
            params: all parameters that are given.
            step: the calls so far.
            common: the shared state of the rule.
            missed: the counts of missed calls.
        """
        now = paths, [*common, *missed], optimizer.rule.withholds
        left = all(value is self.copy.get(name) for name, value in common.items())
        if paths and not (left and now == self.of):
            check_shared(optimizer.rule, common)
        if now == self.of:
            return self.last, missed
        known, present = begun(optimizer), _with_slots(optimizer.rule, paths, params)
        new = present - known
        missed = _late(optimizer, known, new, step, common, missed)
        absent = known - present
        members = sorted(map(label, known | new))
        self.last = None
        if absent or missed:
            self.last = Histories(optimizer.rule, members, map(label, absent), missed, BY_NAME)
        self.of = None if new else now
        return self.last, missed


def late(
    optimizer: RuleOptimizer, params: Mapping[str, xp.array], step: Any, shared: dict[str, Any]
) -> dict[str, Any]:
    """The shared state in which parameters without a state have missed all calls before."""
    common, missed = split(shared)
    known, present = begun(optimizer), _with_slots(optimizer.rule, params, params)
    return common | _late(optimizer, known, present - known, step, common, missed)


def _late(
    optimizer: RuleOptimizer,
    known: set[str],
    new: set[str],
    step: Any,
    common: Mapping[str, Any],
    missed: dict[str, Any],
) -> dict[str, Any]:
    """The counts of missed calls, of which new parameters have missed all before."""
    if not new or not (step if isinstance(step, int) else known):
        return missed
    labels, found = {*map(label, new)}, {}
    for key, count in missed.items():
        name, _, text = key.partition(MISSED)
        others = {*BY_NAME.read(text)} - labels
        if others:
            found[f"{name}{MISSED}{BY_NAME.written(others)}"] = count
    for name, count in {"step": step, **withheld(xp, optimizer.rule, common, step)}.items():
        found[f"{name}{MISSED}{BY_NAME.written(labels)}"] = counter(count)
    return found


def _with_slots(rule: Rule, paths: Iterable[str], params: Mapping[str, xp.array]) -> set[str]:
    return {path for path in paths if rule.of(path, params[path].shape).slots()}


def begun(optimizer: RuleOptimizer) -> set[str]:
    """The parameters that have slots in the state."""
    slots, state, found = optimizer.rule.declared_slots(), optimizer.state, set()
    for path, _ in leaves({name: own for name, own in state.items() if name not in OWN}):
        parts = path.split(".")
        while parts and parts[-1] not in slots:  # the number of a part of a slot
            parts.pop()
        found.add(".".join(parts[:-1]))
    return found - {""}
