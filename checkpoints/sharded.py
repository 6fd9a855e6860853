"""Arrays of which every process has pieces, brought to one process bucket by bucket."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from . import boxes
from .boxes import Box, Piece, blocks, whole
from .processes import WRITER, Processes
from .state import CheckpointError
from .tensor import DTYPES, Tensor

__all__ = ["Sharded", "facts", "processes_of", "streamed"]

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Of a function, which each process has elsewhere."""


class Sharded(Tensor):
    """An array of which every process has pieces.

    Args:
        dtype, shape: the form of the whole array.
        processes: those who have pieces of it.
        pieces: parts in which every element is once; none if they do not go to the process that
            writes, which has them from others.
        local: the parts that are in this process.
        how: in words, how the array is sharded.
    """

    def __init__(
        self,
        dtype: str,
        shape: tuple[int, ...],
        processes: Processes,
        pieces: Sequence[Piece],
        local: Sequence[tuple[Box, Tensor]],
        how: str,
    ) -> None:
        self.dtype, self._shape, self.how = dtype, shape, how
        self.processes, self.pieces, self._local = processes, pieces, local

    @property
    def bits(self) -> numpy.ndarray:
        """The array, if all of it is in this process."""
        return self.part(whole(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._shape

    def part(self, box: Box) -> numpy.ndarray:
        """The bits of a part that is in this process."""
        shared = [(own, tensor, own.common(box)) for own, tensor in self._local]
        for own, tensor, common in shared:
            if common == box:
                return tensor.part(box.within(own))
        found: numpy.ndarray = numpy.empty(box.shape, DTYPES[self.dtype])
        seen = numpy.zeros(box.shape, bool)
        for own, tensor, common in shared:
            found[common.within(box).slices] = tensor.part(common.within(own))
            seen[common.within(box).slices] = True
        if not seen.all():
            raise CheckpointError(
                f"this process has not all that is asked for of an array of shape {self.shape}, "
                f"which is {self.how}; samestep.save writes it whole, samestep.load brings it to "
                "another mesh, and samestep.checkpoints.read reads it"
            )
        return found

    def held(self) -> Tensor:
        """The array with copies of the parts in this process."""
        return self._of(Tensor.held)

    def __neg__(self) -> Tensor:
        return self._of(Tensor.__neg__)

    def _of(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        local = [(box, function(tensor)) for box, tensor in self._local]
        return Sharded(self.dtype, self.shape, self.processes, self.pieces, local, self.how)


def processes_of(tensors: Mapping[str, Tensor]) -> Processes | None:
    """Those who have pieces of these arrays; ``None`` if all arrays are whole."""
    spread = (tensor.processes for tensor in tensors.values() if isinstance(tensor, Sharded))
    return next(spread, None)


def facts(said: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What must be the same in all processes that save a checkpoint, by names in words."""
    rules = json.loads(said["rules"])
    found = {name: text for name, text in said.items() if name not in ("rules", "parameters")}
    for path, own in json.loads(said["parameters"]).items():
        found |= _said(f"parameter {path!r}", {**own, "rule": rules[own["rule"]]})
    for key, tensor in tensors.items():
        how = tensor.how if isinstance(tensor, Sharded) else "it is not sharded"
        found[f"the form of {key!r}"] = f"{tensor.dtype} of shape {tensor.shape}: {how}"
    return found


def _said(of: str, value: Any) -> Iterator[tuple[str, str]]:
    """What is inside a value, by names in words."""
    if not isinstance(value, dict):
        yield of, ADDRESS.sub("", str(value))
        return
    for name, inside in value.items():
        yield from _said(of if name == "values" else f"{name} of {of}", inside)


def streamed(
    tensors: Mapping[str, Tensor], processes: Processes
) -> Iterator[tuple[str, numpy.ndarray]]:
    """The bits of all arrays in their order, for the process that writes; others only give theirs.

    An array that is not sharded is the one of the process that writes.
    """
    bucket: list[_Block] = []
    for key, tensor in tensors.items():
        itemsize = numpy.dtype(DTYPES[tensor.dtype]).itemsize
        for box in blocks(whole(tensor.shape), itemsize):
            block = _Block(key, tensor, box)
            if bucket and sum(one.nbytes for one in bucket) + block.nbytes > boxes.BUCKET:
                yield from _brought(bucket, processes)
                bucket = []
            bucket.append(block)
    if bucket:
        yield from _brought(bucket, processes)


class _Block(NamedTuple):
    """A part of an array that goes to the file at once."""

    key: str
    tensor: Tensor
    box: Box

    @property
    def kind(self) -> numpy.dtype:
        """The dtype of its bits."""
        return numpy.dtype(DTYPES[self.tensor.dtype])

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.box.size * self.kind.itemsize

    def parts(self) -> list[Piece]:
        """Its parts, and who gives each."""
        if not isinstance(self.tensor, Sharded):
            return [Piece(WRITER, self.box)]
        parts = (Piece(holder, box.common(self.box)) for holder, box in self.tensor.pieces)
        return [piece for piece in parts if piece.box.size]


def _brought(bucket: list[_Block], processes: Processes) -> Iterator[tuple[str, numpy.ndarray]]:
    """The blocks of a bucket, for the process that writes."""
    parts = [block.parts() for block in bucket]
    sizes, own = [0] * processes.size, list[numpy.ndarray]()
    for block, pieces in zip(bucket, parts, strict=True):
        for holder, box in pieces:
            if holder != WRITER:
                sizes[holder] += box.size * block.kind.itemsize
                if holder == processes.rank:
                    own.append(_bytes(block.tensor.part(box)))
    first, last = bucket[0], bucket[-1]
    mine = own[0] if len(own) == 1 else numpy.concatenate([numpy.empty(0, numpy.uint8), *own])
    processes.agree({"the arrays written": f"{first.key}{[*first.box]} to {last.key}"})
    given = processes.gathered(mine, sizes)
    if processes.rank != WRITER:
        return
    read = [0] * processes.size

    def part(block: _Block, piece: Piece) -> numpy.ndarray:
        holder, box = piece
        if holder == WRITER:
            return block.tensor.part(box)
        begin, end = read[holder], read[holder] + box.size * block.kind.itemsize
        read[holder] = end
        return given[holder][begin:end].view(block.kind).reshape(box.shape)

    for block, pieces in zip(bucket, parts, strict=True):
        if len(pieces) == 1:
            yield block.key, numpy.ascontiguousarray(part(block, pieces[0])).reshape(-1)
            continue
        found = numpy.empty(block.box.shape, block.kind)
        for piece in pieces:
            found[piece.box.within(block.box).slices] = part(block, piece)
        yield block.key, found.reshape(-1)


def _bytes(array: numpy.ndarray) -> numpy.ndarray:
    return numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
