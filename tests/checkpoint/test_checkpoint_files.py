"""Checkpoints as files: what is in them, and what becomes of files that are cut or flipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
from safetensors.numpy import load_file, save_file

import samestep
from samestep.benchmarks.saving import extra_memory
from samestep.checkpoints import CheckpointError, Tensor, read, write
from samestep.checkpoints.contents import arrays
from samestep.checkpoints.replacing import replace_text
from samestep.checkpoints.stored import PIECE
from samestep.recording import Recorder, RecordingError
from tests.checkpoint.file_bytes import RULE, M, contents, header_of, trained


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_not_a_number_is_found_in_every_dtype_and_infinity_is_none(tmp_path, dtype):
    nan, infinite = {
        "bfloat16": (0xFFC1, 0xFF80),
        "float16": (numpy.nan, -numpy.inf),
        "float64": (numpy.nan, -numpy.inf),
    }[dtype]
    kind = numpy.uint16 if dtype == "bfloat16" else dtype
    for value, fails in ((nan, True), (infinite, False)):
        many = numpy.zeros(PIECE, kind)
        many[-3] = value
        saved = samestep.checkpoint(RULE, *trained())
        own = saved.parameters["bias"]
        own.slots["m"] = Tensor(many, dtype)
        write(tmp_path / "file", saved)
        assert contents(read(tmp_path / "file")) == contents(saved)
        if not fails:
            read(tmp_path / "file", allow_nan=False)
            continue
        with pytest.raises(CheckpointError, match=f"'{M}': 1 of {PIECE} elements are NaN"):
            read(tmp_path / "file", allow_nan=False)


# Every length, every byte


def outcome(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    try:
        return contents(read(path))
    except CheckpointError as error:
        assert str(path) in str(error)
        return None


def test_a_file_cut_anywhere_is_refused(path):
    data = path.read_bytes()
    assert outcome(path, data)
    for length in range(len(data)):
        assert outcome(path, data[:length]) is None, length


def flip(path: Path, masks: tuple[int, ...]) -> None:
    data, good = path.read_bytes(), contents(read(path))
    same = 0
    for place in range(len(data)):
        for mask in masks:
            found = outcome(path, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            assert found in (None, good), (place, mask)
            same += found is not None
    assert same < 100  # blanks at the end of the header


def test_a_file_with_any_byte_flipped_is_refused_or_the_same(path):
    flip(path, (0x20, 0xFF))


@pytest.mark.thorough
def test_so_is_one_with_any_bit_flipped(path):
    flip(path, (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x2A))


def test_an_index_cut_or_flipped_anywhere_is_refused_or_the_same(sharded):
    data, good = sharded.read_bytes(), contents(read(sharded))
    for place in range(len(data)):
        assert outcome(sharded, data[:place]) is None, place
        changed = bytes([data[place] ^ 0x01])
        found = outcome(sharded, data[:place] + changed + data[place + 1 :])
        assert found in (None, good), place


# Indices and their files


def index_with(index: Path, name: str) -> None:
    """The index, its first array in a file of that name."""
    content = json.loads(index.read_text())
    content["weight_map"][next(iter(content["weight_map"]))] = name
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a\0b", "..\\x", "", ".", "..", "x/y", "plain.safetensors", "\ud800"],
)
def test_an_index_names_files_of_its_own_only(sharded, name):
    index_with(sharded, name)
    with pytest.raises(CheckpointError, match=f"(?s){sharded}.*'slots/m/weight'.*in a file beside"):
        read(sharded)


def test_saving_over_a_hostile_index_removes_nothing_of_others(sharded):
    precious = sharded.with_name("precious.safetensors")
    precious.write_text("mine")
    index_with(sharded, precious.name)
    samestep.save(sharded, RULE, *trained())
    assert precious.read_text() == "mine"


def parts_of(index: Path) -> list[Path]:
    return sorted(index.parent.glob("*-of-*"))


def test_a_file_of_a_set_that_is_missing_or_a_link_or_a_folder_is_refused(sharded):
    part = parts_of(sharded)[1]
    elsewhere = sharded.parent / "elsewhere"
    part.rename(elsewhere)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name}.*not there"):
        read(sharded)
    part.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name}.*a link"):
        read(sharded)
    part.unlink()
    part.mkdir()
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name}.*no file"):
        read(sharded)


def test_files_that_have_changed_places_are_refused(sharded):
    one, other = parts_of(sharded)[:2]
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{one.name} has other keys"):
        read(sharded)


def test_a_file_of_another_save_is_refused(sharded):
    old = parts_of(sharded)[0].read_bytes()
    samestep.save(sharded, RULE, *trained(5), max_shard_bytes=24)
    part = parts_of(sharded)[0]
    part.write_bytes(old)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name} is of another save"):
        read(sharded)


def test_a_file_of_a_set_is_no_checkpoint_by_itself(sharded):
    with pytest.raises(CheckpointError, match=f"{parts_of(sharded)[0]}: .*no rules"):
        read(parts_of(sharded)[0])


def test_an_index_that_is_renamed_says_what_is_wrong(sharded):
    other = sharded.rename(sharded.with_name("other.safetensors"))
    with pytest.raises(CheckpointError, match=r"other-.*not renamed"):
        read(other)


def test_saving_again_removes_the_old_set_and_only_that(sharded):
    neighbour = sharded.with_name("state2.safetensors")
    samestep.save(neighbour, RULE, *trained(), max_shard_bytes=24)
    count = len(parts_of(sharded))
    samestep.save(sharded, RULE, *trained(4), max_shard_bytes=24)
    assert len(parts_of(sharded)) == count
    samestep.save(sharded, RULE, *trained(5))
    assert len(parts_of(sharded)) == count / 2
    assert read(sharded).step == 5
    assert read(neighbour).step == 3


# Files that are none


def test_a_folder_and_a_pipe_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"{tmp_path}: this is no file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: this is no file"):
        read(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


def test_a_file_that_may_not_be_read_is_refused(path, monkeypatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=f"{path}: it cannot be read: Permission denied"):
        read(path)


def test_a_model_of_others_is_refused(path):
    save_file({"a": numpy.ones(3, numpy.uint8)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of samestep"):
        read(path)


# What is written


def test_other_programs_can_read_the_file(path):
    params, state = trained()
    found = load_file(path)
    assert found["params/weight"].tobytes() == params["weight"].tobytes()
    assert found["slots/v/bias"].tobytes() == state.slots["v"]["bias"].tobytes()


def test_arrays_are_aligned_whatever_their_dtypes(tmp_path):
    saved = samestep.checkpoint(RULE, *trained())
    own = saved.parameters["bias"].slots
    own["m"], own["v"] = Tensor(numpy.ones(3, numpy.uint16), "bfloat16"), Tensor.of(numpy.ones(3))
    write(tmp_path / "file", saved)
    found = read(tmp_path / "file")
    assert contents(found) == contents(saved)
    assert all(tensor.bits.flags.aligned for tensor in arrays(found).values())


def test_arrays_without_elements_and_arrays_of_many_pieces_come_back(tmp_path):
    saved = samestep.checkpoint(RULE, *trained())
    own = saved.parameters["bias"].slots
    own["m"] = Tensor(numpy.zeros((0, 3)), "float64")
    many = numpy.arange(3 * PIECE // 4 + 5, dtype=numpy.float32)
    own["v"] = Tensor(many[::-1], "float32")
    seen: list[tuple[int, int]] = []
    write(tmp_path / "file", saved, progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (saved.nbytes, saved.nbytes)
    assert len(seen) > 4
    seen.clear()
    found = read(tmp_path / "file", progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (saved.nbytes, saved.nbytes)
    assert contents(found) == contents(saved)
    for place in (0, PIECE - 1, PIECE, many.nbytes - 1):
        data = bytearray((tmp_path / "file").read_bytes())
        offset = header_of(bytes(data))[0]["slots/v/bias"]["data_offsets"][0]
        data[len(data) - len(header_of(bytes(data))[1]) + offset + place] ^= 4
        (tmp_path / "other").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"'slots/v/bias'.*changed"):
            read(tmp_path / "other")


CUT = """
import os, sys, numpy, samestep
from samestep.checkpoints import CheckpointError, read
from samestep.recording import Recorder, read as read_recording
params, rule = {"w": numpy.ones(2_000_000)}, samestep.SGD(lr=1.0, momentum=0.9)
samestep.save("state", rule, params, rule.init(params))
with Recorder("run") as recording:
    recording.note(0, params, params, {"w": params["w"] - 1}, rule)
whole, lazy = read("state"), read("state", lazily=True)
step = read_recording("run").steps[0]
for name in ("state", "run"):
    os.truncate(name, 100_000)
for use in (
    lambda: whole.parameters["w"].slots["m"].bits,
    lambda: lazy.parameters["w"].value.copy(),
    lambda: lazy.parameters["w"].value.verify(),
    lambda: samestep.restore(rule, lazy, params),
    lambda: step.grads["w"].values(),
):
    try:
        print("read", use())
    except CheckpointError as error:
        print(error)
"""


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path):
    """The system ends a process that reads a map beyond the end of its file."""
    command = [sys.executable, "-c", CUT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["the file has been cut short while it was read"] * 5


@pytest.mark.parametrize("shard", [None, 24])
def test_a_pipe_and_a_link_to_one_are_not_replaced(tmp_path, shard):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(FileExistsError, match="a pipe, a device or a socket"):
            samestep.save(path, RULE, *trained(), max_shard_bytes=shard)
        with pytest.raises(RecordingError, match="a pipe, a device or a socket"):
            Recorder(path)
        with pytest.raises(OSError, match="a pipe, a device or a socket"):
            replace_text(path, "page")
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        samestep.save(tmp_path, RULE, *trained())
    assert pipe.is_fifo() and {file.name for file in tmp_path.iterdir()} == {"pipe", "link"}


@pytest.mark.parametrize("shard", [None, 24])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_keeps_its_mode(tmp_path, mode, shard):
    path = tmp_path / "state"
    path.touch()
    path.chmod(mode)
    samestep.save(path, RULE, *trained(), max_shard_bytes=shard)
    if shard is None:
        replace_text(path, "page")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {mode}


def test_a_file_that_appears_meanwhile_is_there_or_is_not(tmp_path):
    def keep_saving():
        for place in range(40):
            samestep.save(tmp_path / str(place), RULE, *trained())

    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(keep_saving)
        for place in range(40):
            while True:
                try:
                    read(tmp_path / str(place))
                    break
                except FileNotFoundError:
                    assert not saving.done() or (tmp_path / str(place)).exists()
        saving.result()


def test_an_array_that_was_handed_out_can_be_written_to_and_copied(path):
    tensor = arrays(read(path, lazily=True))[M]
    first = tensor.copy()
    bits = tensor.bits
    bits[0] = 7
    assert tensor.copy()[0] == 7
    assert arrays(read(path))[M].bits.tobytes() == first.tobytes()


FULL = """
import resource, signal, sys
import numpy
import samestep
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rule = samestep.SGD(lr=0.1)
params = {name: numpy.ones(100_000) for name in "abc"}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    samestep.save(sys.argv[1], rule, params, rule.init(params), max_shard_bytes=int(sys.argv[2]))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("limit", [100, 4_000, 500_000, 1_700_000])
@pytest.mark.parametrize("shard", [900_000, 1 << 40])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(sharded, shard, limit):
    """The limit of a file's size has the same effect; of 1.7 MB a set of files stays below."""
    before = {file.name: file.read_bytes() for file in sharded.parent.iterdir()}
    command = [sys.executable, "-c", FULL, str(sharded), str(shard), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if shard < limit:
        assert done.stdout == ""
        assert sharded.read_bytes() != before[sharded.name]
        return
    assert done.stdout == "File too large\n"
    assert {file.name: file.read_bytes() for file in sharded.parent.iterdir()} == before


# Memory


class Counted(Tensor):
    """An array that is on the host while somebody holds its bits."""

    living: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()
    most = 0

    @property
    def bits(self) -> numpy.ndarray:
        made = Handed(self.shape)
        made[...] = super().bits
        Counted.living.add(made)
        Counted.most = max(Counted.most, len(Counted.living))
        return made


class Handed(numpy.ndarray):
    """With an identity, for a weak reference."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self is other


@pytest.mark.parametrize("shard", [None, 1000])
def test_arrays_are_brought_to_the_host_one_at_a_time(tmp_path, shard):
    names = [f"layer.{place}" for place in range(20)]
    params = {name: numpy.ones(50) for name in names}
    saved = samestep.checkpoint(RULE, params, RULE.init(params))
    for own in saved.parameters.values():
        own.slots.update({n: Counted(numpy.ones(50), "float64") for n in ("m", "v")})
    Counted.most = 0
    write(tmp_path / "file", saved, max_shard_bytes=shard)
    assert 1 <= Counted.most <= 2  # the next is made before the last is let go
    assert read(tmp_path / "file").nbytes == 3 * 20 * 50 * 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux")
def test_saving_and_loading_take_little_memory(tmp_path):
    """A slot of 64 MB is never copied as a whole; benchmarks/saving.py measures more."""
    pytest.importorskip("torch")
    for what in ("save", "load"):
        assert extra_memory(what, tmp_path / "file", megabytes=128, pieces=1) < 64
