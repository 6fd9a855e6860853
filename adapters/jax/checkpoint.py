"""The state of a transformation as a ``Checkpoint``, and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as xp
from samestep.arrays import map_parts
from samestep.checkpoints.processes import Processes
from samestep.checkpoints.state import Checkpoint
from samestep.checkpoints.trees import by_path, found_for, from_leaves, into_leaves
from samestep.rule import Rule, State

from . import natives as optax_states
from .sharded import local, placed, processes_of, tensor_of
from .trees import (
    as_complex,
    by_place,
    dotted,
    flattened,
    in_variables,
    matched,
    parts,
    real,
    strong,
)

__all__ = ["restored", "taken"]


def taken(rule: Rule, params: Any, state: State) -> Checkpoint:
    """Parameters and state, without copies where JAX allows it; the state may be inside optax's."""
    if not isinstance(state, State):
        return optax_states.from_optax(rule, params, state)
    paths, structure = flattened(params)
    tensor = tensor_of(processes(params))
    found = {
        name: [*map(parts, matched(rule, f"slot {name} of the state", tree, paths, structure))]
        for name, tree in state.slots.items()
    }
    slots = [
        {n: map_parts(tensor, values[at]) for n, values in found.items() if values[at] is not None}
        for at in range(len(paths))
    ]
    arrays = {path: tensor(array) for path, array in _by_path(rule, paths).items()}
    shared = {name: local(value) for name, value in state.shared.items()}
    return from_leaves(rule, arrays, local(state.step), slots, shared, "jax")


def processes(params: Any) -> Processes | None:
    """Those who have parts of the parameters; ``None`` if they are all in this process."""
    return processes_of(jax.tree.leaves(params))


def restored(rule: Rule, checkpoint: Checkpoint, params: Any) -> tuple[Any, State]:
    """Parameters and state; arrays are placed and sharded like the arrays of ``params``."""
    paths, structure = flattened(params)
    arrays = _by_path(rule, paths)
    found = found_for(rule, checkpoint, arrays)
    new = into_leaves(rule, xp, found, checkpoint, arrays, like=placed)
    form = by_place if in_variables(params) else lambda value: value
    slots = {n: structure.unflatten([form(own.get(n)) for own in new.slots]) for n in rule.slots()}
    missed = {key: xp.asarray(count, xp.int32) for key, count in new.missed.items()}
    step = xp.asarray(new.step, xp.int32)
    pairs = zip(new.params, paths, strict=True)
    complexes = [as_complex(p) if xp.iscomplexobj(leaf) else p for p, (_, leaf) in pairs]
    return structure.unflatten(complexes), State(step, slots, new.shared | missed)


def _by_path(rule: Rule, paths: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Arrays with their dtypes, even if JAX allows no new array of these dtypes."""
    return by_path(
        (dotted(path), real(leaf if isinstance(leaf, jax.Array) else strong(rule, path, leaf)))
        for path, leaf in paths
    )
