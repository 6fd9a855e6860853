"""``samestep bench --checkpoint``: saving and loading, compared with copying as many bytes.

The sides take turns in one process: a save, as many bytes written and flushed to the same disk; a
load, as many bytes read from it into new memory. Memory is measured in a process of its own, as
the largest that it has had while it saved or loaded, beyond the state that is there at the end:

    python -m samestep.benchmarks.saving save|load FILE MEGABYTES [PIECES]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

import samestep

from .timing import Spread, alternate, median, paired

__all__ = ["Measured", "extra_memory", "measure", "optimizer"]

MEGABYTE = 10**6
PIECES = 48
"""Parameters of equal size, as a model has them."""
CHUNK = 1 << 24


@dataclass(frozen=True)
class Measured:
    """One of saving, loading and loading what the system has in memory."""

    what: str
    beside: str
    milliseconds: float
    copying: float
    ratio: Spread
    extra: float
    """Megabytes of memory."""


def optimizer(megabytes: int, pieces: int = PIECES, stepped: bool = True) -> Any:
    """``samestep.torch.AdamW`` with a number of megabytes of state, or without state."""
    import torch  # noqa: PLC0415

    from samestep.torch import AdamW  # noqa: PLC0415

    size = megabytes * MEGABYTE // 8 // pieces
    params = [torch.nn.Parameter(torch.zeros(size)) for _ in range(pieces)]
    made = AdamW([(f"layer.{place}", param) for place, param in enumerate(params)])
    if stepped:
        state = {
            place: {
                "step": torch.tensor(1),
                "m": torch.full((size,), 0.1),
                "v": torch.full((size,), 0.2),
            }
            for place in range(pieces)
        }
        made.load_state_dict({**made.state_dict(), "state": state})
    return made


def measure(folder: Path, megabytes: int, rounds: int) -> list[Measured]:
    """Save and load, and copy as many bytes, in files that are removed at the end."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="samestep-bench-") as made:
        here = Path(made)
        path, plain = here / "state.safetensors", here / "plain"
        saved, loaded = optimizer(megabytes), optimizer(megabytes, stepped=False)
        arrays = [value.numpy() for own in saved.state.values() for value in (own["m"], own["v"])]

        def load() -> None:
            for own in loaded.state.values():
                own.clear()
            samestep.load(path, loaded)

        writing = {
            "save": lambda: samestep.save(path, saved),
            "copy": lambda: _write(plain, arrays),
        }
        times = alternate(writing, rounds, longest=300.0)
        rows = [("save", "write and flush", times)]
        reading: dict[str, Callable[[], object]] = {"load": load, "copy": lambda: _read(plain)}
        for what, forget in (("load, from the disk", True), ("load, from memory", False)):
            rows.append((what, "read", _alternate_reading(reading, rounds, [path, plain], forget)))
        return [
            Measured(
                what,
                beside,
                median(own["save" if what == "save" else "load"]),
                median(own["copy"]),
                paired(own["save" if what == "save" else "load"], own["copy"]),
                extra_memory("save" if what == "save" else "load", path, megabytes),
            )
            for what, beside, own in rows
        ]


def _alternate_reading(
    sides: dict[str, Callable[[], object]], rounds: int, files: list[Path], forget: bool
) -> dict[str, list[float]]:
    """Seconds of every side; ``forget``: the files are taken out of memory before each."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            for file in files if forget else ():
                _forget(file)
            found[name] += alternate({name: side}, 1)[name]
    return found


def _write(path: Path, arrays: list[numpy.ndarray]) -> None:
    with path.open("wb", buffering=0) as file:
        for array in arrays:
            whole = array.reshape(-1).view(numpy.uint8)
            for at in range(0, whole.size, CHUNK):
                file.write(whole[at : at + CHUNK].data)
        os.fsync(file.fileno())


def _read(path: Path) -> numpy.ndarray:
    made = numpy.empty(path.stat().st_size, numpy.uint8)
    with path.open("rb", buffering=0) as file:
        for at in range(0, made.size, CHUNK):
            file.readinto(made[at : at + CHUNK].data)
    return made


def _forget(path: Path) -> None:
    """Take a file out of the system's memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def extra_memory(what: str, path: Path, megabytes: int, pieces: int = PIECES) -> float:
    """Megabytes that a process of its own takes to save to a file, or to load it."""
    command = [sys.executable, "-m", __name__, what, str(path), str(megabytes), str(pieces)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def _memory(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _extra(what: str, path: Path, megabytes: int, pieces: int) -> float:
    """Extra memory of saving or loading, in this process, after a small warm-up."""
    small, own = path.with_name(f"{path.name}.small"), optimizer(1)
    samestep.save(small, own)
    samestep.load(small, optimizer(1, stepped=False))
    small.unlink()
    own = optimizer(megabytes, pieces, stepped=what == "save")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the largest is what it is now
    before, state = _memory("VmRSS"), 0
    if what == "save":
        samestep.save(path, own)
    else:
        samestep.load(path, own)
        state = own.checkpoint().nbytes
    return (_memory("VmHWM") - before - state) / MEGABYTE


if __name__ == "__main__":
    print(_extra(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])))
