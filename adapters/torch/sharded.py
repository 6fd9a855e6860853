"""DTensors in checkpoints: which process has which part, and how the parts come together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise, product
from operator import add
from typing import Any, NamedTuple

import numpy

import torch
from samestep.arrays import dtype_name, listed
from samestep.checkpoints.boxes import Box, Piece, blocks
from samestep.checkpoints.processes import WRITER, Processes
from samestep.checkpoints.sharded import Sharded
from samestep.checkpoints.state import CheckpointError
from samestep.checkpoints.tensor import Tensor

from . import pieces
from .pieces import is_spread, placements_of

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
    there = dict(zip(_ranks(mesh), _parts(shape, _sizes(mesh), array.placements), strict=True))
    mine = there.get(processes.ranks[processes.rank], _Part((), []))
    given: dict[Box, Piece] = {}
    if processes.ranks[WRITER] in there:
        for rank in sorted(there):
            for box, _ in there[rank].boxes:
                given.setdefault(box, Piece(processes.ranks.index(rank), box))
    return Sharded(
        dtype_name(array.dtype),
        shape,
        processes,
        [*given.values()],
        [(box, Tensor.of(local[own.slices])) for box, own in mine.boxes],
        f"{listed(map(repr, array.placements))} on a mesh of {listed(map(str, _sizes(mesh)))}",
    )


def placed(tensor: Tensor, param: Any, slot: Any = None) -> Any:
    """A slot of a DTensor, of which every process reads its own part.

    ``slot`` is the slot's ``Placement``, if it is known.
    """
    whole = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype), device="meta")
    mine = _own(param.device_mesh, whole.shape, placements_of(param, whole.shape, slot))
    if len(mine.boxes) == 1:
        local = _torch(tensor, mine.boxes[0][0]).to(param.device)
    else:
        local = torch.empty(mine.shape, dtype=whole.dtype, device=param.device)
        _fill(local, tensor, mine)
    return pieces.placed(param, local, whole, slot)


def fill(param: Any, tensor: Tensor) -> None:
    """Write values into a DTensor, bucket by bucket; every process reads its own part."""
    _fill(param.to_local(), tensor, _own(param.device_mesh, tensor.shape, param.placements))


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


class _Part(NamedTuple):
    """What a process has of an array.

    Args:
        shape: its shape in the process.
        boxes: where its boxes are in the array, and where in the process.
    """

    shape: tuple[int, ...]
    boxes: list[tuple[Box, Box]]


def _fill(local: torch.Tensor, tensor: Tensor, part: _Part) -> None:
    for box, own in part.boxes:
        for block in blocks(box, local.element_size()):
            local[own.slices][block.within(box).slices].copy_(_torch(tensor, block))


def _torch(tensor: Tensor, box: Box) -> torch.Tensor:
    return torch.from_numpy(tensor.copy(box)).view(getattr(torch, tensor.dtype))


def _ranks(mesh: Any) -> list[int]:
    ranks: list[int] = mesh.mesh.flatten().tolist()
    return ranks


def _sizes(mesh: Any) -> tuple[int, ...]:
    return tuple(mesh.mesh.shape)


def _own(mesh: Any, shape: Sequence[int], placements: Sequence[Any]) -> _Part:
    """What this process has."""
    found = dict(
        zip(_ranks(mesh), _parts(tuple(shape), _sizes(mesh), tuple(placements)), strict=True)
    )
    if (rank := torch.distributed.get_rank()) not in found:
        raise CheckpointError(
            f"an array of shape {tuple(shape)} is in the processes {listed(map(str, found))}, and "
            f"this is process {rank}; give it the parameters of its own meshes"
        )
    return found[rank]


@cache
def _parts(
    shape: tuple[int, ...], mesh: tuple[int, ...], placements: tuple[Any, ...]
) -> list[_Part]:
    """What there is at every place of a mesh, in the order of its ranks."""
    found = []
    for place in product(*map(range, mesh)):
        held = [torch.arange(size) for size in shape]
        for at, size, placement in zip(place, mesh, placements, strict=True):
            if placement.is_partial():
                raise CheckpointError(
                    f"a DTensor of shape {shape} is {placement!r}: its values are sums that have "
                    "not been taken; redistribute it first"
                )
            if not placement.is_replicate():
                flat = held[placement.dim].reshape([1] * placement.dim + [-1])
                chunks, _ = placement._split_tensor(flat, size, with_padding=False)
                held[placement.dim] = chunks[at].reshape(-1)
        boxes = [_box(spans) for spans in product(*map(_spans, held))]
        found.append(_Part(tuple(map(len, held)), boxes))
    return found


def _spans(held: torch.Tensor) -> list[tuple[int, int, int]]:
    """Runs of indices without a gap: the first, its place, and how many they are."""
    gaps = (held.diff() != 1).nonzero().reshape(-1) + 1
    places = [0, *gaps.tolist(), len(held)]
    return [(int(held[at]), at, end - at) for at, end in pairwise(places) if at < end]


def _box(spans: Sequence[tuple[int, int, int]]) -> tuple[Box, Box]:
    """A box of the array, and where it is in the process."""
    whole, own, sizes = (tuple(one[at] for one in spans) for at in range(3))
    return Box(whole, tuple(map(add, whole, sizes))), Box(own, tuple(map(add, own, sizes)))
