"""A process that is killed while it saves: what is there is always whole, and not older than said.

A process of its own, in which samestep has been imported, forks one that saves until it is killed;
so a kill takes as long as a save, not as an import.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest

from samestep.checkpoints import Checkpoint, CheckpointError, read, write

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGKILL and no fork"),
]

KILLS = [100, pytest.param(250, marks=pytest.mark.thorough)]
"""Of each of the two kinds of file."""
SIZE, NAMES = 6_000, tuple("abcde")
SHARD = 100_000
"""Bytes; there are then five files and an index."""

NURSERY = f"""
import os, secrets, sys, tempfile
import numpy
import samestep
from samestep.checkpoints import file, write

RULE = samestep.SGD(lr=0.1, momentum=0.9)


def of(n):
    params = {{name: numpy.full({SIZE}, float(n)) for name in {NAMES!r}}}
    state = samestep.State(n, {{slot: params for slot in RULE.slots()}}, {{}})
    return samestep.checkpoint(RULE, params, state)


with tempfile.TemporaryDirectory() as folder:
    write(folder + "/first", of(0))


if "in place" in sys.argv:
    from contextlib import contextmanager

    @contextmanager
    def in_place(target):
        with target.open("wb") as opened:
            yield opened, secrets.token_hex(4)

    file.replaced = in_place

print("ready", flush=True)
for line in sys.stdin:
    path, n, step, shard, last = line.rstrip().split("\\t")
    pid = os.fork()
    if not pid:
        n = int(n)
        os.write(1, f"pid {{os.getpid()}}\\n".encode())
        while n <= int(last):
            write(path, of(n), max_shard_bytes=int(shard) or None)
            os.write(1, f"done {{n}}\\n".encode())
            n += int(step)
        os._exit(0)
    if last != "1000000000":
        continue
    os.waitpid(pid, 0)
    os.write(1, b"dead\\n")
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
FOREVER = 1_000_000_000


@contextmanager
def nursery(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def saving(process, path: Path, n: int, shard: int, step: int = 1, last: int = FOREVER) -> None:
    process.stdin.write(f"{path}\t{n}\t{step}\t{shard}\t{last}\n")


def killed(process, path: Path, n: int, shard: int, delay: float) -> int:
    """Save n, n + 1, ... until the delay is over; the last number that was said to be done."""
    saving(process, path, n, shard)
    pid = int(process.stdout.readline().split()[1])
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    done = n - 1
    while (line := process.stdout.readline()) != "dead\n":
        assert line, "the process that forks has died"
        done = int(line.split()[1])
    return done


def number(path: Path) -> int:
    """Which save a file is of, all of whose parts must be."""
    return number_of(read(path))


def number_of(saved: Checkpoint) -> int:
    n = saved.step
    assert (*saved.parameters,) == NAMES
    for own in saved.parameters.values():
        assert own.step == n
        for tensor in (own.value, *(tensor for _, tensor in own.tensors())):
            assert tensor.shape == (SIZE,)
            assert numpy.all(tensor.values() == n)
    return n


def trial(folder: Path, shard: int, kills: int, *arguments: str) -> None:
    path = folder / "state.safetensors"
    chance = random.Random(shard)
    with nursery(*arguments) as process:
        saving(process, path, 0, shard, last=0)
        assert process.stdout.readline().startswith("pid")
        assert process.stdout.readline() == "done 0\n"
        done = killed(process, path, 1, shard, 0.5)
        took = 0.5 / max(done, 1)
        written = {number(path)}
        for _ in range(kills):
            before, delay = done, chance.uniform(0, 3 * took)
            done = max(killed(process, path, done + 1, shard, delay), done)
            found = number(path)
            assert done <= found <= done + 1
            written.add(found)
            done = found
            took = delay / (done - before) if done > before else max(took, min(delay, 0.5))
            files = len(os.listdir(folder))
            one = len(NAMES) * 2 if shard else 0
            assert files <= 2 + 3 * one
        assert len(written) > kills / 4  # most of them were killed after a save, some before
    write(path, read(path), max_shard_bytes=shard or None)
    assert not [*folder.glob(".*")]
    after = len(os.listdir(folder))
    write(path, read(path), max_shard_bytes=shard or None)
    assert len(os.listdir(folder)) == after
    assert number(path) == done


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("shard", [0, SHARD])
def test_a_kill_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(tmp_path, shard, kills):
    trial(tmp_path, shard, kills)


@pytest.mark.parametrize("shard", [0, SHARD])
def test_writing_in_place_would_be_noticed(tmp_path, shard):
    with pytest.raises((CheckpointError, AssertionError, FileNotFoundError)):
        trial(tmp_path, shard, 100, "in place")


@pytest.mark.parametrize("shard", [0, SHARD])
def test_of_two_processes_that_save_at_once_one_is_the_last(tmp_path, shard):
    """And who reads meanwhile has a whole one each time."""
    path = tmp_path / "state.safetensors"
    with nursery() as one, nursery() as other:
        saving(one, path, 0, shard, step=2, last=80)
        saving(other, path, 1, shard, step=2, last=81)
        seen = set()
        waiting = time.monotonic() + 30
        while not path.exists() and time.monotonic() < waiting:
            time.sleep(0.001)
        for process in (one, other):
            process.stdin.close()
        while one.poll() is None or other.poll() is None:
            seen.add(number(path))
        assert number(path) in (80, 81)
        assert len(seen) > 1
    assert not [*tmp_path.glob(".*")]
    named = path.read_text().count("-of-") if shard else 0
    assert (named > 0) == bool(shard)
    files = {name for name in os.listdir(tmp_path) if name != path.name}
    assert all(name in path.read_text() for name in files)
