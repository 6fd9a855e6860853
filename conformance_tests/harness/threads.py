"""Processes that are threads of this one, for arrays of NumPy in pieces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy

from samestep.arrays import map_parts
from samestep.checkpoints import Checkpoint, Tensor
from samestep.checkpoints.boxes import Box, Piece
from samestep.checkpoints.processes import Processes
from samestep.checkpoints.sharded import Sharded

__all__ = ["Threads", "cut", "in_threads", "shards"]


class Threads(Processes):
    """One of several threads, which see each other's words in a list."""

    def __init__(self, rank: int, barrier: threading.Barrier, words: list[Any]) -> None:
        super().__init__(rank, barrier.parties)
        self._barrier, self._words = barrier, words
        self.moved = 0
        """Bytes that this thread has given."""

    def _exchanged(self, own: Any) -> list[Any]:
        self._words[self.rank] = own
        self._barrier.wait()
        every = [*self._words]
        self._barrier.wait()
        return every

    def is_common(self, number: int) -> bool:
        """Whether all threads have given the same number."""
        return len({*self._exchanged(number)}) == 1

    def texts(self, text: str) -> list[str]:
        """The texts of all threads."""
        return self._exchanged(text)

    def gathered(self, own: numpy.ndarray, sizes: Sequence[int]) -> list[numpy.ndarray]:
        """The bytes of all threads."""
        self.moved += own.nbytes
        every = self._exchanged(own.copy())
        assert [one.nbytes for one in every] == [*sizes]
        return every


def in_threads(size: int, function: Callable[[Threads], Any]) -> list[Any]:
    """What a function returns, or raises, in each of several threads; none waits for long."""
    barrier, words = threading.Barrier(size, timeout=30), [None] * size

    def one(rank: int) -> Any:
        try:
            return function(Threads(rank, barrier, words))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return [*pool.map(one, range(size))]


def shards(shape: tuple[int, ...], size: int, axis: int = 0) -> list[Box]:
    """The boxes of an array cut along an axis as ``torch.chunk`` cuts it."""
    step = -(-shape[axis] // size)
    ends = [min(at * step, shape[axis]) for at in range(size + 1)]

    def box(start: int, stop: int) -> Box:
        whole = [(0, end) for end in shape]
        whole[axis] = start, stop
        return Box(*(tuple(ends) for ends in zip(*whole, strict=True)))

    return [box(*pair) for pair in pairwise(ends)]


def cut(checkpoint: Checkpoint, processes: Processes) -> Checkpoint:
    """A checkpoint of which a process has the rows, or columns where a row is a single one."""

    def tensor(whole: Tensor) -> Tensor:
        if not whole.shape:
            return whole
        parts = shards(
            whole.shape, processes.size, int(whole.shape[0] == 1 and len(whole.shape) > 1)
        )
        own = parts[processes.rank]
        pieces = [Piece(rank, box) for rank, box in enumerate(parts) if box.size]
        local = whole.reshaped(whole.bits[own.slices])
        return Sharded(whole.dtype, whole.shape, processes, pieces, [(own, local)], "rows")

    def state(own: Any) -> Any:
        slots = {name: map_parts(tensor, value) for name, value in (own.slots or {}).items()}
        return replace(own, slots=slots, value=own.value and tensor(own.value))

    return replace(
        checkpoint, parameters={path: state(own) for path, own in checkpoint.parameters.items()}
    )
