"""Checkpoints of states that are values: the states of ``rule.update`` and of JAX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import array_api_compat

from samestep import step as stepping
from samestep import tree
from samestep.arrays import dtype_name, is_array, known, listed
from samestep.kept import rule_of
from samestep.notice import warn
from samestep.rule import Rule, State

from .description import differing_numbers
from .state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Wanted,
    common_count,
    matched,
    sorted_for,
)
from .tensor import Tensor, native, tensors

__all__ = [
    "Restored",
    "by_path",
    "check_value",
    "found_for",
    "from_leaves",
    "from_tree",
    "into_leaves",
    "into_tree",
    "warn",
]


def from_leaves(
    rule: Rule,
    params: Mapping[str, Any],
    step: Any,
    slots: Sequence[Mapping[str, Any] | None],
    shared: Mapping[str, Any],
    layout: str,
) -> Checkpoint:
    """A checkpoint of parameters by path, with the slots of each, after ``step`` steps.

    The slots of a parameter are ``None`` if it has no state yet.
    """
    count = known(step)
    if is_array(count):
        raise TypeError(f"{rule.name}: the step is traced; a checkpoint is made outside of jit")
    for (path, param), own in zip(params.items(), slots, strict=True):
        if own is not None:
            stepping.check_slots(rule_of(rule, path, param), path, own, param.shape)
    states = {
        path: ParameterState.of(
            rule_of(rule, path, param),
            param,
            0 if own is None else int(count),
            None if own is None else tensors(own),
            Tensor.of(param),
        )
        for (path, param), own in zip(params.items(), slots, strict=True)
    }
    return Checkpoint(states, {name: Tensor.of(value) for name, value in shared.items()}, layout)


class Restored(NamedTuple):
    """The content of a checkpoint for parameters in their order."""

    params: list[Any]
    step: int
    slots: list[dict[str, Any]]
    shared: dict[str, Any]


def found_for(
    rule: Rule, checkpoint: Checkpoint, params: Mapping[str, Any]
) -> dict[str, ParameterState]:
    """The content of a checkpoint for parameters that have one common step count.

    Raises:
        CheckpointError: the checkpoint is of another rule or of other parameters.
    """
    wanted = _wanted(rule, params)
    sorted_out = sorted_for(checkpoint, wanted)
    found = matched(sorted_out, wanted, rule.shared())
    for path, saved in found.items():
        check_value(path, saved, params[path])
    step = common_count("this state", found)
    if sorted_out.others:
        warn(f"the checkpoint has more than the parameters here: {listed(sorted_out.others)}")
    known_there = checkpoint.parameters.keys()
    late = [path for path in found if path in known_there and found[path].slots is None]
    if late and step and checkpoint.layout == "torch":
        warn(
            f"{listed(late[:5])} had taken no step when others had taken {step}; torch counts for "
            "each parameter, and this state for all of them together"
        )
    return found


def into_leaves(
    rule: Rule,
    xp: Any,
    found: Mapping[str, ParameterState],
    shared: Mapping[str, Tensor],
    params: Mapping[str, Any],
) -> Restored:
    """Parameters and state as arrays of the library of ``params``.

    Parameters keep their values if the checkpoint has no values. A warning names the numbers that
    differ from the checkpoint.
    """
    step = common_count("this state", found)
    wanted = _wanted(rule, params)
    _warn_of_numbers(wanted, found, step)
    new_params, slots = [], []
    try:
        for path, one in wanted.items():
            value, kept = found[path].value, found[path].slots
            param = one.param if value is None else value.like(one.param)
            new_params.append(param)
            if kept is None:
                slots.append(stepping.init_slots(one.rule, xp, param))
            else:
                slots.append(native(kept, one.param))
        example = next(iter(params.values()), None)
        common = {name: tensor.like(example) for name, tensor in shared.items()}
    except TypeError as error:  # a dtype that the library has not, or not now
        raise CheckpointError(str(error)) from None
    return Restored(new_params, step, slots, common or stepping.init_shared(rule, xp, new_params))


def _wanted(rule: Rule, params: Mapping[str, Any]) -> dict[str, Wanted]:
    return {path: Wanted(rule_of(rule, path, param), param) for path, param in params.items()}


def check_value(path: str, saved: ParameterState, param: Any) -> None:
    """Raise if a saved value has another dtype than its parameter."""
    if saved.value is None:
        return
    if saved.value.dtype != dtype_name(param.dtype):
        raise CheckpointError(
            f"parameter {path!r} is {dtype_name(param.dtype)} here and {saved.value.dtype} in the "
            "checkpoint"
        )
    if saved.value.shape != saved.shape:
        raise CheckpointError(
            f"params/{path}: the value has shape {saved.value.shape}, the parameter {saved.shape}"
        )


def _warn_of_numbers(
    wanted: Mapping[str, Wanted], found: Mapping[str, ParameterState], step: int
) -> None:
    """Warn of hyperparameters that differ from the checkpoint."""
    differing: dict[str, list[str]] = {}
    for path, one in wanted.items():
        for words in differing_numbers(one.rule, found[path].rule, max(step - 1, 0)):
            differing.setdefault(words, []).append(path)
    for words, paths in differing.items():
        of = "" if len(paths) == len(wanted) else f" for {listed(paths[:5])}"
        warn(f"the optimizer keeps its own hyperparameters: {words} (in the checkpoint){of}")


def from_tree(rule: Rule, params: Any, state: State) -> Checkpoint:
    """A checkpoint of the result of ``rule.update``."""
    stepping.check_slots(rule, "the parameters", state.slots)
    leaves = dict(tree.leaves(params))
    slots = [
        {
            name: value
            for name in rule.slots()
            if (value := tree.subtree(state.slots[name], path)) is not None
        }
        for path in leaves
    ]
    arrays = by_path((tree.dotted(path), array) for path, array in leaves.items())
    return from_leaves(rule, arrays, state.step, slots, state.shared, "numpy")


def into_tree(rule: Rule, checkpoint: Checkpoint, params: Any) -> tuple[Any, State]:
    """Parameters and state for ``rule.update``, from a checkpoint."""
    leaves = dict(tree.leaves(params))
    if not leaves:
        return params, rule.init(params)
    xp = array_api_compat.array_namespace(*leaves.values())
    arrays = by_path((tree.dotted(path), array) for path, array in leaves.items())
    found = found_for(rule, checkpoint, arrays)
    restored = into_leaves(rule, xp, found, checkpoint.shared, arrays)
    new_params = dict(zip(leaves, restored.params, strict=True))
    kept = dict(zip(leaves, restored.slots, strict=True))

    def slot(name: str) -> Any:
        return tree.rebuild(params, lambda path, _: kept[path].get(name))

    slots = {name: slot(name) for name in rule.slots()}
    return (
        tree.rebuild(params, lambda path, _: new_params[path]),
        State(restored.step, slots, restored.shared),
    )


def by_path(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Arrays by their paths; raises if two paths are equal."""
    found: dict[str, Any] = {}
    for path, array in pairs:
        if path in found:
            raise CheckpointError(f"two parameters are called {path!r}; rename one")
        found[path] = array
    return found
