"""``samestep inspect``: what it says of a file."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import samestep
from samestep.checkpoints import FORMAT_VERSION
from samestep.checkpoints.tensor import Tensor
from samestep.command_line.files.rows import measured
from samestep.schedules import CosineDecay
from tests.command_line.state_files import (
    ADAMW,
    SHAPES,
    USAGE,
    damage,
    done,
    inspected,
    refused,
    saved,
    words,
)

pytestmark = pytest.mark.usefixtures("in_own_folder")


# What is in a checkpoint


@pytest.mark.parametrize("width", [80, 120])
def test_a_checkpoint_is_shown_with_all_that_it_has(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    saved("a.safetensors", samestep.Adan(lr=3e-3, weight_decay=0.1, like="optax"))
    text = done("inspect a.safetensors")
    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.split())
    for part in (
        "a.safetensors: this is a checkpoint of samestep",
        "Adan(lr=0.003, ",
        "like 'optax'",
        "betas=(0.98, 0.92, 0.99)",
        f"version {FORMAT_VERSION} of the format, by samestep {samestep.__version__}",
        "steps 10 layout numpy parameters 4 of 20 elements, float32",
        "320 bytes of state, 80 bytes of values",
    ):
        assert part in joined
    cells = [line.split() for line in text.splitlines()]
    for name, shape in SHAPES.items():
        assert [name] in [row[:1] for row in cells]
        assert any(row[-5:-3] == [str(shape[-1]) if shape else "0-d", "float32"] for row in cells)
    for slot in ("m", "v", "n", "prev", "value"):
        assert any(row[:2] == ["total", slot] or row[:2] == ["total", f"({slot})"] for row in cells)


def test_a_dialect_is_shown_where_its_values_are_not_the_defaults():
    saved("a", samestep.ClipGlobalNorm(samestep.AdamW(lr=3e-3), max_norm=2.0))
    assert "like" not in done("inspect a")
    saved("b", samestep.ClipGlobalNorm(samestep.AdamW(like="mlx"), like="torch"))
    text = words("inspect b")
    assert "like 'torch'" in text
    assert "like AdamW: 'mlx'" in text


def test_numbers_for_machines_are_those_of_the_arrays():
    params, state = saved("a", ADAMW)
    state.slots["m"]["layers.0.weight"][1] = [numpy.nan, numpy.inf, -numpy.inf]
    samestep.save("a", ADAMW, params, state)
    found = inspected("a")
    assert (found["kind"], found["step"], found["layout"]) == ("samestep", 10, "numpy")
    assert found["rules"][0]["repr"] == repr(ADAMW)
    assert found["rules"][0]["values"]["eps"] == 1e-8
    assert found["bytes_of_files"] == Path("a").stat().st_size
    assert [*found["parameters"]] == [*SHAPES]
    for name, own in found["parameters"].items():
        assert own["shape"] == [*SHAPES[name]]
        kept = {slot: state.slots[slot][name] for slot in ("m", "v")} | {"value": params[name]}
        told = own["slots"] | {"value": own["value"]}
        for slot, array in kept.items():
            finite = array[numpy.isfinite(array)].astype(numpy.float64)
            norm = numpy.sqrt((finite**2).sum())
            assert told[slot] == {
                "shape": [*array.shape],
                "dtype": "float32",
                "bytes": array.nbytes,
                "norm": pytest.approx(norm, rel=1e-12),
                "nan": numpy.isnan(array).sum(),
                "infinite": numpy.isinf(array).sum(),
            }
    assert (found["totals"]["nan"], found["totals"]["infinite"]) == (1, 2)
    assert "layers.0.weight, m: 1 NaN and 2 infinite of 12 elements" in done("inspect a")


def test_several_files_are_inspected_as_one():
    saved("one", ADAMW)
    saved("many", ADAMW, max_shard_bytes=100)
    one, many = inspected("one"), inspected("many")
    assert one["parameters"] == many["parameters"]
    assert len(one["files"]) == 1
    assert len(many["files"]) > 2
    [part] = Path().glob("many-*00001-of-*")
    text = done(f"inspect {part}")
    assert "one of the files over which a checkpoint of samestep is spread" in text


SCHEDULE = CosineDecay(1e-2, 100)


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (
            samestep.AdamW(lr=SCHEDULE),
            ["schedule lr=CosineDecay(", f"at the last step {SCHEDULE(9)!r}"],
        ),
        (
            samestep.route(
                (samestep.Where(min_ndim=2), samestep.Muon(lr=0.02)), samestep.AdamW(lr=3e-4)
            ),
            ["rule 1 Muon(layout='oi')", "for layers.0.weight", "rule 2 AdamW(lr=0.0003)"],
        ),
        (
            samestep.Lookahead(samestep.AdamW(lr=2e-3), sync_period=7),
            [
                f"rule {samestep.Lookahead(samestep.AdamW(lr=2e-3), sync_period=7)!r}",
                "numbers AdamW: lr=0.002",
            ],
        ),
    ],
    ids=["a schedule with its number", "a route", "wrapped rules from the outside in"],
)
def test_every_rule_is_shown(rule, parts):
    saved("a", rule)
    text = words("inspect a")
    for part in parts:
        assert part in text


def test_many_parameters_are_summed_up_by_slot():
    shapes = {f"layers.{at}.weight": (2, 2) for at in range(400)}
    _, state = saved("a", ADAMW, 2, shapes)
    text = done("inspect a")
    assert len(text.splitlines()) < 30
    squares = sum((array.astype(float) ** 2).sum() for array in state.slots["v"].values())
    [row] = [line.split() for line in text.splitlines() if line.split()[:2] == ["v", "float32"]]
    assert row == ["v", "float32", "400", "1,600", "6,400", f"{math.sqrt(squares):.4g}", "0"]
    assert "1,200 arrays" in text
    few = done("inspect a --parameter layers.7?.weight --slots m,value")
    assert few.count("layers.7") == 10
    assert len([line for line in few.splitlines() if "2 x 2" in line]) == 20
    assert done("inspect a --parameter *").count("2 x 2") == 1200


def test_what_is_not_there_is_refused_with_what_is():
    saved("a", ADAMW)
    assert "no slot 'w' in it; there are m, v, value" in refused("inspect a --slots m,w")
    said = refused("inspect a --parameter bias")
    assert "has the form 'bias'; they are called like layers.0.weight" in said
    refused("inspect b", code=USAGE)


def test_without_norms_the_arrays_are_not_read():
    saved("a", ADAMW)
    damage(Path("a"))
    found = inspected("a", "--no-norms")
    assert "norm" not in found["parameters"]["scale"]["slots"]["m"]
    assert "the bytes have been changed since they were written" in refused("inspect a")


def test_norms_are_of_all_pieces_and_do_not_overflow():
    noise = numpy.random.default_rng(1)
    wide = noise.normal(size=3_000_000) * 1e200
    wide[[0, 2_999_999]] = numpy.nan, numpy.inf
    found = measured(Tensor(wide, "float64"))
    scaled = wide[1:-1] / 1e200
    assert found.norm == pytest.approx(1e200 * numpy.sqrt((scaled**2).sum()), rel=1e-12)
    assert (found.nan, found.infinite) == (1, 1)
    bits = numpy.array([0x3F80, 0x4000, 0x7F80, 0x7FC0, 0xC040], numpy.uint16)  # 1, 2, inf, nan, -3
    assert measured(Tensor(bits, "bfloat16")) == (pytest.approx(math.sqrt(14)), 1, 1)
    assert measured(Tensor(numpy.zeros((0, 3), numpy.float32), "float32")) == (0.0, 0, 0)


def test_a_checkpoint_is_inspected_without_a_framework():
    saved("a", ADAMW)
    code = (
        "import sys\n"
        "from samestep.command_line.main import commands\n"
        "commands()(['inspect', 'a'], standalone_mode=False)\n"
        "found = {'torch', 'jax', 'mlx', 'optax', 'safetensors'} & {*sys.modules}\n"
        "assert not found, found\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert repr(ADAMW) in run.stdout
    assert "\x1b" not in run.stdout


# What else a file is


def safetensors(items, text=b""):
    header = json.dumps(items).encode()
    return len(header).to_bytes(8, "little") + header + text


ORDINARY = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (safetensors(ORDINARY, bytes(8)), "an ordinary safetensors file"),
        (b"", "this is empty"),
        (b"hello", "no file that is known here"),
        (b'{"weight_map": {"w": "model-1.safetensors"}}', "index of ordinary safetensors files"),
        (b'{"a": 1}', "a JSON text"),
        (b"\x93NUMPY\x01\x00", "an array of NumPy"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"PK\x03\x04 cut off", "a damaged zip archive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_called_what_they_are(content, text):
    Path("a").write_bytes(content)
    assert text in done("inspect a")
    assert text in inspected("a")["is"] or "empty" in text
    assert text.removeprefix("this is ") in refused("convert a b")
    assert not Path("b").exists()


def test_a_folder_is_one(tmp_path):
    assert "this is a folder" in done(f"inspect {tmp_path}")
    Path(".metadata").touch()
    assert "a folder of torch.distributed.checkpoint" in done(f"inspect {tmp_path}")


def test_an_ordinary_safetensors_file_is_shown_too():
    array = numpy.array([3.0, -4.0], numpy.float32)
    Path("a").write_bytes(safetensors(ORDINARY, array.tobytes()))
    assert inspected("a")["arrays"]["w"]["norm"] == 5.0
    Path("a").write_bytes(safetensors(ORDINARY, array.tobytes()[:5]))
    assert "'w' is damaged" in refused("inspect a")
    Path("a").write_bytes(safetensors(ORDINARY)[:-2])
    assert "it has been cut off" in refused("inspect a")


class Touch:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_never_run(protocol):
    Path("a").write_bytes(pickle.dumps(Touch(), protocol))
    assert "a pickle, which is never loaded" in done("inspect a")
    refused("convert a b")
    assert not Path("touched").exists()


def test_a_file_of_torch_with_code_in_it_is_not_run():
    torch = pytest.importorskip("torch")
    torch.save({"state": {}, "param_groups": [Touch()]}, "a")
    for line in ("inspect a", "convert a b"):
        assert "other objects than tensors and plain data" in refused(line)
    assert not Path("touched").exists()


def test_a_recording_is_told_from_a_state():
    params, rule = {"w": numpy.ones(3), "b": numpy.ones(2)}, samestep.SGD(lr=1.0)
    with samestep.recording.Recorder("run", optimizer="mine.SGD") as recording:
        for step in range(3):
            recording.note(step, params, params, params, rule)
        part = done("inspect run.part")
    for found, name in ((done("inspect run"), "run"), (part, "run.part")):
        assert found.splitlines() == [
            f"{name}: this is a recording of a run, which samestep replay recomputes",
            "mine.SGD: 3 steps from 0 to 2, of 2 parameters",
        ]
