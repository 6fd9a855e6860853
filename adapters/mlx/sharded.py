"""Pieces of parameters in checkpoints: which rank has which, and how they come together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy

import mlx.core as xp
from samestep.arrays import dtype_name, map_parts
from samestep.checkpoints.boxes import Box, Piece
from samestep.checkpoints.processes import Processes
from samestep.checkpoints.sharded import Sharded
from samestep.checkpoints.tensor import Tensor
from samestep.kept import kept_by
from samestep.placement import Placement
from samestep.rule import Rule

from .shards import told

__all__ = ["Whole", "placed", "processes_of", "slots_of", "tensor_of"]

Array = Any


def processes_of(group: Any) -> Processes:
    """The ranks of a group, which save and load together."""
    return _Ranks(group)


class _Ranks(Processes):
    """The ranks of a group."""

    def __init__(self, group: Any) -> None:
        super().__init__(group.rank(), group.size())
        self.group = group

    def is_common(self, number: int) -> bool:
        return len({one for (one,) in told(self.group, [(number ^ 1 << 31) - (1 << 31)])}) == 1

    def texts(self, text: str) -> list[str]:
        own = text.encode()
        sizes = [size for (size,) in told(self.group, [len(own)])]
        rows = told(self.group, [*own, *[0] * (max(sizes) - len(own))])
        return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]

    def gathered(self, own: numpy.ndarray, sizes: Sequence[int]) -> list[numpy.ndarray]:
        if not (most := max(sizes)):
            return [own] * self.size
        padded = numpy.zeros((1, most), numpy.uint8)
        padded[0, : own.nbytes] = own
        rows = numpy.array(xp.distributed.all_gather(xp.array(padded), group=self.group))
        return [row[:size] for row, size in zip(rows, sizes, strict=True)]


@dataclass(frozen=True)
class Whole:
    """A parameter of which this rank has a piece, as it is on one device."""

    local: Array
    placement: Placement
    stacks: int

    @classmethod
    def of(cls, rule: Rule, local: Array, placement: Placement) -> Whole:
        """The whole of a parameter, which ``rule`` steps."""
        return cls(local, placement, len(kept_by(rule, local.ndim).batch))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        return self.placement.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """The dtype of the piece."""
        return self.local.dtype


def tensor_of(processes: Processes, placement: Placement, array: Array) -> Tensor:
    """A tensor in a checkpoint, of which every rank has a piece."""
    there = [_box(placement, rank) for rank in range(processes.size)]
    found: dict[Box, Piece] = {}
    for rank, box in enumerate(there):
        if box.size:
            found.setdefault(box, Piece(rank, box))
    local = [(there[processes.rank], Tensor.of(array))]
    cuts = [axis for axis, cut in enumerate(placement.cuts) if cut]
    how = f"cut along {cuts} among {processes.size} ranks"
    shape = placement.shape
    return Sharded(dtype_name(array.dtype), shape, processes, [*found.values()], local, how)


def slots_of(processes: Processes, rule: Rule, placement: Placement, slots: Any) -> dict[str, Any]:
    """The slots of a parameter of which every rank has a piece."""
    made: Callable[..., Tensor] = partial(tensor_of, processes)
    return {n: map_parts(made, placement.slot(rule, n), value) for n, value in slots.items()}


def placed(tensor: Tensor, example: Any) -> Array:
    """An array that is placed like ``example``: of pieces every rank reads its own."""
    if not isinstance(example, Whole):
        return tensor.like(example)
    where = example.placement.like(tensor.shape, example.stacks) if tensor.shape else None
    if where is None:
        return tensor.like(example.local)
    box = _box(where, example.placement.mesh.place((0,)))
    return tensor.reshaped(tensor.copy(box)).like(example.local)


def _box(placement: Placement, rank: int) -> Box:
    """What a rank has."""
    spans = [
        (0, size) if cut is None else cut.piece(placement.mesh, (rank,))
        for size, cut in zip(placement.shape, placement.cuts, strict=True)
    ]
    return Box(*(tuple(span[end] for span in spans) for end in (0, 1)))
