"""A recording on disk: the growing part, and the final safetensors file.

While a run is recorded, its steps are appended to ``<path>.part``, one safetensors image after
another, each with checksums and a seal. If the process is killed, only the last image is lost. At
the end the images are assembled, one array at a time, in a file that replaces ``path``. A single
safetensors file cannot grow: its header comes first and has the place of every array.

A key is ``<kind>/<session>/<step>/<path>``; see ``reading`` for the kinds. The metadata has
``format``, ``format_version``, ``written_by``, ``crc32`` (of each array), ``seal``, and in JSON
``records``, an object per session and per step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

import numpy

from samestep.checkpoints import header
from samestep.checkpoints.contents import seal
from samestep.checkpoints.index import opened
from samestep.checkpoints.replacing import replaced
from samestep.checkpoints.state import CheckpointError
from samestep.checkpoints.stored import Source, Stored, checksum, pieces
from samestep.checkpoints.tensor import DTYPES, Tensor
from samestep.version import __version__

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Image",
    "Part",
    "RecordingError",
    "assemble",
    "crcs_of",
    "images",
    "part_of",
]

FORMAT, FORMAT_VERSION = "samestep recording", "1"

Records = list[dict[str, Any]]


class RecordingError(CheckpointError):
    """A run that cannot be recorded, or a recording that cannot be read or replayed."""


def part_of(path: Path) -> Path:
    """The path of the growing part of a recording."""
    return path.with_name(f"{path.name}.part")


def crcs_of(tensor: Tensor) -> list[int]:
    """The CRC-32 of every piece of an array."""
    flat = numpy.ascontiguousarray(tensor.bits).reshape(-1)
    return [crc32(piece.data) for piece in pieces(flat)]


class Part:
    """The growing part of a recording.

    Raises:
        RecordingError: the part exists already, or it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("xb")
        except FileExistsError:
            raise RecordingError(
                f"{path}: it is there already; either another process is recording to it, or one "
                "was killed and left it. It can be read as it is; append=True goes on with it, and "
                "removing it starts anew"
            ) from None
        except OSError as error:
            raise RecordingError(f"{path}: it cannot be written: {error.strerror}") from None
        self.path = path

    def append(self, record: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Add a record and its arrays, completely or not at all."""
        begin = self._file.tell()
        try:
            _write(self._file, [record], tensors)
            self._file.flush()
        except BaseException:
            try:
                self._file.seek(begin)
                self._file.truncate()
            except OSError:  # a full disk does not take the rest of the buffer either
                os.ftruncate(self._file.fileno(), begin)
                self._file.raw.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def assemble(target: Path, images: Iterable[Image]) -> None:
    """Concatenate the images and replace ``target``.

    One array at a time is in memory. Sessions are numbered anew. A session occurs twice if a
    process was killed after it had assembled its recording; it is written once.

    Raises:
        OSError, ValueError: the file cannot be written.
    """
    records: Records = []
    tensors: dict[str, Tensor] = {}
    sessions: dict[str, int] = {}
    for image in images:
        chosen: dict[int, int] = {}
        for record in image.records:
            if "run" in record:
                identity = record["run"]["id"]
                if identity not in sessions:
                    chosen[record["session"]] = sessions[identity] = len(sessions)
            elif record["session"] not in chosen and image.name in sessions:
                chosen[record["session"]] = sessions[image.name]
            if (number := chosen.get(record["session"])) is not None:
                records.append({**record, "session": number})
        for key, tensor in image.tensors.items():
            kind, own, rest = key.split("/", 2)
            if (number := chosen.get(int(own))) is not None:
                tensors[f"{kind}/{number}/{rest}"] = tensor
    with replaced(Path(os.path.realpath(target))) as (file, _):
        _write(file, records, tensors)
        file.flush()
        os.fsync(file.fileno())


def _write(file: BinaryIO, records: Records, tensors: Mapping[str, Tensor]) -> None:
    """Write an image: the arrays, computing their checksums, and then the header."""
    begin = file.tell()
    inside = dict(sorted(tensors.items(), key=lambda pair: _width(pair[1]), reverse=True))
    sums = dict.fromkeys(inside, f"{0:08x}")
    file.write(_header(inside, records, sums))
    for key, tensor in inside.items():
        # an array of a file is verified while it is copied; other arrays are written directly
        bits = tensor.copy() if isinstance(tensor, Stored) else tensor.bits
        crcs = []
        for piece in pieces(numpy.ascontiguousarray(bits).reshape(-1)):
            file.write(piece.data)
            crcs.append(crc32(piece.data))
        sums[key] = checksum(key, tensor.dtype, tensor.shape, crcs)
    end = file.tell()
    file.seek(begin)
    file.write(_header(inside, records, sums))
    file.seek(end)


def _width(tensor: Tensor) -> int:
    return numpy.dtype(DTYPES[tensor.dtype]).itemsize


def _header(tensors: Mapping[str, Tensor], records: Records, sums: Mapping[str, str]) -> bytes:
    texts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"samestep {__version__}",
        "records": json.dumps(records),
        "crc32": json.dumps(sums),
    }
    return header.built(tensors, {**texts, "seal": seal(texts)})


class Image(NamedTuple):
    """The records of an image, and its arrays, which are read from the file when they are used."""

    name: str
    records: Records
    tensors: dict[str, Stored]


def images(path: Path) -> Iterator[Image]:
    """The images in a file: one in a final file, several in a growing part.

    An incomplete last image of a killed process is left out.

    Raises:
        RecordingError: the file is not a recording, or is damaged.
        FileNotFoundError: the file does not exist.
    """
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                raise CheckpointError("the file is empty")
            source = Source(file)
    except CheckpointError as error:
        raise RecordingError(f"{path}: {error}") from None
    grows = path.name.endswith(".part")
    at, name = 0, ""
    while at < size:
        try:
            image, end = _image(source, at, size, grows)
        except CheckpointError as error:
            if grows and at:
                return
            raise RecordingError(f"{path}: {error}") from None
        name = next((r["run"]["id"] for r in image.records if "run" in r), name)
        yield image._replace(name=name)
        at = end


def _image(source: Source, at: int, size: int, grows: bool) -> tuple[Image, int]:
    length = int.from_bytes(source.read(at, 8), "little")
    if length > min(header.LARGEST, size - at - 8):
        raise CheckpointError(
            f"this is no safetensors file, or one that was cut short: of {size - at:,} bytes it "
            f"would have a header of {length:,}"
        )
    begin = at + 8 + length
    texts, items = header.parsed(source.read(at + 8, length))
    _refuse_others(texts)
    inside = max((_end(item) for item in items.values()), default=0)
    places = header.places(items, min(inside, size - begin) if grows else size - begin)
    sums = header.json_of("crc32 in the header", texts.get("crc32", ""))
    records = header.json_of("records in the header", texts.get("records", ""))
    if not isinstance(sums, dict) or sums.keys() != places.keys():
        raise CheckpointError("the checksums and the arrays have different names")
    tensors = {
        key: Stored(key, own.dtype, own.shape, source, begin + own.start, sums[key])
        for key, own in places.items()
    }
    end = begin + inside
    if grows and end == size:  # the system may have written the last pages or not
        for tensor in tensors.values():
            tensor.verify()
    return Image("", records, tensors), end if grows else size


def _end(item: Any) -> int:
    try:
        return int(item["data_offsets"][1])
    except (TypeError, KeyError, IndexError, ValueError):
        return 0


def _refuse_others(texts: Mapping[str, str]) -> None:
    if texts.get("format") != FORMAT:
        own = texts.get("format") == "samestep"
        what = "a checkpoint of samestep" if own else "a safetensors file of another kind"
        raise CheckpointError(
            f"this is {what}, no recording; its header has format {texts.get('format')!r}"
        )
    if texts.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"the recording has version {texts.get('format_version')} of the format, written by "
            f"{texts.get('written_by')}; this is samestep for version {FORMAT_VERSION}"
        )
    if texts.get("seal") != seal({name: text for name, text in texts.items() if name != "seal"}):
        raise CheckpointError("the header has been changed since it was written")
