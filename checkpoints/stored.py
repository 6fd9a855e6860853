"""An array in a file, which is checked piece by piece, so that memory stays bounded."""

from __future__ import annotations

import json
import math
import mmap
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy

from .state import CheckpointError
from .tensor import DTYPES, Tensor

__all__ = ["PIECE", "Progress", "Stored", "checksum", "pieces"]

PIECE = 1 << 22
"""Bytes that are read together and have a checksum of their own."""
AHEAD = 4 * PIECE
"""Bytes that the system is asked to read in advance."""
THREADS = 2

Progress = Callable[[int, int], None]
"""Called with the number of bytes done and the number of all bytes."""


def checksum(key: str, dtype: str, shape: Iterable[int], crcs: Iterable[int]) -> str:
    """CRC-32 of an array's name, dtype and shape, and of the CRC-32 of every piece."""
    text = json.dumps([key, dtype, [*shape], [*crcs]])
    return f"{zlib.crc32(text.encode()):08x}"


def pieces(flat: numpy.ndarray) -> list[numpy.ndarray]:
    """An array of one dimension cut into pieces."""
    size = PIECE // flat.itemsize
    return [flat[at : at + size] for at in range(0, flat.size, size)]


class Stored(Tensor):
    """An array in a file: a map of it, compared with its checksum before anything uses it."""

    def __init__(
        self,
        key: str,
        dtype: str,
        shape: tuple[int, ...],
        source: mmap.mmap,
        start: int,
        expected: Any,
    ) -> None:
        count = math.prod(shape)
        flat: Any = numpy.empty(0, DTYPES[dtype])
        if count:
            flat = numpy.frombuffer(source, DTYPES[dtype], count, start)
        try:
            super().__init__(flat.reshape(shape), dtype)
        except ValueError as error:
            raise CheckpointError(f"{key!r}: {error}") from None
        self._key, self._flat, self._source, self._start = key, flat, source, start
        self._expected, self._verified, self._shared = expected, False, False
        self.allow_nan = True
        self.progress: Callable[[int], None] = lambda _: None

    @property
    def bits(self) -> numpy.ndarray:
        """The memory map; the system reads the parts that are used."""
        self.verify()
        self._shared = True
        return self._bits

    def mapped(self) -> numpy.ndarray:
        """The map, whatever there is in the file."""
        return self._bits

    def verify(self) -> None:
        """Raise if the array has changed since it was written."""
        if not self._verified:
            self._read(None)

    def copy(self) -> numpy.ndarray:
        """The array's bits in memory of their own, read and compared in one go."""
        if self._shared:  # somebody may have written to the map
            return super().copy()
        made = numpy.empty(self.shape, self._flat.dtype)
        self._read(made.reshape(-1))
        return made

    def _read(self, into: numpy.ndarray | None) -> None:
        """Look at every piece once, and put it ``into`` this; leave nothing of it in memory."""
        here = pieces(self._flat)
        out = here if into is None else pieces(into)
        found = []
        for crc, nans, size in _each(self._piece, here, out):
            found.append((crc, nans))
            if not self._verified:
                self.progress(size)
        key, count = self._key, sum(nans for _, nans in found)
        crcs = (crc for crc, _ in found)
        if checksum(key, self.dtype, self.shape, crcs) != self._expected:
            raise CheckpointError(f"{key!r}: the bytes have been changed since they were written")
        if count and not self.allow_nan:
            raise CheckpointError(
                f"{key!r}: {count} of {self._flat.size} elements are NaN; allow_nan=True takes them"
            )
        self._verified = True

    def _piece(self, here: numpy.ndarray, out: numpy.ndarray) -> tuple[int, int, int]:
        at = self._start + here.ctypes.data - self._flat.ctypes.data
        _advise(self._source, "MADV_WILLNEED", at + AHEAD, at + AHEAD + here.nbytes)
        if out is not here:
            out[...] = here
        crc, nans = zlib.crc32(out.data), 0 if self.allow_nan else _nans(out, self.dtype)
        if not self._shared:
            _advise(self._source, "MADV_DONTNEED", at, at + here.nbytes)
        return crc, nans, here.nbytes


def _each(function: Callable[..., Any], *lists: list[Any]) -> Iterable[Any]:
    if len(lists[0]) < THREADS:
        yield from map(function, *lists)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(function, *lists)


def _nans(flat: numpy.ndarray, dtype: str) -> int:
    if dtype == "bfloat16":
        return int(numpy.count_nonzero((flat & 0x7FFF) > 0x7F80))
    if dtype.startswith("int"):
        return 0
    return int(numpy.count_nonzero(numpy.isnan(flat)))


def _advise(source: mmap.mmap, what: str, start: int, end: int) -> None:
    """Tell the system of the whole pages between two places, where it listens."""
    advice = getattr(mmap, what, None)
    first, last = -(-start // mmap.PAGESIZE), min(end, len(source)) // mmap.PAGESIZE
    if advice is not None and first < last:
        source.madvise(advice, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)
