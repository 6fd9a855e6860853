"""An array in a file, which is checked piece by piece, so that memory stays bounded.

A file is read, not mapped: a map of a file that is cut short meanwhile ends the process.
"""

from __future__ import annotations

import json
import math
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from operator import itemgetter, mul
from typing import Any, BinaryIO

import numpy

from .boxes import Box, runs
from .processes import Processes
from .state import CheckpointError
from .tensor import DTYPES, Tensor

__all__ = ["PIECE", "Progress", "Source", "Stored", "checksum", "pieces", "verify_together"]

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


class Source:
    """A file that stays open while an array in it is needed, and is read at any place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = os.dup(file.fileno())
        self._lock = threading.Lock()
        self._was = self._last_change()
        weakref.finalize(self, os.close, self._file)

    def _last_change(self) -> tuple[int, int]:
        now = os.fstat(self._file)
        return now.st_size, now.st_mtime_ns

    def refuse_change(self) -> None:
        """Raise if somebody has written to the file since it was opened.

        Raises:
            CheckpointError: somebody has.
        """
        if self._last_change() != self._was:
            raise CheckpointError("the file has been changed while it was read")

    def read(self, start: int, size: int) -> bytes:
        """Bytes of the file; fewer where it ends."""
        made = bytearray(size)
        return bytes(made[: self._into(start, memoryview(made))])

    def read_into(self, start: int, array: numpy.ndarray) -> None:
        """Fill an array with bytes of the file.

        Raises:
            CheckpointError: the file ends before, or cannot be read.
        """
        view = array.reshape(-1).view(numpy.uint8).data
        if self._into(start, view) < len(view):
            raise CheckpointError("the file has been cut short while it was read")

    def _into(self, start: int, view: memoryview) -> int:
        done = 0
        try:
            while done < len(view) and (more := self._at(start + done, view[done:])):
                done += more
        except OSError as error:
            raise CheckpointError(f"it cannot be read: {error.strerror}") from None
        return done

    def _at(self, start: int, view: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file, [view], start)
        with self._lock, open(self._file, "rb", buffering=0, closefd=False) as file:
            file.seek(start)
            return file.readinto(view) or 0

    def expect(self, start: int, size: int) -> None:
        """Tell the system what will be read next, where it listens."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, start, size, os.POSIX_FADV_WILLNEED)


class Stored(Tensor):
    """An array in a file, compared with its checksum whenever it is read.

    Args:
        key: its name.
        dtype, shape: its form.
        source: the file.
        start: the place of its first byte.
        expected: its checksum; ``None`` if the file has none.
    """

    def __init__(
        self,
        key: str,
        dtype: str,
        shape: tuple[int, ...],
        source: Source,
        start: int,
        expected: Any,
    ) -> None:
        self.dtype, self._shape = dtype, shape
        self._key, self._source, self._start, self._expected = key, source, start, expected
        self._given: Callable[[], numpy.ndarray | None] = lambda: None
        self._verified = False
        self.allow_nan = True
        self.progress: Callable[[int], None] = lambda _: None
        if not math.prod(shape):
            self._empty()

    def _empty(self) -> numpy.ndarray:
        """Memory for the array."""
        try:
            return numpy.empty(self._shape, DTYPES[self.dtype])
        except ValueError as error:
            raise CheckpointError(f"{self._key!r}: {error}") from None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._shape

    @property
    def bits(self) -> numpy.ndarray:
        """The array, read from the file unless somebody has it."""
        made = self._given()
        if made is None:
            made = self.copy()
            self._given = weakref.ref(made)
        return made

    def verify(self) -> None:
        """Raise if the array has changed since it was written."""
        if not self._verified:
            self._read(None)

    def copy(self, box: Box | None = None) -> numpy.ndarray:
        """The bits of the array or of a part, in memory of their own.

        The array is read and compared with its checksum in one go. Of an array that has been
        compared before only the part is read.
        """
        given = self._given()
        if given is not None:  # somebody may have written to it
            return numpy.array(given if box is None else given[box.slices], order="C")
        if box is not None:
            return self._part(box)
        made = self._empty()
        self._read(made.reshape(-1))
        return made

    def part(self, box: Box) -> numpy.ndarray:
        """The bits of a part."""
        return self.copy(box)

    def _part(self, box: Box) -> numpy.ndarray:
        self.verify()
        kind = numpy.dtype(DTYPES[self.dtype])
        made, filled = numpy.empty(box.size, kind), 0
        strides = [math.prod(self._shape[axis + 1 :]) for axis in range(len(self._shape))]
        for run in runs(self._shape, box):
            out = made[filled : filled + run.size]
            first = sum(map(mul, run.start, strides))
            self._source.read_into(self._start + first * kind.itemsize, out)
            filled += run.size
        self._source.refuse_change()
        return made.reshape(box.shape)

    def spans(self) -> list[tuple[int, int]]:
        """Where the pieces of the array begin and end."""
        size, step = math.prod(self._shape), PIECE // numpy.dtype(DTYPES[self.dtype]).itemsize
        return [(at, min(at + step, size)) for at in range(0, size, step)]

    def _read(self, into: numpy.ndarray | None) -> None:
        """Look at every piece once, and put it ``into`` this, or leave nothing of it in memory."""
        self.judge(self.look(self.spans(), into))

    def look(
        self, spans: Iterable[tuple[int, int]], into: numpy.ndarray | None = None
    ) -> list[tuple[int, int]]:
        """Of these pieces the CRC-32 and how many elements are NaN."""
        kind = numpy.dtype(DTYPES[self.dtype])

        def piece(span: tuple[int, int]) -> tuple[int, int, int]:
            begin, end = span
            out = numpy.empty(end - begin, kind) if into is None else into[begin:end]
            start = self._start + begin * kind.itemsize
            self._source.expect(start + AHEAD, out.nbytes)
            self._source.read_into(start, out)
            nans = 0 if self.allow_nan else _nans(out, self.dtype)
            return zlib.crc32(out.data), nans, out.nbytes

        found = []
        for crc, nans, nbytes in _each(piece, [*spans]):
            found.append((crc, nans))
            if not self._verified:
                self.progress(nbytes)
        return found

    def judge(self, looked_at: Sequence[tuple[int, int]]) -> None:
        """Compare the array with its checksum, given what ``look`` says of all its pieces."""
        count, size = sum(nans for _, nans in looked_at), math.prod(self._shape)
        key, expected = self._key, self._expected
        found = checksum(key, self.dtype, self._shape, [crc for crc, _ in looked_at])
        if expected not in (None, found):
            raise CheckpointError(f"{key!r}: the bytes have been changed since they were written")
        if count and not self.allow_nan:
            raise CheckpointError(
                f"{key!r}: {count} of {size} elements are NaN; allow_nan=True takes them"
            )
        self._verified = True


def verify_together(arrays: Mapping[str, Stored], processes: Processes) -> None:
    """Compare arrays with their checksums; each process reads its share of the pieces."""
    spans = [(key, span) for key, array in arrays.items() for span in array.spans()]
    first, last = (len(spans) * at // processes.size for at in (processes.rank, processes.rank + 1))
    by_key = groupby(spans[first:last], itemgetter(0))
    mine = [one for key, own in by_key for one in arrays[key].look([span for _, span in own])]
    processes.agree({"what it does": "it has read its share of the file"})
    said = iter([found for text in processes.texts(json.dumps(mine)) for found in json.loads(text)])
    for array in arrays.values():
        array.judge([*islice(said, len(array.spans()))])


def _each(function: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
    if len(items) < THREADS:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(function, items)


def _nans(flat: numpy.ndarray, dtype: str) -> int:
    if dtype == "bfloat16":
        return int(numpy.count_nonzero((flat & 0x7FFF) > 0x7F80))
    if dtype.startswith("int"):
        return 0
    return int(numpy.count_nonzero(numpy.isnan(flat)))
