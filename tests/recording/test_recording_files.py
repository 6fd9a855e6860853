"""Recordings as files: their content, refusals, and the part that a killed process leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy
import pytest

import samestep
from samestep.parity import record
from samestep.recording import Recorder, RecordingError, read
from samestep.recording.spool import Part, images, part_of
from samestep.replay import replay

SHAPES = {"layer.weight": (5, 3), "layer.bias": (3,), "scale": ()}
STEPS = 20
RULE = samestep.AdamW(lr=samestep.schedules.CosineDecay(0.01, STEPS), weight_decay=0.1)


def train(path, last=STEPS, *, rule=RULE, dtype="float32", first=0, carried=None, **how):
    """A run of a rule on NumPy; returns what it ended with."""
    made = record(3, STEPS, SHAPES).rounded("float32")
    params = {name: value.astype(dtype) for name, value in made.params.items()}
    params, state = carried or (params, rule.init(params))
    with Recorder(path, **how) as recording:
        for step in range(first, last):
            grads = {name: value.astype(dtype) for name, value in made.grads[step].items()}
            after, new = rule.update(grads, params, state)
            recording.note(step, grads, params, after, rule, state)
            params, state = after, new
    return params, state


def test_what_is_written_is_read_and_is_the_run(path):
    ended, _ = train(path)
    recording = read(path)
    made = record(3, STEPS, SHAPES).rounded("float32")
    assert [step.number for step in recording.steps] == [*range(STEPS)]
    for step, grads in zip(recording.steps, made.grads, strict=True):
        for name, value in grads.items():
            assert numpy.array_equal(step.grads[name].bits, value.astype("float32"))
    for name, value in ended.items():
        assert numpy.array_equal(recording.steps[-1].after[name].bits, value)
    for one, other in zip(recording.steps, recording.steps[1:], strict=False):
        assert all(one.after[name] is other.before[name] for name in SHAPES)
    rates = [step.groups[0]["rule"]["values"]["lr"]["value"] for step in recording.steps]
    assert rates == [float(RULE.lr(step)) for step in range(STEPS)]
    found = replay([recording])
    assert found.verdict == "agree" and found.steps == STEPS
    assert max(row[3] for row in found.growth) == 0  # the same arithmetic, in float32
    assert max(row[2] for row in found.growth) > 0  # and not in float64


def test_it_is_a_safetensors_file_with_each_array_once(path):
    safetensors = pytest.importorskip("safetensors")
    train(path, 3)
    with safetensors.safe_open(path, "numpy") as file:
        keys = {*file.keys()}
        metadata = file.metadata()
        first = file.get_tensor("grad/0/0/layer.weight")
    assert metadata["format"] == "samestep recording" and metadata["format_version"] == "1"
    starts = {f"param/0/0/{name}" for name in SHAPES}
    behind = {f"after/0/{step}/{name}" for step in range(3) for name in SHAPES}
    grads = {f"grad/0/{step}/{name}" for step in range(3) for name in SHAPES}
    assert keys >= starts | grads and keys <= starts | behind | grads
    assert numpy.array_equal(first, record(3, STEPS, SHAPES).grads[0]["layer.weight"].astype("f4"))
    records = json.loads(metadata["records"])
    assert sum("groups" in one for one in records) == 3  # the schedule changes them each step


def test_numbers_are_said_again_only_where_they_change(path):
    train(path, rule=samestep.AdamW(lr=0.01))
    records = [record for image in images(path) for record in image.records]
    assert sum("groups" in one for one in records) == 1


@pytest.mark.parametrize(
    ("steps", "numbers"),
    [
        (None, [*range(STEPS)]),
        (3, [0, 1, 2]),
        (range(0, STEPS, 6), [0, 6, 12, 18]),
        ({2, 3, 9}, [2, 3, 9]),
        (lambda step: step % 8 < 2, [0, 1, 8, 9, 16, 17]),
    ],
)
def test_steps_are_those_asked_for_and_every_stretch_can_be_judged(path, steps, numbers):
    train(path, steps=steps)
    recording = read(path)
    assert [step.number for step in recording.steps] == numbers
    begins = [step.number for step in recording.steps if step.begins]
    assert begins == [n for n in numbers if n - 1 not in numbers]
    assert all(
        (step.state is not None) == (step.begins and step.number > 0) for step in recording.steps
    )
    found = replay([recording])
    assert found.verdict == "agree" and found.steps == len(numbers) and not found.unchecked


@pytest.mark.parametrize(
    ("steps", "error", "said"),
    [
        (0, ValueError, "steps=0 must be at least 1"),
        (-1, ValueError, "steps=-1 must be at least 1"),
        ([], ValueError, r"steps=\[\] must hold numbers of steps, which count from 0"),
        (range(3, 3), ValueError, r"steps=range\(3, 3\) must hold"),
        (range(-2, 3), ValueError, "must hold numbers of steps, which count from 0"),
        ({1, -1}, ValueError, "must hold numbers of steps, which count from 0"),
        ("3", TypeError, "steps: '3' is no number of steps; it must be a whole number from 1"),
        (2.5, TypeError, "steps: 2.5 is no number of steps"),
        (True, TypeError, "steps: True is no number of steps"),
        ([1, 2.5], TypeError, "steps: 2.5 is no number of steps"),
    ],
)
def test_steps_that_are_none_are_refused_before_training(path, tmp_path, steps, error, said):
    with pytest.raises(error, match=said):
        Recorder(path, steps=steps)
    assert not [*tmp_path.iterdir()]


def test_steps_may_be_whole_numbers_of_numpy_and_a_range_without_end(path):
    for steps in (numpy.int64(3), numpy.arange(3), range(0, 10**12, 1)):
        train(path, 3, steps=steps)
        assert len(read(path).steps) == 3


def test_patterns_choose_parameters_and_one_that_fits_none_is_refused(path, tmp_path):
    train(path, parameters=("*.weight", "scale"))
    assert {*read(path).steps[0].before} == {"layer.weight", "scale"}
    assert replay([read(path)]).verdict == "agree"
    with pytest.raises(RecordingError, match=r"'\*\.kernel' fits no parameter; there are layer\.b"):
        train(tmp_path / "other.safetensors", parameters="*.kernel")
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_no_pattern_at_all_is_refused_before_training(path):
    with pytest.raises(
        ValueError, match=r'parameters=\(\) must have a pattern; "\*" is all of them'
    ):
        Recorder(path, parameters=())


def test_a_folder_that_is_not_there_is_refused_before_training(tmp_path):
    with pytest.raises(RecordingError, match=r"there is no folder .*missing"):
        Recorder(tmp_path / "missing" / "run.safetensors")
    with pytest.raises(RecordingError, match="this is a folder"):
        Recorder(tmp_path)


def test_two_recorders_do_not_write_to_one_file(path):
    with Recorder(path) as one:
        one.note(0, {"w": numpy.ones(2)}, {"w": numpy.ones(2)}, {"w": numpy.zeros(2)}, {"lr": 1.0})
        with pytest.raises(RecordingError, match="another process is recording"):
            Recorder(path).open()
    assert len(read(path).steps) == 1


def test_an_exception_leaves_what_was_recorded(path):
    with pytest.raises(IndexError):
        train(path, STEPS + 1)
    assert len(read(path).steps) == STEPS and not part_of(path).exists()


def test_nothing_recorded_is_said_and_leaves_no_file(path, tmp_path):
    with pytest.warns(UserWarning, match="no step has been recorded"):
        train(path, 3, first=3)
    assert not [*tmp_path.iterdir()]


def test_a_run_goes_on_in_the_same_file(path):
    carried = train(path, 8)
    train(path, first=8, carried=carried, append=True)
    recording = read(path)
    assert [len(session.steps) for session in recording.sessions] == [8, STEPS - 8]
    found = replay([recording])
    assert found.verdict == "agree" and found.sentences == ["resumed at step 8: exact"]


def test_a_full_disk_ends_the_recording_and_not_the_training(path, monkeypatch):
    append = Part.append

    def full(self, record, tensors):
        if record.get("step") == 5:
            raise OSError(28, "No space left on device")
        append(self, record, tensors)

    monkeypatch.setattr(Part, "append", full)
    with pytest.warns(UserWarning, match="ended at step 5, and training goes on: No space left"):
        ended, _ = train(path)
    assert len(read(path).steps) == 5
    monkeypatch.undo()
    assert all(numpy.array_equal(v, train(path)[0][n]) for n, v in ended.items())


FULL = """
import resource, sys, warnings, numpy
from samestep.recording import Recorder
warnings.simplefilter("always")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, 1_200_000))
params = numpy.zeros(50_000, "float32")
with Recorder(sys.argv[1]) as recording:
    for step in range(9):
        after = params - 1
        recording.note(step, {"w": params + 1}, {"w": params}, {"w": after}, {"lr": 1.0})
        params = after
print("saved", params[0])
"""


def test_a_disk_that_is_full_harms_nothing(path):
    """The system refuses every byte beyond a size, as a full disk does."""
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "saved -9.0\n"), done.stderr
    assert "recording has ended at step 2, and training goes on: File too large" in done.stderr
    steps = read(path).steps
    assert [step.number for step in steps] == [0, 1] and (steps[1].after["w"].bits == -2).all()


def test_a_file_that_cannot_be_put_together_stays_a_part(path, monkeypatch):
    def full(target, images):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("samestep.recording.sink.assemble", full)
    with pytest.warns(UserWarning, match=r"No space left .*; run\.safetensors\.part has the recor"):
        carried = train(path, 8)
    assert len(read(part_of(path)).steps) == 8 and not path.exists()
    monkeypatch.undo()
    train(path, first=8, carried=carried, append=True)
    assert replay([read(path)]).steps == STEPS


def test_a_part_that_somebody_has_deleted_is_not_said_to_be_there(path):
    with (
        pytest.warns(
            UserWarning, match=r"\.part is not there any more, and what was recorded is lo"
        ),
        Recorder(path) as recording,
    ):
        one = {"w": numpy.ones(2, numpy.float32)}
        recording.note(0, one, one, one, RULE, None)
        path.with_name(f"{path.name}.part").unlink()
    assert not path.exists()


def test_no_error_of_the_recorder_ends_a_run_that_has_begun(path, monkeypatch):
    def broken(self, tensor):
        raise MemoryError("nothing left")

    rule, params = samestep.SGD(lr=1.0), {"w": numpy.ones(3)}
    with Recorder(path) as recording:
        recording.note(0, params, params, params, rule)
        monkeypatch.setattr(samestep.recording.recorder.Tensor, "reshaped", broken)
        with pytest.warns(UserWarning, match="ended at step 1, and training goes on: nothing left"):
            recording.note(1, params, params, params, rule)
        recording.note(2, params, params, params, rule)
        monkeypatch.undo()
    assert [step.number for step in read(path).steps] == [0]
    other = path.with_name("other")
    with pytest.raises(TypeError, match="complex128 is no state"), Recorder(other) as recording:
        recording.note(0, {"w": numpy.ones(3, complex)}, params, params, rule)


def test_an_update_that_was_computed_and_not_taken_is_no_step(path):
    """The same step from the same parameters again, with another gradient."""
    ones, twos = {"w": numpy.ones(3)}, {"w": numpy.full(3, 2.0)}
    rule, params = samestep.SGD(lr=1.0), {"w": numpy.arange(3.0)}
    with Recorder(path) as recording:
        for step, grads in enumerate((ones, twos, ones)):
            for tried in (twos, {"w": numpy.zeros(3)}, grads):
                after, _ = rule.update(tried, params, rule.init(params))
                recording.note(step, tried, params, after, rule)
            params = after
        recording.note(3, ones, params, params, rule)
        moved = {"w": params["w"] + 1}
        recording.note(3, ones, moved, rule.update(ones, moved, rule.init(moved))[0], rule)
    steps = read(path).steps
    assert [(step.number, step.discarded) for step in steps[:3]] == [(0, 2), (1, 2), (2, 2)]
    found = replay([read(path)])
    assert (found.steps, found.verdict) == (5, "departs")  # a step is not taken from two places
    with Recorder(path) as recording:
        recording.note(0, twos, ones, ones, rule)
        recording.begin(0, ones, ones, None, fresh=True)
    assert not read(path).steps


def test_memory_stays_bounded_by_one_step(path):
    params = {"w": numpy.zeros(200_000, "float32")}
    size = params["w"].nbytes
    with Recorder(path) as recording:
        tracemalloc.start()
        for step in range(30):
            grads = {"w": numpy.full(200_000, step, "float32")}
            after = {"w": params["w"] - grads["w"]}
            recording.note(step, grads, params, after, {"lr": 1.0})
            params = after
        recording.close()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert path.stat().st_size > 59 * size
    assert peak < 8 * size


@pytest.mark.parametrize("cut", [0.999, 0.5, 0.01])
def test_a_file_that_was_cut_short_is_refused(path, cut):
    train(path)
    os.truncate(path, int(path.stat().st_size * cut))
    with pytest.raises(RecordingError, match=r"run\.safetensors: (this is no safetensors|the arr)"):
        read(path)


def test_every_changed_byte_is_noticed(path):
    train(path, 2)
    whole = path.read_bytes()
    for at in numpy.random.default_rng(0).integers(0, len(whole), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        with pytest.raises((RecordingError, ValueError)) as caught:
            replay([read(path)])
        assert "\n" not in str(caught.value)


def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path):
    text, empty, folder = tmp_path / "a.txt", tmp_path / "empty", tmp_path / "folder"
    text.write_text("nothing of the kind")
    empty.touch()
    folder.mkdir()
    other = tmp_path / "state.safetensors"
    params = {"w": numpy.ones(3)}
    samestep.save(other, RULE, params, RULE.init(params))
    newer = tmp_path / "newer.safetensors"
    train(newer, 2)
    bytes_ = newer.read_bytes().replace(b'"format_version":"1"', b'"format_version":"9"')
    newer.write_bytes(bytes_)
    for path, words in {
        text: "this is no safetensors file",
        empty: "the file is empty",
        folder: "this is no file",
        other: "a checkpoint of samestep, no recording",
        newer: "the recording has version 9 of the format, written by samestep",
    }.items():
        with pytest.raises(RecordingError, match=words):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


KILLED = """
import sys, numpy
from samestep.recording import Recorder
params = {"w": numpy.arange(50_000, dtype="float32")}
with Recorder(sys.argv[1], append=sys.argv[2] == "append") as recording:
    first = recording.number
    for step in range(first, first + 100_000):
        grads = {"w": numpy.full(50_000, step + 1, "float32")}
        after = {"w": params["w"] - 1}
        recording.note(step, grads, params, after, {"lr": 1.0})
        params = after
        print(step, flush=True)
"""


def killed(path, how, seconds):
    """Record until the process is killed; the last step that it said it had recorded."""
    command = [sys.executable, "-c", KILLED, path, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    return int(said[-1]) if said else 0


def test_a_kill_at_any_moment_leaves_every_step_but_the_last(path):
    counts = []
    for trial, seconds in enumerate((0.0, 0.07, 0.13)):
        last = killed(path, "append" if trial else "anew", seconds)
        assert part_of(path).exists()
        if not path.exists():
            with pytest.raises(RecordingError, match=r"run\.safetensors\.part is, which a rec"):
                read(path)
        left = read(part_of(path))
        numbers = [step.number for step in left.steps]
        assert numbers == [*range(numbers[0], numbers[-1] + 1)]
        assert last <= numbers[-1] <= last + 1
        for step in left.steps[-2:]:
            assert (step.grads["w"].bits == step.number + 1).all()
        counts.append(len(numbers))
    with pytest.raises(RecordingError, match="another process is recording to it, or one"):
        Recorder(path).open()
    with pytest.warns(UserWarning, match="no step"), Recorder(path, append=True):
        pass
    recording = read(path)
    assert [len(session.steps) for session in recording.sessions] == counts
    assert not part_of(path).exists()


def test_a_part_that_was_torn_is_read_up_to_there(path, tmp_path):
    recorder = Recorder(path)
    recorder.open()
    for step in range(4):
        arrays = {"w": numpy.full(1000, step, "float32")}
        recorder.note(step, arrays, arrays, {"w": arrays["w"] + 1}, {"lr": 1.0})
    part = part_of(path)
    whole = part.read_bytes()
    torn = tmp_path / "torn.safetensors.part"
    seen = set()
    for size in numpy.linspace(1000, len(whole), 50).astype(int):
        torn.write_bytes(whole[:size])
        steps = read(torn).steps
        seen.add(len(steps))
        for step in steps:
            assert (step.after["w"].bits == step.number + 1).all()
        torn.write_bytes(whole[:size] + bytes(len(whole) - size))  # pages that never came
        assert len(read(torn).steps) in (len(steps), len(steps) + 1)
    assert seen == {0, 1, 2, 3, 4}
    recorder.close()
