"""Arrays of several processes in checkpoints: which has which part, and how they come together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy

import jax
from jax.experimental import multihost_utils
from samestep.arrays import dtype_name
from samestep.checkpoints.boxes import Box, Piece
from samestep.checkpoints.processes import WRITER, Processes
from samestep.checkpoints.sharded import Sharded
from samestep.checkpoints.tensor import Tensor, place

__all__ = ["local", "placed", "processes_of", "tensor_of"]


def processes_of(leaves: Iterable[Any]) -> Processes | None:
    """All processes, if one of these arrays has parts in several."""
    return _Processes() if any(map(_is_sharded, leaves)) else None


def _is_sharded(array: Any) -> bool:
    return isinstance(array, jax.Array) and not array.is_fully_addressable


class _Processes(Processes):
    """The processes of ``jax.distributed``."""

    def __init__(self) -> None:
        super().__init__(jax.process_index(), jax.process_count())

    def is_common(self, number: int) -> bool:
        return len({*map(int, _gathered(numpy.uint32(number)))}) == 1

    def texts(self, text: str) -> list[str]:
        own = numpy.frombuffer(text.encode(), numpy.uint8)
        sizes = [int(size) for size in _gathered(numpy.uint32(own.nbytes))]
        whole = _gathered(_padded(own, max(sizes)))
        return [one[:size].tobytes().decode() for one, size in zip(whole, sizes, strict=True)]

    def gathered(self, own: numpy.ndarray, sizes: Sequence[int]) -> list[numpy.ndarray]:
        most = max(sizes)
        if not most:
            return [own] * self.size
        if most * (self.size - 1) <= 2 * sum(sizes):
            whole = _gathered(_padded(own, most))
            return [one[:size] for one, size in zip(whole, sizes, strict=True)]
        made = []
        for rank, size in enumerate(sizes):  # one after another, as every process gets them all
            mine = own if rank == self.rank else numpy.zeros(size, numpy.uint8)
            given = mine
            if size:
                padded = _padded(mine, size)
                given = multihost_utils.broadcast_one_to_all(padded, rank == self.rank)
            made.append(given[:size] if self.rank == WRITER else given[:0])
        return made


def _gathered(own: Any) -> Any:
    return multihost_utils.process_allgather(own)


def _padded(own: numpy.ndarray, size: int) -> numpy.ndarray:
    """Bytes in an array of a length of which there are few, so that few programs are compiled."""
    made = numpy.zeros(1 << max(size - 1, 0).bit_length(), numpy.uint8)
    made[: own.nbytes] = own
    return made


def tensor_of(processes: Processes | None) -> Callable[[Any], Any]:
    """A function that makes a tensor of an array with parts in several processes."""

    def made(array: Any) -> Any:
        if processes is None or not _is_sharded(array):
            return array
        shape = tuple(array.shape)
        holders: dict[Box, int] = {}
        for device, index in array.sharding.devices_indices_map(shape).items():
            box = _box(index, shape)
            holders[box] = min(device.process_index, holders.get(box, device.process_index))
        parts = {_box(one.index, shape): one.data for one in array.addressable_shards}
        return Sharded(
            dtype_name(array.dtype),
            shape,
            processes,
            [Piece(holder, box) for box, holder in holders.items() if box.size],
            [(box, Tensor.of(data)) for box, data in parts.items()],
            repr(array.sharding),
        )

    return made


def local(array: Any) -> Any:
    """An array that is whole in every process, as it is in this one."""
    return array.addressable_data(0) if _is_sharded(array) else array


def placed(tensor: Tensor, example: Any) -> Any:
    """An array that is placed like ``example``; every process reads its own parts.

    Raises:
        TypeError: JAX has no such dtype without its 64-bit mode.
    """
    if not _is_sharded(example):
        return tensor.like(example)
    wanted = jax.dtypes.canonicalize_dtype(getattr(jax.numpy, tensor.dtype))
    if dtype_name(wanted) != tensor.dtype:
        return tensor.like(local(example))  # which says why
    return jax.make_array_from_callback(
        tensor.shape,
        place(example, tensor.shape),
        lambda index: tensor.copy(_box(index, tensor.shape)).view(wanted),
        wanted,
    )


def _box(index: Any, shape: Sequence[int]) -> Box:
    bounds = [own.indices(size) for own, size in zip(index, shape, strict=True)]
    return Box(tuple(one[0] for one in bounds), tuple(one[1] for one in bounds))
