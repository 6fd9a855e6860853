"""Where the pieces of DTensors are, in terms of core, and state that is placed as its parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep.arrays import map_parts
from samestep.beginnings import init_slots
from samestep.placement import Cut, Mesh, Placement, chunks
from samestep.rule import Rule

from .kernels import real
from .pieces import is_spread, kind_of, piece, placed, placements_of

__all__ = [
    "begun",
    "check_param",
    "check_slot",
    "cuts_of",
    "everywhere",
    "mesh_of",
    "placement_of",
    "slot_of",
]


def check_param(who: str, param: Any) -> None:
    """Refuse a DTensor whose piece is no part of its values, or is in other processes."""
    if param.device_mesh.get_coordinate() is None:
        raise ValueError(
            f"{who} is {kind_of(param)}, of which this process is no part (rank "
            f"{torch.distributed.get_rank()}); give every process the parameters of its own meshes"
        )
    refuse_sums(who, param.placements)


def refuse_sums(who: str, placements: Sequence[Any]) -> None:
    """Refuse a DTensor of which no process has values.

    Raises:
        ValueError: they are sums that have not been taken.
    """
    if any(place.is_partial() for place in placements):
        raise ValueError(
            f"{who} is a DTensor placed {(*placements,)}, whose values have to be added up yet; "
            "redistribute() it to Shard or Replicate"
        )


def placement_of(rule: Rule, who: str, param: Any) -> Placement | None:
    """The placement of a parameter; ``None`` if nothing of it is cut, or the rule needs no more.

    Raises:
        ValueError: it is placed in a way that cannot be described.
    """
    mesh, shape = mesh_of(rule, param), tuple(param.shape)
    if mesh is None:
        return None
    cuts = cuts_of(who, shape, param.placements, mesh.sizes)
    if param.is_complex():
        shape, cuts = (*shape, 2), (*cuts, None)
    found = Placement(shape, cuts, mesh)
    if found.local != tuple(real(piece(param)).shape):
        raise ValueError(
            f"{who} is {kind_of(param)}; its piece has shape {tuple(piece(param).shape)} in this "
            f"process, and not {found.local}, as pieces that torch cuts have"
        )
    return found


def mesh_of(rule: Rule, param: Any) -> Mesh | None:
    """The processes between which a rule exchanges something for a parameter, if there are any."""
    if not is_spread(param) or rule.needs == "element":
        return None
    if all(place.is_replicate() for place in param.placements):
        return None
    return everywhere(param)


def everywhere(param: Any) -> Mesh:
    """The processes that have a DTensor, or parts of it."""
    mesh = param.device_mesh
    return Mesh(mesh, tuple(mesh.shape), tuple(mesh.get_coordinate() or ()) or None)


def cuts_of(
    who: str, shape: Sequence[int], placements: Sequence[Any], sizes: Sequence[int]
) -> tuple[Cut | None, ...]:
    """How the axes of a DTensor are cut on a mesh of these sizes.

    Raises:
        ValueError: a process has no values of it, or a piece with gaps.
    """
    refuse_sums(who, placements)
    return tuple(_cut(who, axis, size, placements, sizes) for axis, size in enumerate(shape))


def _cut(
    who: str, axis: int, size: int, placements: Sequence[Any], sizes: Sequence[int]
) -> Cut | None:
    """How an axis is cut.

    The first dimension of the mesh cuts it first, unless that has a ``split_factor``: the number of
    pieces that dimensions behind it have cut before, as tensor parallelism before FSDP2 does.
    """
    over: list[int] = []
    for dim in reversed(range(len(sizes))):
        place = placements[dim]
        if getattr(place, "dim", None) == axis:
            before, at = getattr(place, "split_factor", 1), 0
            while at < len(over) and math.prod(sizes[one] for one in over[:at]) < before:
                at += 1
            if math.prod(sizes[one] for one in over[:at]) != before:
                raise ValueError(
                    f"{who} is a DTensor placed {(*placements,)} on a mesh of {(*sizes,)}, where "
                    "the piece of a process has gaps; redistribute() it to Shard or Replicate"
                )
            over.insert(at, dim)
    bounds: tuple[int, ...] = (0, size)
    for dim in over:
        bounds = (0, *(end for one in pairwise(bounds) for end in _ends(*one, sizes[dim])))
    return Cut(bounds, tuple(over)) if over else None


def _ends(first: int, end: int, pieces: int) -> list[int]:
    return [first + bound for bound in chunks(end - first, pieces)[1:]]


def begun(rule: Rule, who: str, param: Any) -> dict[str, Any]:
    """The first state of a DTensor, from its piece; 0-d arrays are plain, and equal everywhere."""
    placement = placement_of(rule, who, param)
    first = init_slots(rule, xp, real(piece(param).detach()), placement)
    return {
        name: map_parts(partial(_spread, param), value, _slot(rule, name, placement, value))
        for name, value in first.items()
    }


def _slot(rule: Rule, name: str, placement: Placement | None, value: Any) -> Any:
    """The placement of a slot, or of each of its arrays."""
    return map_parts(lambda _: None, value) if placement is None else placement.slot(rule, name)


def _spread(param: Any, local: torch.Tensor, slot: Placement | None) -> Any:
    """A DTensor of the piece that a process has of a slot."""
    shape = tuple(local.shape) if slot is None else slot.shape
    if slot is None and local.shape == real(piece(param)).shape:
        shape = (*param.shape, 2) if param.is_complex() else tuple(param.shape)
    return placed(param, local, torch.empty(shape, device="meta"), slot)


def check_slot(rule: Rule, who: str, param: Any, name: str, value: Any) -> None:
    """Refuse a slot that is not placed as its parameter is."""
    map_parts(partial(_check, who, param), value, slot_of(rule, who, param, name, value))


def slot_of(rule: Rule, who: str, param: Any, name: str, value: Any) -> Any:
    """The placement of a slot of a parameter, or of each of its arrays; ``None`` if not cut."""
    return _slot(rule, name, placement_of(rule, who, param), value)


def _check(who: str, param: Any, part: Any, slot: Placement | None) -> None:
    if is_spread(param) and (part.ndim or is_spread(part)):
        wanted = placements_of(param, part.shape, slot)
        mesh = param.device_mesh
        if is_spread(part) and part.device_mesh == mesh and tuple(part.placements) == wanted:
            return
        what = f"the parameter is {kind_of(param)}, so the slot must be placed {wanted} there"
    elif is_spread(part):
        what = "the parameter is a plain tensor, and so must the slot be"
    else:
        return
    raise ValueError(
        f"{who} that is {kind_of(part)}; {what}. torch.distributed.checkpoint.state_dict."
        "set_optimizer_state_dict places a state that is whole or from another mesh"
    )
