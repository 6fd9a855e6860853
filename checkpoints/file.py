"""Checkpoints as safetensors files.

A key is ``slots/<slot>/<path>``, ``params/<path>`` or ``shared/<name>``. If a slot has several
arrays, the key is ``slots/<slot>.<part>/<path>``. The metadata of the header has the rest as texts:
``format``, ``format_version``, ``written_by``, ``layout``; as JSON ``rules``, ``parameters``
(shape, dtype, step and index of the rule of each) and ``crc32`` (of each array); and ``seal``, a
checksum of all these.

A file is written under another name, flushed to the disk and renamed. If the process is killed, the
old file or the new file is there. If the arrays are spread over several files, the given path is
the path of an index, a JSON file with the file of each key, which is renamed last. The files of one
save are a set. A set has a random name, which is in the names and in the metadata of its files.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import numpy

from samestep.version import __version__

from . import header, index
from .contents import FORMAT, FORMAT_VERSION, arrays, check_seal, metadata, parsed, seal
from .index import file_names, opened, remove_left
from .processes import WRITER, Processes, together
from .replacing import flush, flush_folder, replaceable, replaced
from .sharded import facts, processes_of, streamed
from .state import Checkpoint, CheckpointError
from .stored import PIECE, Progress, Source, Stored, checksum, pieces, verify_together
from .tensor import DTYPES, Tensor

__all__ = ["FORMAT_VERSION", "Progress", "read", "write"]

FLUSHED = 1 << 25
"""Bytes that are flushed together while more are written."""
LONGEST = 1000
"""Most characters of a message, because names in a file may have any length."""


def write(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint,
    *,
    max_shard_bytes: int | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> None:
    """Write a checkpoint, replacing an existing file.

    The arrays are brought to the host one after another, so memory stays bounded.

    Args:
        path: path of the file; its folder must exist.
        checkpoint: the checkpoint.
        max_shard_bytes: bytes of arrays per file. If there are more, ``path`` becomes an index, and
            the arrays go to files next to it, one after another.
        progress: called with the number of bytes written and the number of all bytes.
        processes: those who save it together, by default those who have parts of its arrays.

    Raises:
        OSError: the file cannot be written, or the path is a folder, a pipe or a device. What is
            there is unchanged.
    """
    tensors = arrays(checkpoint)
    processes = processes or processes_of(tensors)
    with together(processes):
        shards = _shards(tensors, max_shard_bytes)
        said = metadata(checkpoint) | _written_by()
        if processes is not None:
            place = {"path": os.path.abspath(path), "max_shard_bytes": str(max_shard_bytes)}
            processes.agree({**place, **facts(said, tensors)})
            if processes.rank != WRITER:
                for shard in shards:
                    for _ in _pieces(_ordered(shard), processes):
                        pass
                return
        target = Path(os.path.realpath(path))
        replaceable(target)
        done = _Count(checkpoint.nbytes, progress)
        remove_left(target)
        with replaced(target) as (file, this):
            if len(shards) == 1:
                _write_one(file, shards[0], said, done, processes)
            else:
                _write_shards(target, this, file, shards, said, done, processes)
        remove_left(target)


def _written_by() -> dict[str, str]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"samestep {__version__}",
    }


def _shards(tensors: Mapping[str, Tensor], limit: int | None) -> list[dict[str, Tensor]]:
    """Groups of arrays of at most ``limit`` bytes each, or of one larger array."""
    if limit is not None and limit <= 0:
        raise ValueError(f"max_shard_bytes={limit!r} must be a number of bytes > 0")
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in tensors.items():
        if limit is not None and shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][key] = tensor
        size += tensor.nbytes
    return shards


def _write_shards(
    target: Path,
    this: str,
    file: BinaryIO,
    shards: list[dict[str, Tensor]],
    said: dict[str, str],
    done: _Count,
    processes: Processes | None,
) -> None:
    """Write the files of one set, and then the index that names them."""
    names = file_names(target, this, len(shards))
    try:
        for name, shard in zip(names, shards, strict=True):
            with target.with_name(name).open("xb") as part:
                target.with_name(name).chmod(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
                _write_one(part, shard, {**_written_by(), "set": this}, done, processes)
        flush_folder(target.parent)
        places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        file.write(index.built({**said, "set": this}, places))
        flush(file)
    except BaseException:
        for name in names:
            target.with_name(name).unlink(missing_ok=True)
        raise


def _write_one(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    said: Mapping[str, str],
    done: _Count,
    processes: Processes | None,
) -> None:
    """Write the arrays, computing their checksums, and then the header, which has the checksums."""
    inside = _ordered(tensors)
    sums = {key: _Sum() for key in inside}
    file.write(_header(inside, said, sums))
    with _Flushed(file) as flushed:
        for key, piece in _pieces(inside, processes):
            flushed.write(piece)
            sums[key].add(piece)
            done.add(piece.nbytes)
            del piece  # before more is brought
    file.seek(0)
    file.write(_header(inside, said, sums))
    flush(file)


def _ordered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays as a file has them: the widest elements come first, so that all are aligned."""

    def width(pair: tuple[str, Tensor]) -> int:
        return numpy.dtype(DTYPES[pair[1].dtype]).itemsize

    return dict(sorted(tensors.items(), key=width, reverse=True))


def _pieces(
    tensors: Mapping[str, Tensor], processes: Processes | None
) -> Iterator[tuple[str, numpy.ndarray]]:
    """The bits of all arrays in their order, piece by piece."""
    if processes is not None:
        yield from streamed(tensors, processes)
        return
    for key, tensor in tensors.items():
        for piece in pieces(numpy.ascontiguousarray(tensor.bits).reshape(-1)):
            yield key, piece


class _Sum:
    """The CRC-32 of every ``PIECE`` bytes of an array, which comes in other pieces."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._crc, self._size = 0, 0

    def add(self, array: numpy.ndarray) -> None:
        """Go on with these bytes."""
        left = array.reshape(-1).view(numpy.uint8).data
        while left:
            piece, left = left[: PIECE - self._size], left[PIECE - self._size :]
            self._crc, self._size = crc32(piece, self._crc), self._size + len(piece)
            if self._size == PIECE:
                self._done.append(self._crc)
                self._crc, self._size = 0, 0

    @property
    def crcs(self) -> list[int]:
        """Of every piece; the last may be shorter."""
        return [*self._done, *([self._crc] if self._size else [])]


class _Flushed:
    """A file that goes to the disk while more of it is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._waiting = file, 0
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> _Flushed:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        if self._last is not None:
            self._last.result()

    def write(self, piece: numpy.ndarray) -> None:
        """Write, and start a flush of the written bytes unless one is running."""
        self._file.write(piece.data)
        self._waiting += piece.nbytes
        if self._waiting >= FLUSHED and (self._last is None or self._last.done()):
            if self._last is not None:
                self._last.result()
            self._last = self._pool.submit(os.fsync, self._file.fileno())
            self._waiting = 0


def _header(
    tensors: Mapping[str, Tensor], said: Mapping[str, str], sums: Mapping[str, _Sum]
) -> bytes:
    found = {key: checksum(key, t.dtype, t.shape, sums[key].crcs) for key, t in tensors.items()}
    said = {**said, "crc32": json.dumps(found)}
    return header.built(tensors, {**said, "seal": seal(said)})


def read(
    path: str | os.PathLike[str],
    *,
    allow_nan: bool = True,
    lazily: bool = False,
    progress: Progress | None = None,
    processes: Processes | None = None,
) -> Checkpoint:
    """The checkpoint in a file.

    Its arrays are read from the file when they are used, and are kept in memory only while somebody
    uses them. What is read is compared with its checksum.

    Args:
        path: path of a file, or of an index.
        allow_nan: whether arrays may hold NaN.
        lazily: whether an array is checked when it is first used, instead of now.
        progress: called with the number of bytes checked and the number of all bytes.
        processes: those who read the file at the same time, each of which checks its share now.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file is not a checkpoint, has a later format, or is damaged.
    """
    target = Path(path)
    with together(processes):
        try:
            if processes is not None:
                processes.agree({"path": os.path.abspath(path)})
            texts, found = _read_any(target)
            checkpoint = parsed(texts, found)
            done = _Count(sum(tensor.nbytes for tensor in found.values()), progress)
            for tensor in found.values():
                tensor.allow_nan, tensor.progress = allow_nan, done.add
                if not lazily and processes is None:
                    tensor.verify()
            if processes is not None:
                processes.agree({"the content of the file": texts["seal"]})
                verify_together(found, processes)
        except FileNotFoundError as error:
            if processes is None:
                raise
            words = (
                f"{error.strerror} (each of {processes.size} processes reads the file, so it must "
                "be where all find it under this path)"
            )
            raise FileNotFoundError(error.errno, words, error.filename) from None
        except CheckpointError as error:
            words = str(error)
            short = words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
            raise CheckpointError(f"{target}: {short}") from None
    return checkpoint


Found = dict[str, Stored]


def _read_any(target: Path) -> tuple[dict[str, str], Found]:
    with opened(target) as file:
        if file.read(len(index.START)) != index.START:
            return _read_one(file)
    while True:
        try:
            return _read_indexed(target)
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
        # another process may just have put another set in its place
        if missing in index.index(target)[1].values():
            raise CheckpointError(f"it needs {missing!r}, which is not there")


def _read_indexed(target: Path) -> tuple[dict[str, str], Found]:
    texts, weight_map = index.index(target)
    keys: dict[str, set[str]] = {}
    for key, name in weight_map.items():
        keys.setdefault(name, set()).add(key)
    found: Found = {}
    for name, expected in keys.items():
        try:
            if target.with_name(name).is_symlink():
                raise CheckpointError("this is a link; it must be a file in the same folder")
            with opened(target.with_name(name)) as file:
                own, inside = _read_one(file)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None
        if own.get("set") != texts["set"]:
            raise CheckpointError(f"{name} is of another save than the index")
        if inside.keys() != expected:
            apart = sorted(inside.keys() ^ expected)
            raise CheckpointError(f"{name} has other keys than the index says: {apart[:5]}")
        found |= inside
    return texts, found


def _read_one(file: BinaryIO) -> tuple[dict[str, str], Found]:
    """Texts and arrays of one file."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(header.LARGEST, size - 8):
        raise CheckpointError(
            f"this is no safetensors file, or a damaged one: of {size:,} bytes it would have a "
            f"header of {length:,} (at most {header.LARGEST:,} are read)"
        )
    texts, items = header.parsed(file.read(length))
    check_seal(texts)
    places = header.places(items, size - 8 - length)
    sums = header.json_of("crc32 in the header", texts.get("crc32", ""))
    if not isinstance(sums, dict) or sums.keys() != places.keys():
        raise CheckpointError("the checksums are not those of the arrays")
    source = Source(file)
    return texts, {
        key: Stored(key, own.dtype, own.shape, source, 8 + length + own.start, sums[key])
        for key, own in places.items()
    }


class _Count:
    """A count of bytes, reported to ``progress``."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, size: int) -> None:
        """Count more bytes."""
        self.done += size
        if self.progress is not None:
            self.progress(self.done, self.total)
