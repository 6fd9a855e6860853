"""Several processes write and read one file: here they are threads, and the arrays NumPy's."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy
import pytest

import samestep
from samestep import CheckpointError
from samestep.checkpoints import boxes, file, read, stored, write
from samestep.checkpoints.boxes import Box, blocks, runs, whole
from samestep.conformance.harness.threads import cut, in_threads, shards

from .trained import checkpoint_of

SHAPES = {"w": (7, 5), "row": (1, 6), "deep": (5, 3, 4), "b": (5,), "one": (1,), "number": ()}
RULE = samestep.AdamW()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Buckets and pieces of a few elements."""
    monkeypatch.setattr(boxes, "BUCKET", 64)
    for module in (file, stored):
        monkeypatch.setattr(module, "PIECE", 48)


@pytest.mark.parametrize("shape", [(), (5,), (7, 5), (2, 3, 4), (1, 30), (3, 0), (40, 1)])
def test_boxes_have_every_element_once_and_in_order(shape):
    places = numpy.arange(math.prod(shape)).reshape(shape)
    found = [places[box.slices].reshape(-1) for box in blocks(whole(shape), 8)]
    assert [*numpy.concatenate([[], *found])] == [*range(places.size)]
    assert all(0 < len(block) <= 8 for block in found)
    for axis in range(len(shape)):
        for box in shards(shape, 3, axis):
            flat = [places[run.slices].reshape(-1) for run in runs(shape, box)]
            assert all((numpy.diff(run) == 1).all() for run in flat)
            assert [*numpy.concatenate([[], *flat])] == [*places[box.slices].reshape(-1)]


@pytest.mark.parametrize("rule", [RULE, samestep.NAdam(), samestep.Adafactor()], ids=str)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_file_of_several_is_the_file_of_one_to_the_last_byte(rule, size, tmp_path):
    saved = checkpoint_of(rule, {name: shape for name, shape in SHAPES.items() if len(shape) < 3})
    write(tmp_path / "one", saved)
    assert in_threads(size, lambda own: write(tmp_path / "all", cut(saved, own))) == [None] * size
    assert (tmp_path / "all").read_bytes() == (tmp_path / "one").read_bytes()
    in_threads(size, lambda own: write(tmp_path / "set", cut(saved, own), max_shard_bytes=400))
    assert len([*tmp_path.glob("set-*")]) > 1
    write(tmp_path / "again", read(tmp_path / "set"))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()


def test_a_process_sends_its_part_once_and_no_more_than_a_bucket_at_a_time(tmp_path):
    saved, sent = checkpoint_of(RULE, SHAPES), []

    def save(own):
        plain = own.gathered

        def gathered(mine, sizes):
            sent.append(sum(sizes))
            return plain(mine, sizes)

        own.gathered = gathered
        write(tmp_path / "file", cut(saved, own))
        return own.moved

    moved = in_threads(3, save)
    assert max(sent) <= boxes.BUCKET
    assert moved[0] == 0
    spread = [
        t for own in saved.parameters.values() for t in [own.value, *(p for _, p in own.tensors())]
    ]
    own = [
        [part.size for part in shards(t.shape, 3, int(t.shape[0] == 1 < len(t.shape)))]
        for t in spread
        if t.shape
    ]
    assert moved[1:] == [8 * sum(sizes[rank] for sizes in own) for rank in (1, 2)]


def test_a_process_reads_its_part_and_its_share_of_the_check(tmp_path, monkeypatch):
    saved = checkpoint_of(samestep.AdamW(), {"w": (60, 8), "v": (8, 60)})
    write(tmp_path / "file", saved)
    plain, count = stored.Source.read_into, {}

    def counted(self, start, array):
        count[self] = count.get(self, 0) + array.nbytes
        plain(self, start, array)

    monkeypatch.setattr(stored.Source, "read_into", counted)

    def load(own):
        found = read(tmp_path / "file", processes=own)
        for path, axis in (("w", 0), ("v", 1)):
            for name, tensor in found.parameters[path].tensors():
                box = shards(tensor.shape, 3, axis)[own.rank]
                expected = saved.parameters[path].slots[name].bits[box.slices]
                assert (tensor.part(box) == expected).all()

    assert in_threads(3, load) == [None] * 3
    state, values = saved.nbytes - 2 * 480 * 8, 2 * 480 * 8
    assert len(count) == 3
    assert sum(count.values()) == (state + values) + state
    assert max(count.values()) <= ((state + values) + state) / 3 + 3 * 48


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_a_failure_of_one_is_the_failure_of_all(rank, when, tmp_path):
    saved, target = checkpoint_of(RULE, SHAPES), tmp_path / "file"
    write(target, saved)
    before = target.read_bytes()

    def save(own):
        mine = cut(replace(saved, calls=9), own)
        w = mine.parameters["deep"].slots["v"] if when != "before" else mine.parameters["w"].value
        if own.rank == rank:

            def fail(box):
                raise MemoryError("no more")

            w.part = fail
        write(target, mine)

    failures = in_threads(3, save)
    for other, failure in enumerate(failures):
        if other == rank:
            assert isinstance(failure, MemoryError)
        else:
            assert isinstance(failure, CheckpointError)
            assert f"process {rank} of 3 has failed" in str(failure)
            assert "MemoryError: no more" in str(failure)
    assert target.read_bytes() == before
    assert [*tmp_path.iterdir()] == [target]


def test_a_disk_that_is_full_stops_all(tmp_path, monkeypatch):
    saved, target = checkpoint_of(RULE, SHAPES), tmp_path / "file"

    def full(self, piece):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file._Flushed, "write", full)
    failures = in_threads(2, lambda own: write(target, cut(saved, own)))
    assert [type(failure) for failure in failures] == [OSError, CheckpointError]
    assert "process 0 of 2 has failed" in str(failures[1])
    assert "No space left on device" in str(failures[1])
    assert [*tmp_path.iterdir()] == []


def other_rule(saved):
    own = saved.parameters["w"]
    values = {**own.rule["values"], "lr": 0.5}
    return replace(
        saved,
        parameters={**saved.parameters, "w": replace(own, rule={**own.rule, "values": values})},
    )


def later_step(saved):
    own = replace(saved.parameters["w"], step=6)
    return replace(saved, parameters={**saved.parameters, "w": own})


def other_parameters(saved):
    return replace(
        saved, parameters={path: own for path, own in saved.parameters.items() if path != "b"}
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_rule, ("lr of rule of parameter 'w'", "0.001 in process 0 and 0.5 in process 1")),
        (later_step, ("step of parameter 'w'", "5 in process 0", "6 in process 1")),
        (other_parameters, ("parameter 'b'", "nothing in process 1")),
    ],
)
def test_processes_that_have_other_things_are_told_which(change, words, tmp_path):
    saved = checkpoint_of(RULE, SHAPES)
    failures = in_threads(
        2, lambda own: write(tmp_path / "file", cut(change(saved) if own.rank else saved, own))
    )
    for failure in failures:
        assert isinstance(failure, CheckpointError)
        assert all(word in str(failure) for word in words), failure
    assert [*tmp_path.iterdir()] == []


def test_paths_must_be_one_path(tmp_path):
    saved = checkpoint_of(RULE, SHAPES)
    for act in (
        lambda own: write(tmp_path / f"file{own.rank}", cut(saved, own)),
        lambda own: read(tmp_path / f"file{own.rank}", processes=own),
    ):
        for failure in in_threads(2, act):
            assert type(failure) is CheckpointError
            assert "path must be the same in all processes" in str(failure)
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_one_process_does_not_find_is_found_by_none(tmp_path, monkeypatch):
    write(tmp_path / "file", checkpoint_of(RULE, SHAPES))
    plain, names = file._read_any, {}

    def load(own):
        names[threading.get_ident()] = ("file", "gone")[own.rank]
        return read(tmp_path / "file", processes=own)

    def found(target):
        return plain(target.with_name(names[threading.get_ident()]))

    monkeypatch.setattr(file, "_read_any", found)
    first, second = in_threads(2, load)
    assert isinstance(second, FileNotFoundError)
    assert isinstance(first, CheckpointError)
    for failure in (first, second):
        assert "each of 2 processes reads the file" in str(failure)


def test_a_damaged_file_is_refused_by_all(tmp_path):
    target = tmp_path / "file"
    write(target, checkpoint_of(RULE, SHAPES))
    data = bytearray(target.read_bytes())
    data[-3] ^= 1
    target.write_bytes(data)
    failures = in_threads(3, lambda own: read(target, processes=own))
    assert {type(failure) for failure in failures} == {CheckpointError}
    assert len({*map(str, failures)}) == 1
    assert "have been changed since they were written" in str(failures[0])


def test_a_file_that_is_written_to_after_the_check_is_not_read(tmp_path):
    target = tmp_path / "file"
    write(target, checkpoint_of(RULE, SHAPES))
    found = read(target).parameters["w"].value
    target.write_bytes(target.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="changed while it was read"):
        found.part(Box((0, 0), (2, 5)))


def test_what_is_in_memory_has_the_pieces_of_its_process_only(tmp_path):
    saved = checkpoint_of(RULE, SHAPES)
    write(tmp_path / "one", saved)

    def look(own):
        mine = cut(saved, own).copied()
        for tensor in (mine.parameters["w"].value, -mine.parameters["w"].slots["m"]):
            box = shards(tensor.shape, 2)[own.rank]
            assert tensor.part(box).shape == box.shape
            with pytest.raises(CheckpointError, match="not all that is asked for"):
                tensor.part(shards(tensor.shape, 2, 1)[own.rank])
            with pytest.raises(CheckpointError, match="not all that is asked for"):
                tensor.values()
        write(tmp_path / "file", mine)

    assert in_threads(2, look) == [None, None]
    assert (tmp_path / "file").read_bytes() == (tmp_path / "one").read_bytes()
