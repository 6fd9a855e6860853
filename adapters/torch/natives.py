"""The state of torch's own optimizers, and of torch-optimi's and heavyball's, from and to ours.

    samestep.save(path, torch_adamw, model)     # the file that samestep.torch.AdamW would write
    samestep.load(path, torch_adamw, model)     # our state, in place
    samestep.torch.from_state_dict("AdamW", state_dict, model)

The step that comes next is the one that would have come, in either direction. heavyball divides by
``max(sqrt(v), eps)`` where every rule here divides by ``sqrt(v) + eps``: there the next update
agrees to ``eps / sqrt(v)``, and the state exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy

import torch
from samestep import step as stepping
from samestep.arrays import dtype_name, listed, map_parts
from samestep.checkpoints import correspondence
from samestep.checkpoints.correspondence import About, Native, called, natives, placed
from samestep.checkpoints.state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Wanted,
    common_count,
)
from samestep.checkpoints.tensor import Tensor
from samestep.checkpoints.trees import check_value
from samestep.rule import Rule

from .checkpoint import Params, copied, named, names_of, paths_of
from .kernels import real
from .tables import LIBRARIES, TORCH, Library, Member

__all__ = ["checkpoint", "counterpart", "from_state_dict", "into_state_dict", "restore"]


class _Found(NamedTuple):
    """A native optimizer, or its state dict."""

    library: Library
    native: Native
    who: str
    members: list[Member]
    groups: list[dict[str, Any]]


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
        raise TypeError(f"{_who(optimizer)} holds its state itself; give no other")
    return _taken(_held(optimizer, params), params is not None)


def restore(optimizer: Any, saved: Checkpoint, params: Params | None = None) -> None:
    """Give a native optimizer the state in a checkpoint, in place; see ``samestep.restore``.

    Raises:
        CheckpointError: the checkpoint is not of these parameters, or the optimizer computes
            something else. Nothing has been changed.
    """
    found = _held(optimizer, params)
    groups, states = _planned(found, saved, params is not None)
    with torch.no_grad():
        for group, changed in zip(optimizer.param_groups, groups, strict=True):
            for name, value in changed.items():
                if torch.is_tensor(group.get(name)) and not torch.is_tensor(value):
                    group[name].fill_(value)
                else:
                    group[name] = value
        for member in found.members:
            optimizer.state.pop(member.key, None)
            if (new := states[member.path]) is not None:
                optimizer.state[member.key] = new
            tensor = saved.parameters[member.path].value
            if params is not None and tensor is not None and member.param is not None:
                member.param.copy_(copied(tensor))


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
        dialect: the library: ``"torch"``, ``"optimi"`` or ``"heavyball"``.

    Raises:
        CheckpointError: something in it cannot be carried, and why.
        ValueError: the dialect is unknown.
    """
    return _taken(_found(optimizer, state_dict, params, dialect), params is not None)


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
    found = _found(optimizer, state_dict, params, dialect, saved)
    changes, states = _planned(found, saved, with_values=False)
    pairs = zip(state_dict["param_groups"], changes, strict=True)
    kept = ((member.key, states[member.path]) for member in found.members)
    new = {key: state for key, state in kept if state is not None}
    return {**state_dict, "state": new, "param_groups": [{**old, **more} for old, more in pairs]}


def _held(optimizer: Any, params: Params | None) -> _Found:
    """The content of a native optimizer."""
    cls, who = type(optimizer), _who(optimizer)
    package = cls.__module__.partition(".")[0]
    library = LIBRARIES.get(package)
    if library is None:
        raise CheckpointError(
            f"the state of {who} cannot be carried: it is no optimizer of {listed(LIBRARIES)}"
        )
    if package == "heavyball":
        raise CheckpointError(
            f"{who} reshapes its parameters while it steps; give its state_dict() to "
            'samestep.torch.from_state_dict(..., dialect="heavyball")'
        )
    native = natives(library.table, library.refused, who, cls.__name__)
    names = {id(param): name for name, param in named(params)}
    seeds: list[Any] = []
    groups = [numbers(group) for group in optimizer.param_groups]
    own_names = names_of(optimizer.param_groups)
    for place, (group, held) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        own = [names.get(id(param)) for param in held["params"]]
        paths = paths_of(own_names, own, len(seeds))
        for at, param in enumerate(held["params"]):
            if params is not None and own[at] is None:
                raise CheckpointError(
                    f"a parameter of {who}, of shape {tuple(param.shape)}, is not among the "
                    f"{len(names)} given; is it the model that the optimizer was made for?"
                )
            state = optimizer.state.get(param)
            seeds.append(((paths[at], place, at, group, param), state, real(param.detach())))
    return _Found(library, native, who, _members(library, native, seeds, None), groups)


def _found(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    params: Params | None,
    dialect: str,
    saved: Checkpoint | None = None,
) -> _Found:
    """The content of a native optimizer's state dict."""
    if dialect not in LIBRARIES:
        raise ValueError(f"dialect is {dialect!r}; it must be one of {', '.join(LIBRARIES)}")
    library = LIBRARIES[dialect]
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    who = f"{library.name}.{name}"
    native = natives(library.table, library.refused, who, name)
    if not {"state", "param_groups"} <= {*state_dict}:
        raise CheckpointError(
            f"the state dict has {listed([*state_dict][:5])}; it must have state and param_groups"
        )
    given = named(params)
    by_name = dict(given)
    groups = [numbers(group) for group in state_dict["param_groups"]]
    seeds: list[Any] = []
    own_names = names_of(state_dict["param_groups"])
    for place, group in enumerate(state_dict["param_groups"]):
        keys = group["params"]
        ordered = [name for name, _ in given[len(seeds) :]] + [None] * len(keys)
        own = [k if isinstance(k, str) else n for k, n in zip(keys, ordered, strict=False)]
        paths = paths_of(own_names, own, len(seeds))
        for at, (key, path) in enumerate(zip(keys, paths, strict=True)):
            if params is not None and path not in by_name:
                raise CheckpointError(
                    f"parameter {path!r} of the state dict is not among the {len(given)} given"
                )
            param = real(by_name[path].detach()) if params is not None else None
            kept = state_dict["state"].get(key)
            seeds.append(((path, place, at, groups[place], key), kept, param))
    spare = [key for key in state_dict["state"] if key not in {head[4] for head, _, _ in seeds}]
    if spare or (params is not None and len(given) != len(seeds)):
        raise CheckpointError(
            f"the state dict has {len(seeds)} parameters in its groups, state of "
            f"{len(spare)} others, and {len(given)} parameters are given"
        )
    return _Found(library, native, who, _members(library, native, seeds, saved), groups)


def _members(
    library: Library, native: Native, seeds: list[Any], saved: Checkpoint | None
) -> list[Member]:
    """The parameters, from the first five entries of each, its state and itself."""
    placed(head[0] for head, _, _ in seeds)
    members = []
    head: tuple[str, int, int, Mapping[str, Any], Any]
    for head, kept, param in seeds:
        path, group = head[0], head[3]
        state = {name: _plain(v) for name, v in library.opened(repr(path), kept).items()}
        shape, dtype = _form(path, state, param, saved)
        step = library.count(state, group) if native.counts else None
        if step is None:  # it is only known that the state has begun
            step = int(any(state.get(str(name)) is not None for name in native.slots.values()))
        arrays = [array for array in state.values() if torch.is_tensor(array) and array.ndim]
        held = arrays if param is None else [param]
        device = held[0].device if held else torch.device("cpu")
        own = (shape, dtype, device, state, step if state else 0, param)
        members.append(Member._make((*head, *own)))
    return members


def _form(
    path: str,
    state: Mapping[str, Any],
    param: torch.Tensor | None,
    saved: Checkpoint | None,
) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a parameter, or of its state if there is no parameter."""
    if param is not None:
        return tuple(param.shape), dtype_name(param.dtype)
    arrays = [v for n, v in state.items() if torch.is_tensor(v) and n != "step"]
    if arrays:
        largest = max(arrays, key=lambda array: array.ndim)
        shape = numpy.broadcast_shapes(*(tuple(array.shape) for array in arrays))
        return tuple(shape), dtype_name(largest.dtype)
    if saved is not None and path in saved.parameters:
        return saved.parameters[path].shape, saved.parameters[path].dtype
    raise CheckpointError(
        f"parameter {path!r} has no state, which would tell its shape; give the parameters"
    )


def _taken(found: _Found, with_values: bool) -> Checkpoint:
    states = {}
    for member in found.members:
        rule = found.native.rule_of(found.who, member.about)
        try:
            slots = found.native.taken(rule, member.state, member.about)
        except CheckpointError as error:
            raise CheckpointError(
                f"the state of {member.path!r} is not that of {found.who}: {error}"
            ) from None
        kept = None if slots is None else {n: map_parts(Tensor.of, v) for n, v in slots.items()}
        step = 0 if kept is None else member.step
        rule = _stored(rule, kept, member.dtype)
        value = Tensor.of(member.param) if with_values and member.param is not None else None
        states[member.path] = ParameterState.of(rule, member, step, kept, value)
        if kept is None:
            continue
        try:
            stepping.check_slots(rule, member.path, kept, member.shape)
        except ValueError as error:
            raise CheckpointError(f"the state is not that of {found.who}: {error}") from None
    return Checkpoint(states, {}, "torch")


def _stored(rule: Rule, slots: Mapping[str, Any] | None, dtype: str) -> Rule:
    """The rule that keeps state in the dtype that this state has."""
    parts = [p for v in (slots or {}).values() for p in (v if isinstance(v, tuple) else (v,))]
    found = {part.dtype for part in parts if part.shape}
    return rule.replace(state_dtype=found.pop()) if len(found) == 1 and {dtype} != found else rule


def _planned(
    found: _Found, saved: Checkpoint, with_values: bool
) -> tuple[list[dict[str, Any]], dict[str, dict[Any, Any] | None]]:
    """The new values of every group, and the state of every parameter; nothing is changed."""
    library, native = found.library, found.native
    rules = {member.path: native.rule_of(found.who, member.about) for member in found.members}
    wanted = {member.path: Wanted(rules[member.path], member) for member in found.members}
    states = native.matched(found.who, saved, wanted)
    groups, kept = [], {}
    for place, group in enumerate(found.groups):
        members = [member for member in found.members if member.place == place]
        own = {member.path: states[member.path] for member in members}
        changed = native.taken_over(
            f"{found.who}: group {place}",
            [rules[path] for path in own],
            own.values(),
            members[0].about if members else About({}),
        )
        step = common_count(f"a group of {found.who}", own) if library.per_group else 0
        after = {**group, **changed}
        for member in members:
            state = own[member.path]
            if with_values and member.param is not None:
                check_value(member.path, state, member.param)
                if state.value is not None:
                    state.value.verify()
            kept[member.path] = _kept(found, member, after, rules[member.path], state)
        begun = any(kept[member.path] is not None for member in members)
        groups.append({**changed, **(library.counted(native, step) if begun else {})})
    return groups, kept


def _kept(
    found: _Found, member: Member, numbers: Mapping[str, Any], rule: Rule, state: ParameterState
) -> dict[Any, Any] | None:
    """The state of a parameter in the library's form; ``None`` before the first step."""
    library, native = found.library, found.native
    about = About(numbers, member.dtype, state.step)
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
    return library.closed(given, native, member, state.step)


def _own(part: Any, member: Member) -> torch.Tensor:
    """A tensor of its own, on the parameter's device and complex where the parameter is."""
    array = part if torch.is_tensor(part) else copied(part)
    if not member.shape or array.ndim:
        array = array.to(member.device)
        was = member.key if torch.is_tensor(member.key) else None
        return torch.view_as_complex(array) if was is not None and was.is_complex() else array
    wide = array.to(dtype=torch.promote_types(array.dtype, torch.float32))
    return wide.to(member.device) if member.group.get("capturable") else wide


def _plain(value: Any) -> Any:
    """A tensor of a state as real numbers; the shards of all ranks are joined."""
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    return real(value.detach()) if torch.is_tensor(value) else value


def numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters, tensors as numbers."""

    def number(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(map(number, value))
        return value.item() if torch.is_tensor(value) else value

    left = ("params", "param_names", "places", "branch")
    return {name: number(value) for name, value in group.items() if name not in left}


def _who(optimizer: Any) -> str:
    return called(optimizer, {package: library.name for package, library in LIBRARIES.items()})
