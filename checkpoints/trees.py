"""Checkpoints of states that are values: the states of ``rule.update`` and of JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import array_api_compat

from samestep import step as stepping
from samestep import tree
from samestep.arrays import dtype_name, is_array, known, listed, map_parts
from samestep.counts import Form, Histories, placed, recorded, refuse_count, split, standing
from samestep.kept import rule_of
from samestep.notice import warn
from samestep.rule import Rule, State

from .description import differing_numbers
from .state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Slots,
    Wanted,
    matched,
    sorted_for,
)
from .tensor import Tensor, tensors

__all__ = [
    "Restored",
    "by_path",
    "check_value",
    "check_values",
    "found_for",
    "from_leaves",
    "from_tree",
    "into_leaves",
    "into_tree",
    "warn",
    "warn_of_numbers",
]


def from_leaves(
    rule: Rule,
    params: Mapping[str, Any],
    step: Any,
    slots: Sequence[Mapping[str, Any] | None],
    shared: Mapping[str, Any],
    layout: str,
    members: Sequence[Any] | None = None,
    form: Form | None = None,
) -> Checkpoint:
    """A checkpoint of parameters by path, with the slots of each, after ``step`` calls.

    The slots of a parameter are ``None`` if it has no state yet. ``members`` are the parameters as
    the counts of missed calls in ``shared`` name them, by default their places.
    """
    calls = known(step)
    if is_array(calls):
        raise TypeError(f"{rule.name}: the step is traced; a checkpoint is made outside of jit")
    refuse_count(rule, step)
    common, missed = split(shared)
    members = range(len(params)) if members is None else members
    form = form or _placed(rule, params, members)
    counts = Histories(rule, members, (), missed, form).steps(None, int(calls), missed)
    states = {}
    for (path, param), own, member in zip(params.items(), slots, members, strict=True):
        mine, count = rule_of(rule, path, param), counts(member) if own is not None else 0
        if own is not None:
            stepping.check_slots(mine, path, own, param.shape)
        kept = None if own is None else tensors(own)
        mine, value = standing(mine, common), Tensor.of(param)
        states[path] = ParameterState.of(mine, param, count, kept, value)
    arrays = {name: Tensor.of(value) for name, value in common.items()}
    point = "training" if rule.has_point else ""
    return Checkpoint(states, arrays, layout, calls=int(calls), point=point)


class Restored(NamedTuple):
    """The content of a checkpoint for parameters in their order."""

    params: list[Any]
    step: int
    """The calls of the optimizer."""
    slots: list[dict[str, Any]]
    shared: dict[str, Any]
    missed: dict[str, int]
    """The counts of missed calls, by their keys in the shared state."""


def found_for(
    rule: Rule, checkpoint: Checkpoint, params: Mapping[str, Any]
) -> dict[str, ParameterState]:
    """The content of a checkpoint for these parameters.

    Raises:
        CheckpointError: the checkpoint is of another rule or of other parameters.
    """
    wanted = _wanted(rule, params)
    sorted_out = sorted_for(checkpoint, wanted)
    found = matched(sorted_out, wanted, rule.shared())
    for path, saved in found.items():
        check_value(path, saved, params[path])
    if sorted_out.others:
        warn(f"the checkpoint has more than the parameters here: {listed(sorted_out.others)}")
    return found


def into_leaves(
    rule: Rule,
    xp: Any,
    found: Mapping[str, ParameterState],
    checkpoint: Checkpoint,
    params: Mapping[str, Any],
    members: Sequence[Any] | None = None,
    form: Form | None = None,
    like: Callable[[Tensor, Any], Any] = Tensor.like,
) -> Restored:
    """Parameters and state as arrays of the library of ``params``.

    Parameters keep their values if the checkpoint has no values. A warning names the numbers that
    differ from the checkpoint. ``members`` are the parameters as the counts of missed calls are to
    name them; ``None`` for one that is not to be counted before its first gradient. ``like`` makes
    an array that is placed like another.
    """
    shared, calls = checkpoint.shared, checkpoint.all_calls
    wanted = _wanted(rule, params)
    warn_of_numbers(wanted, found, calls, shared)
    new_params, slots = [], []
    try:
        for path, one in wanted.items():
            value, kept = found[path].value, found[path].slots
            param = one.param if value is None else like(value, one.param)
            new_params.append(param)
            if kept is None:
                slots.append(stepping.init_slots(one.rule, xp, param))
            else:
                slots.append(_native(kept, one.param, like))
        example = next(iter(params.values()), None)
        common = {name: like(tensor, example) for name, tensor in shared.items()}
    except TypeError as error:  # a dtype that the library has not, or not now
        raise CheckpointError(str(error)) from None
    members = range(len(params)) if members is None else members
    missed = _missed(rule, found, checkpoint, members)
    common = common or stepping.init_shared(rule, xp, new_params)
    form = form or _placed(rule, params, members)
    keys = recorded(("step", *rule.withholds), missed, form)
    return Restored(new_params, calls, slots, common, keys)


def _native(slots: Slots, example: Any, like: Callable[[Tensor, Any], Any]) -> dict[str, Any]:
    """Slots as arrays of the library of ``example``, placed like it."""
    return {n: map_parts(lambda tensor: like(tensor, example), v) for n, v in slots.items()}


def _missed(
    rule: Rule,
    found: Mapping[str, ParameterState],
    checkpoint: Checkpoint,
    members: Sequence[Any],
) -> dict[Any, list[int]]:
    """How many calls each parameter has missed, and of the withheld steps by their names."""
    withheld = {name: int(_value(checkpoint.shared, name)) for name in rule.withholds}
    counts = {}
    for member, own in zip(members, found.values(), strict=True):
        before = withheld if own.slots is None else own.missed  # it has missed what was before it
        if member is not None:
            counts[member] = [
                checkpoint.all_calls - own.step,
                *(before.get(n, 0) for n in withheld),
            ]
    return counts


def _value(shared: Mapping[str, Tensor], name: str) -> Any:
    return shared[name].values() if name in shared else 0


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


def check_values(
    found: Mapping[str, ParameterState],
    params: Mapping[str, Any],
    others: Mapping[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Raise if values are missing, or are of another model.

    ``params`` are the parameters of the optimizer, ``others`` the model's frozen ones and buffers.
    """
    if found and all(saved.value is None for saved in found.values()):
        raise CheckpointError(
            "the checkpoint has no values of parameters, only state; restore it without a model"
        )
    for path, saved in found.items():
        check_value(path, saved, params[path])
        if saved.value is not None:
            saved.value.verify()
    for path in (path for path in others if path in checkpoint.others):
        value, array = checkpoint.others[path], others[path]
        if (value.shape, value.dtype) != (tuple(array.shape), dtype_name(array.dtype)):
            raise CheckpointError(
                f"{path!r} is {dtype_name(array.dtype)} of shape {tuple(array.shape)} here and "
                f"{value.dtype} of shape {value.shape} in the checkpoint"
            )
        value.verify()
    apart = checkpoint.others.keys() ^ others.keys()
    if apart:
        warn(f"the model and the checkpoint do not both have {listed(apart)}; what is here stays")


def warn_of_numbers(
    wanted: Mapping[str, Wanted],
    found: Mapping[str, ParameterState],
    calls: int,
    shared: Mapping[str, Tensor],
) -> None:
    """Warn of hyperparameters that differ from the checkpoint."""
    differing: dict[str, list[str]] = {}
    for path, one in wanted.items():
        if found[path].slots is None and calls:  # described before its first call
            continue
        now = standing(one.rule, {name: tensor.values() for name, tensor in shared.items()})
        for words in differing_numbers(now, found[path].rule, max(calls - 1, 0)):
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
    members = _places(leaves)
    return from_leaves(rule, arrays, state.step, slots, state.shared, "numpy", members)


def into_tree(rule: Rule, checkpoint: Checkpoint, params: Any) -> tuple[Any, State]:
    """Parameters and state for ``rule.update``, from a checkpoint."""
    leaves = dict(tree.leaves(params))
    if not leaves:
        return params, rule.init(params)
    xp = array_api_compat.array_namespace(*leaves.values())
    arrays = by_path((tree.dotted(path), array) for path, array in leaves.items())
    found = found_for(rule, checkpoint, arrays)
    restored = into_leaves(rule, xp, found, checkpoint, arrays, _places(leaves))
    new_params = dict(zip(leaves, restored.params, strict=True))
    kept = dict(zip(leaves, restored.slots, strict=True))

    def slot(name: str) -> Any:
        return tree.rebuild(params, lambda path, _: kept[path].get(name))

    slots = {name: slot(name) for name in rule.slots()}
    return (
        tree.rebuild(params, lambda path, _: new_params[path]),
        State(restored.step, slots, restored.shared | restored.missed),
    )


def _placed(rule: Rule, paths: Iterable[str], members: Iterable[int]) -> Form:
    """How keys name parameters by their places, which are ``members``."""
    return placed(rule, [path for _, path in sorted(zip(members, paths, strict=True))])


def _places(paths: Iterable[Any]) -> list[int]:
    """The place of each path in their order, as the state of ``rule.update`` names them."""
    place = {path: at for at, path in enumerate(tree.ordered(paths))}
    return [place[path] for path in paths]


def by_path(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Arrays by their paths; raises if two paths are equal."""
    found: dict[str, Any] = {}
    for path, array in pairs:
        if path in found:
            raise CheckpointError(f"two parameters are called {path!r}; rename one")
        found[path] = array
    return found
