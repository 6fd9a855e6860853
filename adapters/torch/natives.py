"""The state of the optimizers of torch and of libraries for torch, from and to ours.

    samestep.save(path, torch_adamw, model)     # the file that samestep.torch.AdamW would write
    samestep.load(path, torch_adamw, model)     # our state, in place
    samestep.torch.from_state_dict("AdamW", state_dict, model)

The step that comes next is the one that would have come, in either direction. heavyball divides by
``max(sqrt(v), eps)`` where every rule here divides by ``sqrt(v) + eps``: there the next update
agrees to ``eps / sqrt(v)``, and the state exactly. So it is with a Muon that iterates in bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from samestep import step as stepping
from samestep.arrays import dtype_name, map_parts
from samestep.checkpoints import correspondence
from samestep.checkpoints.correspondence import About
from samestep.checkpoints.processes import Processes, together
from samestep.checkpoints.state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Wanted,
    common_count,
    sorted_for,
)
from samestep.checkpoints.tensor import Tensor
from samestep.checkpoints.trees import check_values
from samestep.rule import Rule

from .checkpoint import (
    Params,
    copied,
    everything,
    named,
    others_in,
    others_of,
    put,
)
from .finding import Found, found_in, held_by, who_is
from .libraries import Member
from .pieces import is_spread
from .sharded import placed, processes_of, tensor_of
from .tables import TORCH

__all__ = ["checkpoint", "counterpart", "from_state_dict", "into_state_dict", "restore"]


def counterpart(rule: str, values: Mapping[str, Any], dtype: str = "float32") -> partial[Any]:
    """The class of torch.optim that computes the same as a rule, with the rule's numbers.

    Raises:
        LookupError: torch.optim has no such class.
    """
    return correspondence.counterpart(torch.optim, TORCH, rule, values, dtype)


def checkpoint(optimizer: Any, params: Params | None = None, state: Any = None) -> Checkpoint:
    """The state of a native optimizer; see ``samestep.checkpoint``.

    Raises:
        CheckpointError: something in it cannot be carried, and why.
        TypeError: a state is given, which the optimizer holds itself.
    """
    if state is not None:
        raise TypeError(f"{who_is(optimizer)} holds its state itself; give no other")
    processes = processes_of(everything(optimizer.param_groups, params))
    others = others_in(optimizer.param_groups, params, processes)
    return _taken(held_by(optimizer, params), others, params is not None, processes)


def processes(optimizer: Any, params: Params | None = None) -> Processes | None:
    """Those who have parts of a native optimizer's parameters, or of the model's other tensors."""
    return processes_of(everything(optimizer.param_groups, params))


def restore(optimizer: Any, saved: Checkpoint, params: Params | None = None) -> None:
    """Give a native optimizer the state in a checkpoint, in place; see ``samestep.restore``.

    Raises:
        CheckpointError: the checkpoint is not of these parameters, or the optimizer computes
            something else. Nothing has been changed.
    """
    processes = processes_of(everything(optimizer.param_groups, params))
    with together(processes):
        _restore(optimizer, saved, params, processes)


def _restore(
    optimizer: Any, saved: Checkpoint, params: Params | None, processes: Processes | None
) -> None:
    found = held_by(optimizer, params)
    groups, states, saved = _planned(found, saved)
    own = {member.path: member.param for member in found.members if member.param is not None}
    others = others_of(optimizer.param_groups, params)
    if params is not None:
        check_values(saved.parameters, own, others, saved)
    if processes is not None:
        processes.agree({"what it does": "it has read the checkpoint"})
    with torch.no_grad():
        _put_numbers(optimizer.param_groups, groups)
        for member in found.members:
            optimizer.state.pop(member.key, None)
            if (new := states[member.path]) is not None:
                optimizer.state[member.key] = new
    if params is not None:
        put(saved.parameters, own, others, saved)


def from_state_dict(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    params: Params | None = None,
    *,
    dialect: str = "torch",
) -> Checkpoint:
    """The state in a native optimizer's ``state_dict()``, without the optimizer.

    Parameters are called by ``param_names`` where the groups have them, by their keys where those
    are names (as ``torch.distributed.checkpoint`` has them), by the names in ``params``, or by
    their places.

    Args:
        optimizer: the optimizer's class or its name: ``"AdamW"``.
        state_dict: what its ``state_dict()`` returned, or a file has of it.
        params: a model or named tensors, in the order in which the optimizer had them; they become
            part of the checkpoint. Without them the state gives shapes and dtypes.
        dialect: the library: ``"torch"``, ``"optimi"``, ``"heavyball"``, ``"schedulefree"``,
            ``"pytorch_optimizer"`` or ``"muon"``.

    Raises:
        CheckpointError: something in it cannot be carried, and why.
        ValueError: the dialect is unknown.
    """
    found = found_in(optimizer, state_dict, params, dialect)
    groups = [{"params": [param for _, param in named(params)]}]
    return _taken(found, others_in(groups, params, None), params is not None)


def into_state_dict(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    saved: Checkpoint,
    params: Params | None = None,
    *,
    dialect: str = "torch",
) -> dict[str, Any]:
    """A native optimizer's state dict with the state in a checkpoint; a new one.

    Args:
        optimizer: as for ``from_state_dict``.
        state_dict: that of an optimizer for these parameters; it may have taken no step.
        saved: the checkpoint, of a rule that computes the same.
        params: as for ``from_state_dict``; their values are not looked at.
        dialect: as for ``from_state_dict``.

    Raises:
        CheckpointError: the checkpoint is not of these parameters, or the optimizer computes
            something else.
        ValueError: the dialect is unknown.
    """
    found = found_in(optimizer, state_dict, params, dialect, saved)
    changes, states, _ = _planned(found, saved)
    pairs = zip(state_dict["param_groups"], changes, strict=True)
    kept = ((member.key, states[member.path]) for member in found.members)
    new = {key: state for key, state in kept if state is not None}
    return {**state_dict, "state": new, "param_groups": [{**old, **more} for old, more in pairs]}


def _taken(
    found: Found,
    others: Mapping[str, Tensor],
    with_values: bool,
    processes: Processes | None = None,
) -> Checkpoint:
    tensor = partial(tensor_of, processes=processes)
    states = {}
    for member in found.members:
        native = member.native
        rule = native.rule_of(found.who, member.about)
        arrays = {n: v for n, v in member.state.items() if n not in found.library.beside}
        native.refuse_others(found.who, member.path, arrays)
        try:
            slots = native.taken(rule, member.state, member.about)
        except CheckpointError as error:
            raise CheckpointError(
                f"the state of {member.path!r} is not that of {found.who}: {error}"
            ) from None
        kept = None if slots is None else {n: map_parts(tensor, v) for n, v in slots.items()}
        step = 0 if kept is None else member.step
        rule = _stored(rule, kept, member.dtype)
        value = tensor(member.param) if with_values and member.param is not None else None
        states[member.path] = ParameterState.of(rule, member, step, kept, value)
        if kept is None:
            continue
        try:
            stepping.check_slots(rule, member.path, kept, member.shape)
        except ValueError as error:
            raise CheckpointError(f"the state is not that of {found.who}: {error}") from None
    return Checkpoint(states, {}, "torch", others)


def _stored(rule: Rule, slots: Mapping[str, Any] | None, dtype: str) -> Rule:
    """The rule that keeps state in the dtype that this state has."""
    parts = [p for v in (slots or {}).values() for p in (v if isinstance(v, tuple) else (v,))]
    found = {part.dtype for part in parts if part.shape}
    return rule.replace(state_dtype=found.pop()) if len(found) == 1 and {dtype} != found else rule


def _planned(
    found: Found, saved: Checkpoint
) -> tuple[list[dict[str, Any]], dict[str, dict[Any, Any] | None], Checkpoint]:
    """The new values of every group, the state of every parameter, and the checkpoint for them.

    Nothing is changed.
    """
    library, native = found.library, found.native
    mine = {member.path: member.native for member in found.members}
    rules = {m.path: m.native.rule_of(found.who, m.about) for m in found.members}
    wanted = {member.path: Wanted(rules[member.path], member) for member in found.members}
    if not library.per_group:  # else a parameter that begins now would have the group's count
        saved = sorted_for(saved, wanted)
    states = correspondence.matched(found.who, mine, saved, wanted)
    groups, kept = [], {}
    for place, group in enumerate(found.groups):
        members = [member for member in found.members if member.place == place]
        own = {member.path: states[member.path] for member in members}
        about = members[0].about if members else About({})
        changed = native.of(about).taken_over(
            f"{found.who}: group {place}", [rules[path] for path in own], own.values(), about
        )
        step = common_count(f"a group of {found.who}", own) if library.per_group else 0
        after = {**group, **changed}
        for member in members:
            state = own[member.path]
            kept[member.path] = _kept(found, member, after, rules[member.path], state)
        begun = [own[member.path] for member in members if kept[member.path] is not None]
        slots = (begun[0].slots or {}) if begun else {}
        counted = library.counted(native, step, after, slots) if begun else {}
        groups.append({**changed, **counted})
    return groups, kept, saved


def _kept(
    found: Found, member: Member, numbers: Mapping[str, Any], rule: Rule, state: ParameterState
) -> dict[Any, Any] | None:
    """The state of a parameter in the library's form; ``None`` before the first step."""
    library, native = found.library, member.native
    about = About(numbers, member.dtype, state.step, member.shape)
    slots = state.slots
    if state.step == 0 and not native.eager:
        return None
    if slots is None and native.eager:
        first = torch.zeros(member.shape, dtype=getattr(torch, member.dtype))
        slots = stepping.init_slots(rule, torch, first)
    arrays = {}
    for name, value in (slots or {}).items():
        for part in value if isinstance(value, tuple) else (value,):
            if part.shape or not member.shape:
                library.check(name, dtype_name(part.dtype), member)
        arrays[name] = map_parts(lambda part: _own(part, member), value)
    given = native.given(arrays, about)
    if not given and not native.counts:
        return None
    return library.closed(given, member, state.step)


def _put_numbers(groups: list[dict[str, Any]], changes: list[dict[str, Any]]) -> None:
    """Numbers into the groups, in place where a group has a tensor, as for a captured graph.

    Groups that share a tensor and get several numbers get tensors of their own.
    """
    meant: dict[int, set[float]] = {}

    def note(held: Any, new: Any) -> None:
        if isinstance(held, tuple):
            for pair in zip(held, new, strict=True):
                note(*pair)
        elif torch.is_tensor(held):
            meant.setdefault(id(held), set()).add(float(new))

    def written(held: Any, new: Any) -> Any:
        if isinstance(held, tuple):
            return tuple(written(*pair) for pair in zip(held, new, strict=True))
        if not torch.is_tensor(held) or torch.is_tensor(new):
            return new
        return held.fill_(new) if len(meant[id(held)]) == 1 else torch.full_like(held, new)

    names = {name for changed in changes for name in changed}
    for group, changed in zip(groups, changes, strict=True):
        for name in names & group.keys():
            note(group[name], changed.get(name, group[name]))
    for group, changed in zip(groups, changes, strict=True):
        group |= {name: written(group.get(name), new) for name, new in changed.items()}


def _own(part: Any, member: Member) -> torch.Tensor:
    """A tensor of its own, on the parameter's device and complex where the parameter is."""
    if is_spread(member.key) and not torch.is_tensor(part) and part.shape:
        there: torch.Tensor = placed(part, member.key)
        return there
    array = part if torch.is_tensor(part) else copied(part)
    if not member.shape or array.ndim:
        array = array.to(member.device)
        was = member.key if torch.is_tensor(member.key) else None
        return torch.view_as_complex(array) if was is not None and was.is_complex() else array
    wide = array.to(dtype=torch.promote_types(array.dtype, torch.float32))
    return wide.to(member.device) if member.group.get("capturable") else wide
