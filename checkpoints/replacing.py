"""Replacing a file at once: written under another name, flushed to the disk and renamed.

The file is locked while it is written. A half-written file of a killed process is not locked, and
is removed by the next process that writes the same target.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "alike",
    "flush",
    "flush_folder",
    "partials",
    "remove_partials",
    "replace_text",
    "replaceable",
    "replaced",
]


@contextmanager
def replaced(target: Path) -> Iterator[tuple[BinaryIO, str]]:
    """A new file that replaces the target at the end, or is removed after an error; and its name.

    The name is a random one of eight digits. It is part of the name of the file until the end. The
    new file has the mode of the old one.

    Raises:
        OSError: the target is no regular file, or the new file cannot be written.
    """
    mode = replaceable(target)
    remove_partials(target)
    file, partial, this = _begun(target)
    try:
        with file:
            if mode is not None:
                partial.chmod(mode)
            yield file, this
            replaceable(target)
            if not _lock(file, wait=False):  # Windows renames no open file
                file.close()
            partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    flush_folder(target.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a text file, replacing an existing file at once, also behind a link.

    Raises:
        OSError: as ``replaced``.
    """
    with replaced(Path(os.path.realpath(path))) as (file, _):
        file.write(text.encode())


def replaceable(target: Path) -> int | None:
    """The mode of a file that is to be replaced; ``None`` if there is none.

    Raises:
        OSError: it is a folder, a pipe, a device or a socket, which would be lost.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "this is a folder; it must be a file", str(target))
    if not stat.S_ISREG(mode):
        words = "this is a pipe, a device or a socket, which is not replaced by a file"
        raise FileExistsError(errno.EEXIST, words, str(target))
    return stat.S_IMODE(mode)


def _begun(target: Path) -> tuple[BinaryIO, Path, str]:
    """A new file with a lock on it."""
    while True:
        this = secrets.token_hex(4)
        partial = target.with_name(f".{target.name}.{this}.partial")
        file = partial.open("xb")
        _lock(file, wait=True)
        if partial.exists():  # nobody took it for an old one before it was locked
            return file, partial, this
        file.close()


def partials(target: Path) -> Iterator[Path]:
    """The files that are being written for a target, or were when their process was killed."""
    return alike(target, rf"\.{re.escape(target.name)}\.([0-9a-f]{{8}})\.partial")


def remove_partials(target: Path) -> None:
    """Remove the half-written files of killed processes."""
    for left in partials(target):
        with suppress(OSError), left.open("rb") as file:
            if _lock(file, wait=False):
                left.unlink()


def alike(target: Path, pattern: str) -> Iterator[Path]:
    """The files next to the target whose names match."""
    for name in os.listdir(target.parent):
        if re.fullmatch(pattern, name):
            yield target.with_name(name)


def _lock(file: BinaryIO, wait: bool) -> bool:
    """Lock a file; False if it is locked already, or if the system has no locks."""
    try:
        import fcntl  # noqa: PLC0415  (Windows has no fcntl)
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def flush(file: BinaryIO) -> None:
    """Bring what has been written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make a rename durable, on systems where a folder can be flushed."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
