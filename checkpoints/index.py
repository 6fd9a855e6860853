"""The index of a checkpoint that is sharded over several files, and the set of these files."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from . import header
from .contents import check_seal, seal
from .replacing import alike, partials, remove_partials
from .state import CheckpointError

__all__ = ["START", "built", "file_names", "index", "opened", "remove_left"]

START = b'{"format": "samestep index"'
"""The first bytes of an index; as the length of a safetensors header they would be absurd."""
LARGEST = header.LARGEST
"""Bytes."""


def file_names(target: Path, this: str, count: int) -> list[str]:
    """The names of the files of a set.

    Args:
        target: the path of the index.
        this: the name of the set.
        count: the number of files.
    """
    start = f"{target.stem}-{this}"
    return [f"{start}-{n:05}-of-{count:05}{target.suffix}" for n in range(1, count + 1)]


def _pattern(target: Path) -> str:
    """The pattern of ``file_names``; the group is the name of the set."""
    stem, suffix = re.escape(target.stem), re.escape(target.suffix)
    return rf"{stem}-([0-9a-f]{{8}})-\d{{5,}}-of-\d{{5,}}{suffix}"


def built(texts: Mapping[str, str], weight_map: Mapping[str, str]) -> bytes:
    """An index with these texts and the file of each key."""
    metadata = {**texts, "seal": seal(texts)}
    said = {"format": "samestep index", "metadata": metadata, "weight_map": weight_map}
    return json.dumps(said).encode()


def index(target: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of an index, and the file of each key.

    Raises:
        CheckpointError: the file is not an index, or names files of others.
    """
    with opened(target) as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise CheckpointError(f"the index has more than {LARGEST:,} bytes")
    try:
        found = header.json_of("the index", text.decode())
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the index is no text: {error.reason}") from None
    said, weight_map = (_texts(found, name) for name in ("metadata", "weight_map"))
    check_seal(said)
    for key, name in weight_map.items():
        match = re.fullmatch(_pattern(target), name)
        if not match or match[1] != said.get("set"):
            raise CheckpointError(
                f"the index has {key!r} in {name!r}; it must be in a file beside it that begins "
                f"with {target.stem}-{said.get('set')}- (an index is not renamed)"
            )
    return said, weight_map


def _texts(found: dict[str, object], name: str) -> dict[str, str]:
    texts = found.get(name)
    if not isinstance(texts, dict) or not all(isinstance(t, str) for t in texts.values()):
        raise CheckpointError(f"the index's {name} must be texts by name")
    return texts


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """An open file.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the path is not a file, or the file cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe is not opened, which would wait
            raise CheckpointError("this is no file")
        file = path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror}") from None
    with file:
        yield file


def remove_left(target: Path) -> None:
    """Remove the files of killed processes: files that are not locked and that no index names."""
    pattern = _pattern(target)
    sets = {path: re.fullmatch(pattern, path.name) for path in alike(target, pattern)}
    remove_partials(target)
    # last of all the index: a set that is being written a moment before may be its set now
    kept = {path.name.split(".")[-2] for path in partials(target)}
    try:
        kept |= {_set_of(target)} if sets else set()
    except (OSError, CheckpointError):
        return
    for path, match in sets.items():
        if match and match[1] not in kept:
            with suppress(OSError):
                path.unlink()


def _set_of(target: Path) -> str:
    """The set that an index names; empty if the target is not an index or does not exist."""
    if not target.exists():
        return ""
    with target.open("rb") as file:
        indexed = file.read(len(START)) == START
    return index(target)[0].get("set", "") if indexed else ""
