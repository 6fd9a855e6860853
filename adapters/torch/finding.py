"""The parameters of another library's optimizer, or of its state dict, with their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

import torch
from samestep.arrays import dtype_name, listed
from samestep.checkpoints.correspondence import About, Native, called, natives, placed
from samestep.checkpoints.state import Checkpoint, CheckpointError

from .checkpoint import Params, named, names_of, paths_of
from .kernels import real
from .libraries import LIBRARIES, Library, Member
from .sharded import refuse_slice

__all__ = ["Found", "found_in", "held_by", "numbers", "who_is"]


class Found(NamedTuple):
    """A native optimizer, or its state dict."""

    library: Library
    native: Native
    who: str
    members: list[Member]
    groups: list[dict[str, Any]]


def held_by(optimizer: Any, params: Params | None) -> Found:
    """The content of a native optimizer."""
    cls, who = type(optimizer), who_is(optimizer)
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
    held = (name for name in library.attributes if hasattr(optimizer, name))
    own_numbers = {name: getattr(optimizer, name) for name in held}
    groups = [own_numbers | numbers(group) for group in optimizer.param_groups]
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
            refuse_slice(optimizer, paths[at], param)
            state = optimizer.state.get(param)
            seeds.append(((paths[at], place, at, group, param), state, real(param.detach())))
    return Found(library, native, who, _members(library, native, seeds, None), groups)


def found_in(
    optimizer: str | type,
    state_dict: Mapping[str, Any],
    params: Params | None,
    dialect: str,
    saved: Checkpoint | None = None,
) -> Found:
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
    _refuse_other_library(library, who, state_dict["param_groups"])
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
    return Found(library, native, who, _members(library, native, seeds, saved), groups)


def _refuse_other_library(library: Library, who: str, groups: Any) -> None:
    """Raise for groups that have the sign of another library, or lack that of this one."""
    cls = who.rpartition(".")[2]
    for name, other in LIBRARIES.items():
        signed = [other.sign in group for group in groups if other.sign]
        if other is library and not all(signed):
            raise CheckpointError(
                f"a group of the state dict has no {other.sign}, and {other.name} writes it; the "
                f"state is not that of {who}"
            )
        if other is not library and any(signed):
            raise CheckpointError(
                f"a group of the state dict has {other.sign}, which {other.name} writes; the state "
                f'is not that of {who} (dialect="{name}", or --rule {name}.{cls})'
            )


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
        mine = native.of(About(group, dtype, shape=shape))
        step = library.count(state, group) if mine.counts else None
        if step is None:
            if mine.counts and any(map(torch.is_tensor, state.values())):
                raise CheckpointError(
                    f"{library.name} counts steps, and nothing counts those of {path!r}, which has "
                    f"{listed(state)}; is it the state dict of another library?"
                )
            # it is only known that the state has begun
            step = int(any(state.get(str(name)) is not None for name in mine.slots.values()))
        arrays = [array for array in state.values() if torch.is_tensor(array) and array.ndim]
        held = arrays if param is None else [param]
        device = held[0].device if held else torch.device("cpu")
        own = (shape, dtype, device, state, step if state else 0, param, mine)
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


def who_is(optimizer: Any) -> str:
    """The name of an optimizer in messages."""
    return called(optimizer, {package: library.name for package, library in LIBRARIES.items()})
