"""The oracle: the same rule in float64, over a whole trajectory or one step from a given state."""

from __future__ import annotations

from typing import Any

import numpy

from samestep.rule import Rule, State

from .backend import NumPy, Run, Snapshot, from_state
from .trajectory import Trajectory

__all__ = ["follow", "one_step", "oracle"]


def follow(run: Run, backend: Any, trajectory: Trajectory) -> list[Snapshot]:
    """Snapshots before the first step and after every step of a trajectory."""
    snapshots = [backend.snapshot(run)]
    for grads in trajectory.grads:
        run.step(grads)
        snapshots.append(backend.snapshot(run))
    return snapshots


def oracle(rule: Rule, trajectory: Trajectory) -> list[Snapshot]:
    """Snapshots of the rule in float64 along a trajectory."""
    return follow(NumPy().start(rule, trajectory.params, "float64"), NumPy(), trajectory)


def one_step(rule: Rule, before: Snapshot, grads: dict[str, numpy.ndarray], step: int) -> Snapshot:
    """The snapshot after one step of the rule in float64, from another snapshot.

    Args:
        rule: the rule.
        before: parameters and state before the step.
        grads: gradients of the step.
        step: how many steps have been taken before it.
    """
    params = {path: array for (slot, path), array in before.items() if slot == "param"}
    slots = {name: {path: _slot(before, name, path) for path in params} for name in rule.slots()}
    shared = {name: before[name, ""] for name in rule.shared()}
    run: Any = from_state(rule, params, numpy.asarray)
    run.state = State(step, slots, shared)
    run.step(grads)
    return NumPy().snapshot(run)


def _slot(snapshot: Snapshot, name: str, path: str) -> Any:
    if (name, path) in snapshot:
        return snapshot[name, path]
    parts: list[numpy.ndarray] = []
    while (f"{name}.{len(parts)}", path) in snapshot:
        parts.append(snapshot[f"{name}.{len(parts)}", path])
    return tuple(parts)
