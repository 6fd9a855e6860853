"""Checkpoints as safetensors files.

A key is ``slots/<slot>/<path>``, ``params/<path>`` or ``shared/<name>``; of a slot of several
arrays the key is ``slots/<slot>.<part>/<path>``. The header's metadata has the rest as texts:
``format``, ``format_version``, ``written_by``, ``layout``; in JSON ``rules``, ``parameters`` (of
each its shape, dtype, step, and which of the rules it has) and ``crc32`` (of each array's bytes);
and ``seal``, a checksum of all these.

A file is written under another name, flushed to the disk and renamed, so that whenever a process
is killed there is the old file or the new one. Where the arrays are spread over several files, the
name given is that of an index, a JSON file that says which key is in which, and is renamed last.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy

from .checkpoint import Checkpoint, CheckpointError
from .contents import arrays, metadata, parsed, seal
from .tensor import DTYPES, Tensor

__all__ = ["FORMAT_VERSION", "read", "write"]

FORMAT, FORMAT_VERSION = "samestep", "1"
INDEX = b'{"format": "samestep index"'
"""What an index begins with; as the length of a safetensors header it would be absurd."""
LARGEST_INDEX = 100_000_000
"""Bytes; as many as safetensors allows a header."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes there are."""

CODES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
}
"""Our dtypes by what safetensors calls them."""


def write(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint,
    *,
    max_shard_bytes: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a checkpoint, in the place of what was there.

    Args:
        path: of the file; its folder must exist.
        checkpoint: what to write.
        max_shard_bytes: bytes of arrays per file. Where there are more, ``path`` becomes an index,
            and the arrays go to files beside it, one after another.
        progress: called with the bytes written and all there are.

    Raises:
        OSError: it cannot be written. What was there before is there still.
    """
    target = Path(path)
    tensors = arrays(checkpoint)
    shards = _shards(tensors, max_shard_bytes)
    said = metadata(checkpoint) | _written_by()
    done = _Count(checkpoint.nbytes, progress)
    before = _shards_of(target)
    if len(shards) == 1:
        with _replaced(target) as partial:
            _write_one(partial, tensors, said, done)
    else:
        _write_shards(target, shards, said, done)
    for shard in before:
        with suppress(OSError):
            shard.unlink()


def _written_by() -> dict[str, str]:
    from .. import __version__  # noqa: PLC0415  (the package is being imported above)

    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"samestep {__version__}",
    }


def _shards(tensors: Mapping[str, Tensor], limit: int | None) -> list[dict[str, Tensor]]:
    """The arrays in files of at most ``limit`` bytes, or of one array that is larger."""
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
    target: Path, shards: list[dict[str, Tensor]], said: dict[str, str], done: _Count
) -> None:
    """Files of one set, which no other save knows, and then the index that names them."""
    this = secrets.token_hex(4)
    files = {
        f"{target.stem}-{this}-{place:05}-of-{len(shards):05}{target.suffix}": shard
        for place, shard in enumerate(shards, 1)
    }
    try:
        for name, shard in files.items():
            with _replaced(target.with_name(name)) as partial:
                _write_one(partial, shard, {**_written_by(), "of": target.name}, done)
        index = {
            "format": "samestep index",
            "metadata": {**said, "seal": seal(said)},
            "weight_map": {key: name for name, shard in files.items() for key in shard},
        }
        with _replaced(target) as partial:
            partial.write_text(json.dumps(index), encoding="utf-8")
    except BaseException:
        for name in files:
            target.with_name(name).unlink(missing_ok=True)
        raise


def _write_one(
    path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str], done: _Count
) -> None:
    library = _safetensors()
    whole = {
        key: Tensor(numpy.ascontiguousarray(tensor.bits).reshape(tensor.shape), tensor.dtype)
        for key, tensor in tensors.items()
    }
    with ThreadPoolExecutor(2) as pool:
        sums = dict(zip(whole, pool.map(_checksum, whole, whole.values()), strict=True))
    said = {**said, "crc32": json.dumps(sums)}
    specs = {
        key: library.TensorSpec(
            dtype=tensor.dtype,
            shape=tensor.shape,
            data_ptr=tensor.bits.ctypes.data,
            data_len=tensor.nbytes,
        )
        for key, tensor in whole.items()
    }
    library.serialize_file(specs, path, {**said, "seal": seal(said)})
    done.add(sum(tensor.nbytes for tensor in whole.values()))


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A file to write that takes the target's place at the end, or never existed.

    What a killed process has left half-written is removed, which the lock on it tells from a file
    that another process is writing now.
    """
    for left in target.parent.glob(f".{_literal(target.name)}.*.partial"):
        with suppress(OSError), left.open("rb") as file:
            if _lock(file):
                left.unlink()
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as held:
            _lock(held)
            yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _lock(file: Any) -> bool:
    """Take the only lock on a file; False where somebody has it."""
    try:
        import fcntl  # noqa: PLC0415  (there is none on Windows)
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flush_folder(folder: Path) -> None:
    """Make a rename last; where folders cannot be flushed the system sees to it."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def read(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Checkpoint:
    """The checkpoint in a file.

    Its arrays are maps of the file, which the system reads as they are used. Every byte has been
    looked at once: what has been changed since it was written is an error.

    Args:
        path: of a file, or of an index.
        progress: called with the bytes checked and all there are.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no checkpoint, of a later format, or damaged.
    """
    target = Path(path)
    try:
        with target.open("rb") as file:
            indexed = file.read(len(INDEX)) == INDEX
        texts, found = _read_indexed(target) if indexed else _read_one(target)
        _refuse_other_format(texts)
        checkpoint = parsed(texts, {key: tensor for key, (tensor, _) in found.items()})
        _verify(found, progress)
    except CheckpointError as error:
        raise CheckpointError(f"{target}: {error}") from None
    return checkpoint


Found = dict[str, tuple[Tensor, str]]
"""Arrays with the checksum that they should have, by key."""


def _read_indexed(target: Path) -> tuple[dict[str, str], Found]:
    texts, weight_map = _index(target)
    found: Found = {}
    for name in dict.fromkeys(weight_map.values()):
        try:
            own, arrays_there = _read_one(target.with_name(name))
        except FileNotFoundError:
            raise CheckpointError(f"it needs {name}, which is not there") from None
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from None
        _refuse_other_format(own)
        if own.get("of") != target.name:
            raise CheckpointError(f"{name} is a part of {own.get('of')}")
        found |= arrays_there
    if found.keys() != weight_map.keys():
        apart = sorted(found.keys() ^ weight_map.keys())
        raise CheckpointError(f"index and files do not have the same keys: {', '.join(apart[:5])}")
    return texts, found


def _index(target: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of an index, and the file of each key."""
    size = target.stat().st_size
    if size > LARGEST_INDEX:
        raise CheckpointError(f"the index has {size:,} bytes; at most {LARGEST_INDEX:,} are read")
    try:
        index = json.loads(target.read_bytes())
        said, weight_map = index["metadata"], index["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the index cannot be read: {error!r}") from None
    for name, texts in (("metadata", said), ("weight_map", weight_map)):
        if not isinstance(texts, dict) or not all(isinstance(t, str) for t in texts.values()):
            raise CheckpointError(f"the index's {name} must be texts by name")
    for key, name in weight_map.items():
        plain = name and name == Path(name).name and "\\" not in name and "\0" not in name
        if not plain or name in (".", ".."):
            raise CheckpointError(
                f"the index has {key!r} in {name!r}; it must be a file in the same folder"
            )
    return _unsealed(said), weight_map


def _shards_of(target: Path) -> list[Path]:
    """The files that an index there names; none where there is none that can be read."""
    try:
        with target.open("rb") as file:
            if file.read(len(INDEX)) != INDEX:
                return []
        return [target.with_name(name) for name in {*_index(target)[1].values()}]
    except (OSError, CheckpointError):
        return []


def _read_one(path: Path) -> tuple[dict[str, str], Found]:
    """Texts and arrays of one file, whose header safetensors has found to be right."""
    library = _safetensors()
    try:
        with library.safe_open(path, framework="numpy") as opened:
            texts = opened.metadata() or {}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (library.SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"this is no safetensors file, or a damaged one: {error}") from None
    header.pop("__metadata__", None)
    if texts.get("format") != FORMAT:
        raise CheckpointError(
            "this is a safetensors file, but no checkpoint of samestep: its header has "
            f"format {texts.get('format')!r}"
        )
    texts = _unsealed(texts)
    try:
        sums = json.loads(texts["crc32"])
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError("the header has no checksums") from None
    if not isinstance(sums, dict) or sums.keys() != header.keys():
        raise CheckpointError("the checksums are not those of the arrays")
    mapped = numpy.memmap(path, numpy.uint8, "c", offset=8 + length) if header else None
    found: Found = {}
    for key, item in header.items():
        dtype = CODES.get(item["dtype"])
        if dtype is None:
            raise CheckpointError(
                f"{key}: the dtype is {item['dtype']}; it must be one of {', '.join(CODES)}"
            )
        start, end = item["data_offsets"]
        bits = numpy.empty(0, DTYPES[dtype])
        if mapped is not None and end > start:
            bits = mapped[start:end].view(DTYPES[dtype])
        found[key] = Tensor(bits.reshape(item["shape"]), dtype), sums[key]
    return texts, found


def _unsealed(texts: dict[str, str]) -> dict[str, str]:
    """Texts without their checksum, which must be right."""
    own = {name: text for name, text in texts.items() if name != "seal"}
    if texts.get("seal") != seal(own):
        raise CheckpointError("the header has been changed since it was written")
    return own


def _refuse_other_format(texts: Mapping[str, str]) -> None:
    version = texts.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"the file has version {version} of the format, written by {texts.get('written_by')}; "
            f"this is samestep for version {FORMAT_VERSION}"
        )


def _verify(found: Found, progress: Progress | None) -> None:
    """Refuse arrays that are not what was written, or hold NaN."""
    done = _Count(sum(tensor.nbytes for tensor, _ in found.values()), progress)

    def look(key: str, tensor: Tensor, expected: str) -> str | None:
        if _checksum(key, tensor) != expected:
            return f"{key}: the bytes have been changed since they were written"
        done.add(tensor.nbytes)
        return None

    with ThreadPoolExecutor(2) as pool:
        for problem in pool.map(lambda key: look(key, *found[key]), found):
            if problem is not None:
                raise CheckpointError(problem)


def _checksum(key: str, tensor: Tensor) -> str:
    """CRC-32 of key, dtype, shape and bytes."""
    value = zlib.crc32(f"{key} {tensor.dtype} {tensor.shape}".encode())
    return f"{zlib.crc32(tensor.bits.data, value):08x}"


class _Count:
    """Bytes done, told to whoever wants to know."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, size: int) -> None:
        """More has been done."""
        self.done += size
        if self.progress is not None:
            self.progress(self.done, self.total)


def _safetensors() -> Any:
    try:
        import safetensors  # noqa: PLC0415  (needed for files only)
    except ImportError:
        raise ImportError(
            "checkpoints are safetensors files; install safetensors, or samestep[checkpoint]"
        ) from None
    return safetensors
