"""The state of an MLX optimizer as a ``Checkpoint``, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mlx.core as xp
from mlx.nn.layers.base import Module
from mlx.utils import tree_map_with_path
from samestep.checkpoints.description import common_numbers
from samestep.checkpoints.processes import together
from samestep.checkpoints.state import Checkpoint, ParameterState
from samestep.checkpoints.trees import by_path, found_for, from_leaves, into_leaves
from samestep.kept import rule_of
from samestep.placement import Placement
from samestep.rule import Rule

from .missing import BY_NAME, counter, label
from .sharded import Whole, placed, slots_of, tensor_of
from .trees import leaves

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["restore", "taken"]


def taken(optimizer: RuleOptimizer, params: Any) -> Checkpoint:
    """Parameters and state; a parameter without gradients, in a frozen layer, has no state."""
    processes = optimizer._processes(params)
    with together(processes):
        return _taken(optimizer, _tree(optimizer, params), processes)


def _taken(optimizer: RuleOptimizer, tree: Any, processes: Any) -> Checkpoint:
    arrays, rule = by_path(leaves(tree)), optimizer.current
    xp.eval(tree, optimizer.state)  # what ranks exchange in it, they do in one order
    pieces = _pieces(optimizer, arrays, processes)
    state = optimizer._begun(tree)
    held = _prefixes(optimizer.state)
    slots: dict[str, Any] = {}
    tree_map_with_path(lambda path, _, own: slots.update({path: own}), tree, state)
    for path, place in pieces.items():
        arrays[path] = tensor_of(processes, place, arrays[path])
        own = rule_of(rule, path, arrays[path])
        slots[path] = slots_of(processes, own, place, slots[path])
    return from_leaves(
        rule,
        arrays,
        optimizer._value("step"),
        [slots[path] if path in held or not slots[path] else None for path in arrays],
        state.get("shared_state", {}),
        "mlx",
        [*map(label, arrays)],
        BY_NAME,
    )


def restore(optimizer: RuleOptimizer, checkpoint: Checkpoint, params: Any) -> Any:
    """Take over state and numbers; a model also the parameters, a tree is returned with them."""
    processes = optimizer._processes(params)
    with together(processes):
        tree = _restored(optimizer, checkpoint, _tree(optimizer, params), processes)
    if not isinstance(params, Module):
        return tree
    params.update(tree)
    return None


def _restored(optimizer: RuleOptimizer, checkpoint: Checkpoint, tree: Any, processes: Any) -> Any:
    arrays = by_path(leaves(tree))
    rule = optimizer.current
    xp.eval(tree, optimizer.state)
    pieces = _pieces(optimizer, arrays, processes)
    given = {path: tensor_of(processes, place, arrays[path]) for path, place in pieces.items()}
    for path, place in pieces.items():
        own = rule_of(rule, path, given[path])
        arrays[path] = Whole.of(own, arrays[path], place)
    found = found_for(rule, checkpoint, arrays)
    found |= {p: replace(found[p], value=v) for p, v in given.items() if found[p].value is None}
    rule = rule.replace(**_numbers(rule, found, arrays))
    members = [None if found[path].slots is None else label(path) for path in arrays]
    new = into_leaves(rule, xp, found, checkpoint, arrays, members, BY_NAME, placed)
    if processes is not None:
        processes.agree({"what it does": "it has read the checkpoint"})
    missed = {key: counter(count) for key, count in new.missed.items()}
    kept = zip(arrays, new.slots, strict=True)
    slots = {path: {} if found[path].slots is None else own for path, own in kept}
    values = dict(zip(arrays, new.params, strict=True))
    optimizer.resume(
        rule, new.step, tree_map_with_path(lambda path, _: slots[path], tree), new.shared | missed
    )
    return tree_map_with_path(lambda path, _: values[path], tree)


def _pieces(optimizer: RuleOptimizer, arrays: Any, processes: Any) -> dict[str, Placement]:
    """Which piece this rank has of each parameter that ranks of a group have divided."""
    return {} if processes is None else optimizer._shards.pieces(arrays, processes.agree)


def _prefixes(state: Any) -> set[str]:
    """The paths of all nodes of a state."""
    paths = (path.split(".") for path, _ in leaves(state))
    return {".".join(path[:end]) for path in paths for end in range(1, len(path))}


def _tree(optimizer: RuleOptimizer, params: Any) -> Any:
    if params is None:
        raise TypeError(
            f"{optimizer.rule.name}: give the model too; MLX's optimizers do not know their "
            "parameters"
        )
    module: Any = params
    return module.parameters() if isinstance(params, Module) else params


def _numbers(
    rule: Rule, found: dict[str, ParameterState], arrays: dict[str, xp.array]
) -> dict[str, Any]:
    """The numbers that the checkpoint gives to all parameters of a rule."""
    if rule.branches != (rule,):
        return {}
    own = ((rule_of(rule, path, array), found[path].rule) for path, array in arrays.items())
    return {
        name: several.pop()
        for name, several in common_numbers(rule, own).items()
        if len(several) == 1
    }
