"""DTensors in checkpoints: which process has which part, and how the parts come together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy

import torch
from samestep.arrays import dtype_name, listed
from samestep.checkpoints.boxes import Box, Piece, blocks
from samestep.checkpoints.processes import WRITER, Processes
from samestep.checkpoints.sharded import Sharded
from samestep.checkpoints.state import CheckpointError
from samestep.checkpoints.tensor import Tensor
from samestep.placement import Mesh

from . import pieces
from .pieces import is_spread, kind_of, placements_of
from .placement import cuts_of

__all__ = ["fill", "placed", "processes_of", "refuse_slice", "tensor_of"]


def processes_of(tensors: Iterable[Any]) -> Processes | None:
    """The processes that have parts of these tensors; ``None`` if all are whole.

    Raises:
        CheckpointError: this process is none of them.
    """
    meshes = {tensor.device_mesh for tensor in tensors if is_spread(tensor)}
    ranks = sorted({rank for mesh in meshes for rank in _ranks(mesh)})
    if not ranks:
        return None
    if (rank := torch.distributed.get_rank()) not in ranks:
        raise CheckpointError(
            f"the parameters are in the processes {listed(map(str, ranks))}, and this is process "
            f"{rank}; those who have parts of the parameters save and load them"
        )
    for mesh in meshes:
        if mesh.ndim == 1 and mesh.size() == len(ranks):
            return _Processes(mesh.get_group(), ranks)
    world = torch.distributed.group.WORLD
    alone = len(ranks) == torch.distributed.get_world_size()
    return _Processes(world if alone else _group(tuple(ranks), world), ranks)


@cache
def _group(ranks: tuple[int, ...], _: Any) -> Any:
    """A group of these ranks of the world."""
    return torch.distributed.new_group([*ranks], use_local_synchronization=True)


class _Processes(Processes):
    """The processes of a group of ``torch.distributed``.

    Args:
        group: the group.
        ranks: their ranks in the world, in order.
    """

    def __init__(self, group: Any, ranks: Sequence[int]) -> None:
        super().__init__(torch.distributed.get_rank(group), len(ranks))
        self.ranks, self._group = ranks, group
        self._device = torch.distributed.distributed_c10d._get_object_coll_device(group)

    def is_common(self, number: int) -> bool:
        bounds = torch.tensor([number, -number], device=self._device)
        torch.distributed.all_reduce(bounds, torch.distributed.ReduceOp.MAX, self._group)
        most, least = bounds.tolist()
        return bool(most == -least)

    def texts(self, text: str) -> list[str]:
        said = [""] * self.size
        torch.distributed.all_gather_object(said, text, self._group)
        return said

    def gathered(self, own: numpy.ndarray, sizes: Sequence[int]) -> list[numpy.ndarray]:
        writes = self.rank == WRITER
        made = [numpy.empty(size if writes else 0, numpy.uint8) for size in sizes]
        there = made if writes else [own]
        here = {rank: torch.from_numpy(one) for rank, one in enumerate(there) if len(one)}
        moved = {rank: one.to(self._device) for rank, one in here.items()}
        call = torch.distributed.irecv if writes else torch.distributed.isend
        operations = [
            torch.distributed.P2POp(call, one, self.ranks[rank], self._group)
            for rank, one in moved.items()
        ]
        for work in torch.distributed.batch_isend_irecv(operations) if operations else ():
            work.wait()
        for rank, one in here.items():
            if writes and moved[rank] is not one:
                one.copy_(moved[rank])
        return made


def tensor_of(array: Any, processes: Processes | None) -> Tensor:
    """A tensor in a checkpoint; of a DTensor the parts stay where they are."""
    if not is_spread(array):
        return Tensor.of(array)
    assert isinstance(processes, _Processes)
    array = array.detach()
    mesh, shape, local = array.device_mesh, tuple(array.shape), array.to_local()
    there = _there(mesh, shape, array.placements)
    mine = there.get(processes.ranks[processes.rank])
    given: dict[Box, Piece] = {}
    if processes.ranks[WRITER] in there:
        for rank in sorted(there):
            if (box := there[rank]).size:
                given.setdefault(box, Piece(processes.ranks.index(rank), box))
    if mine is not None:
        _fits(local, mine, array)
    return Sharded(
        dtype_name(array.dtype),
        shape,
        processes,
        [*given.values()],
        [] if mine is None else [(mine, Tensor.of(local))],
        f"{listed(map(repr, array.placements))} on a mesh of {listed(map(str, mesh.shape))}",
    )


def placed(tensor: Tensor, param: Any, slot: Any = None) -> Any:
    """A slot of a DTensor, of which every process reads its own part.

    ``slot`` is the slot's ``Placement``, if it is known.
    """
    whole = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype), device="meta")
    mine = _own(param.device_mesh, whole.shape, placements_of(param, whole.shape, slot))
    return pieces.placed(param, _torch(tensor, mine).to(param.device), whole, slot)


def fill(param: Any, tensor: Tensor) -> None:
    """Write values into a DTensor, bucket by bucket; every process reads its own part."""
    local, mine = param.to_local(), _own(param.device_mesh, tensor.shape, param.placements)
    _fits(local, mine, param)
    for block in blocks(mine, local.element_size()):
        local[block.within(mine).slices].copy_(_torch(tensor, block))


def refuse_slice(optimizer: Any, path: str, param: Any) -> None:
    """Refuse a plain tensor that is a part of a parameter, whose place nobody knows.

    Raises:
        CheckpointError: it is a part.
    """
    if hasattr(param, "_fsdp_flattened") and torch.distributed.get_world_size() > 1:
        raise CheckpointError(
            f"parameter {path!r} is a slice of a flat parameter of FSDP1, which does not say what "
            "it is of the whole; FSDP.optim_state_dict and torch.distributed.checkpoint save it, "
            "and samestep saves parameters of FSDP2 (fully_shard)"
        )
    if getattr(optimizer, "reduce_over", None) is not None:
        raise CheckpointError(
            f"parameter {path!r} is a slice (reduce_over=), which does not say what it is of the "
            "whole; make DTensors of the slices (DTensor.from_local), or save each process's "
            "state_dict() with torch.save"
        )


def _fits(local: torch.Tensor, box: Box, array: Any) -> None:
    """Refuse a piece that is not what torch cuts.

    Raises:
        CheckpointError: it has another shape.
    """
    if tuple(local.shape) != box.shape:
        raise CheckpointError(
            f"{kind_of(array)} of shape {tuple(array.shape)} has a piece of shape "
            f"{tuple(local.shape)} in this process, and not {box.shape}, as pieces that torch cuts "
            "have"
        )


def _torch(tensor: Tensor, box: Box) -> torch.Tensor:
    return torch.from_numpy(tensor.copy(box)).view(getattr(torch, tensor.dtype))


def _ranks(mesh: Any) -> list[int]:
    ranks: list[int] = mesh.mesh.flatten().tolist()
    return ranks


def _own(mesh: Any, shape: Sequence[int], placements: Sequence[Any]) -> Box:
    """What this process has."""
    found = _there(mesh, shape, placements)
    if (rank := torch.distributed.get_rank()) not in found:
        raise CheckpointError(
            f"an array of shape {tuple(shape)} is in the processes {listed(map(str, found))}, and "
            f"this is process {rank}; give it the parameters of its own meshes"
        )
    return found[rank]


def _there(mesh: Any, shape: Sequence[int], placements: Sequence[Any]) -> dict[int, Box]:
    """What each process of a mesh has, by its rank."""
    boxes = _boxes(tuple(shape), tuple(mesh.shape), tuple(placements))
    return dict(zip(_ranks(mesh), boxes, strict=True))


@cache
def _boxes(
    shape: tuple[int, ...], sizes: tuple[int, ...], placements: tuple[Any, ...]
) -> list[Box]:
    """What there is at every place of a mesh, in the order of its ranks."""
    try:
        cuts = cuts_of(f"an array of shape {shape}", shape, placements, sizes)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    found, mesh = [], Mesh(None, sizes)
    for place in product(*map(range, sizes)):
        spans = [
            (0, size) if cut is None else cut.piece(mesh, place)
            for size, cut in zip(shape, cuts, strict=True)
        ]
        found.append(Box(*(tuple(span[end] for span in spans) for end in (0, 1))))
    return found
