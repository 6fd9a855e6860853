"""``samestep inspect`` and ``samestep convert``: what they say of files, and make of them."""

from __future__ import annotations

import inspect
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner

import samestep
from samestep.checkpoints import FORMAT_VERSION, read
from samestep.checkpoints.contents import arrays
from samestep.checkpoints.tensor import Tensor
from samestep.command_line.files.kinds import kind_of
from samestep.command_line.files.rows import measured
from samestep.command_line.main import commands
from samestep.schedules import CosineDecay

REFUSED, USAGE = 1, 2
"""Exit codes."""
SHAPES = {"layers.0.weight": (4, 3), "layers.0.bias": (4,), "norm.weight": (3,), "scale": ()}
CLOSE = 16 * 2.0**-23
"""Of one step in float32, relative to the step and the parameter."""


def command(*arguments):
    return CliRunner().invoke(commands(), [str(one) for one in arguments])


def done(*arguments):
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments, code=REFUSED):
    """What a command says that refuses, in one sentence."""
    result = command(*arguments)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    if code == REFUSED:
        assert result.output.strip().splitlines()[-1].startswith("Error: ")
    return " ".join(result.output.split())


def inspected(path, *more):
    return json.loads(done("inspect", path, "--json", *more))


def in_order(folder, names=SHAPES):
    """The option that tells in which order torch is to have the parameters."""
    (folder / "order").write_text("\n".join(names) + "\n")
    return ["--order", folder / "order"]


def numbers(seed, shapes=SHAPES, dtype="float32"):
    noise = numpy.random.default_rng(seed)
    return {name: noise.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def gradients(step, shapes=SHAPES):
    """They change sign and size."""
    noise = numpy.random.default_rng(1000 + step)
    return {
        name: (noise.normal(size=shape) * 10.0 ** noise.integers(-3, 2, shape)).astype("float32")
        for name, shape in shapes.items()
    }


def trained(rule, steps=10, shapes=SHAPES):
    params = numbers(0, shapes)
    state = rule.init(params)
    for step in range(steps):
        params, state = rule.update(gradients(step, shapes), params, state)
    return params, state


def saved(path, rule, steps=10, shapes=SHAPES, **more):
    params, state = trained(rule, steps, shapes)
    samestep.save(path, rule, params, state, **more)
    return params, state


def same_bits(one, other):
    """Two checkpoints have the same state, counts and numbers; values count for nothing."""
    first, second = (
        {key: tensor for key, tensor in arrays(read(path)).items() if key.startswith("slots/")}
        for path in (one, other)
    )
    assert first.keys() == second.keys()
    assert first
    for key, tensor in first.items():
        assert (tensor.dtype, tensor.shape) == (second[key].dtype, second[key].shape), key
        assert tensor.bits.tobytes() == second[key].bits.tobytes(), key
    ones, others = (read(path).parameters for path in (one, other))
    for path, own in ones.items():
        theirs = others[path]
        assert (own.step, own.shape, own.dtype) == (theirs.step, theirs.shape, theirs.dtype)
        assert own.rule["values"] == theirs.rule["values"]


def close(found, wanted, before):
    """A parameter after one more step, in a few ULP of itself and of the step."""
    found, wanted, before = (numpy.asarray(one, numpy.float64) for one in (found, wanted, before))
    size = numpy.maximum(numpy.abs(wanted), numpy.abs(wanted - before))
    worst = numpy.max(numpy.abs(found - wanted) / numpy.maximum(size, 1e-30), initial=0.0)
    assert worst <= CLOSE, worst
    assert numpy.any(found != before)


# What is in a checkpoint


@pytest.mark.parametrize("width", [80, 120])
def test_a_checkpoint_is_shown_with_all_that_it_has(tmp_path, monkeypatch, width):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    saved("a.safetensors", samestep.Adan(lr=3e-3, weight_decay=0.1, like="optax"))
    text = done("inspect", "a.safetensors")
    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.split())
    assert "a.safetensors: this is a checkpoint of samestep" in joined
    assert "Adan(lr=0.003, " in joined
    assert "like 'optax'" in joined
    assert "betas=(0.98, 0.92, 0.99)" in joined
    assert f"version {FORMAT_VERSION} of the format, by samestep {samestep.__version__}" in joined
    assert "steps 10 layout numpy parameters 4 of 20 elements, float32" in joined
    assert "320 bytes of state, 80 bytes of values" in joined
    cells = [line.split() for line in text.splitlines()]
    for name, shape in SHAPES.items():
        assert [name] in [row[:1] for row in cells]
        assert any(row[-5:-3] == [str(shape[-1]) if shape else "0-d", "float32"] for row in cells)
    for slot in ("m", "v", "n", "prev", "value"):
        assert any(row[:2] == ["total", slot] or row[:2] == ["total", f"({slot})"] for row in cells)


def test_a_dialect_is_shown_where_its_values_are_not_the_defaults(tmp_path):
    saved(tmp_path / "a", samestep.ClipGlobalNorm(samestep.AdamW(lr=3e-3), max_norm=2.0))
    assert "like" not in done("inspect", tmp_path / "a")
    saved(tmp_path / "b", samestep.ClipGlobalNorm(samestep.AdamW(like="mlx"), like="torch"))
    text = " ".join(done("inspect", tmp_path / "b").split())
    assert "like 'torch'" in text
    assert "like AdamW: 'mlx'" in text


def test_numbers_for_machines_are_those_of_the_arrays(tmp_path):
    params, state = trained(samestep.AdamW(lr=1e-2, weight_decay=0.1))
    state.slots["m"]["layers.0.weight"][1] = [numpy.nan, numpy.inf, -numpy.inf]
    samestep.save(tmp_path / "a", samestep.AdamW(lr=1e-2, weight_decay=0.1), params, state)
    found = inspected(tmp_path / "a")
    assert found["kind"] == "samestep"
    assert (found["step"], found["layout"]) == (10, "numpy")
    assert found["rules"][0]["repr"] == "AdamW(lr=0.01, weight_decay=0.1)"
    assert found["rules"][0]["values"]["eps"] == 1e-8
    assert found["bytes_of_files"] == (tmp_path / "a").stat().st_size
    assert [*found["parameters"]] == [*SHAPES]
    for name, own in found["parameters"].items():
        assert own["shape"] == [*SHAPES[name]]
        kept = {slot: state.slots[slot][name] for slot in ("m", "v")} | {"value": params[name]}
        for slot, array in kept.items():
            told = own["value"] if slot == "value" else own["slots"][slot]
            finite = array[numpy.isfinite(array)].astype(numpy.float64)
            assert told["norm"] == pytest.approx(numpy.sqrt((finite**2).sum()), rel=1e-12)
            assert told["bytes"] == array.nbytes
            assert told["shape"] == [*array.shape]
            assert (told["nan"], told["infinite"]) == (
                numpy.isnan(array).sum(),
                numpy.isinf(array).sum(),
            )
    assert (found["totals"]["nan"], found["totals"]["infinite"]) == (1, 2)
    assert "layers.0.weight, m: 1 NaN and 2 infinite of 12 elements" in done(
        "inspect", tmp_path / "a"
    )


def test_several_files_are_inspected_as_one(tmp_path):
    rule = samestep.AdamW(lr=1e-2)
    saved(tmp_path / "one", rule)
    saved(tmp_path / "many", rule, max_shard_bytes=100)
    one, many = inspected(tmp_path / "one"), inspected(tmp_path / "many")
    assert one["parameters"] == many["parameters"]
    assert len(one["files"]) == 1
    assert len(many["files"]) > 2
    part = next(tmp_path.glob("many-*00001-of-*"))
    assert "one of the files over which a checkpoint of samestep is spread" in done("inspect", part)


def test_a_schedule_is_shown_with_the_number_that_it_gave(tmp_path):
    saved(tmp_path / "a", samestep.AdamW(lr=CosineDecay(1e-2, 100)))
    text = " ".join(done("inspect", tmp_path / "a").split())
    assert "schedule lr=CosineDecay(" in text
    assert f"at the last step {CosineDecay(1e-2, 100)(9)!r}" in text


def test_every_rule_of_a_route_is_shown_with_its_parameters(tmp_path):
    rule = samestep.route(
        (samestep.Where(min_ndim=2), samestep.Muon(lr=0.02)), samestep.AdamW(lr=3e-4)
    )
    saved(tmp_path / "a", rule)
    text = " ".join(done("inspect", tmp_path / "a").split())
    assert "rule 1 Muon()" in text
    assert "for layers.0.weight" in text
    assert "rule 2 AdamW(lr=0.0003)" in text


def test_wrapped_rules_are_shown_from_the_outside_in(tmp_path):
    rule = samestep.Lookahead(samestep.AdamW(lr=2e-3), sync_period=7)
    saved(tmp_path / "a", rule)
    text = " ".join(done("inspect", tmp_path / "a").split())
    assert f"rule {rule!r}" in text
    assert "numbers AdamW: lr=0.002" in text


def test_many_parameters_are_summed_up_by_slot(tmp_path):
    shapes = {f"layers.{at}.weight": (2, 2) for at in range(1500)}
    rule = samestep.AdamW(lr=1e-2)
    _, state = saved(tmp_path / "a", rule, 2, shapes)
    text = done("inspect", tmp_path / "a")
    assert len(text.splitlines()) < 30
    squares = sum((array.astype(float) ** 2).sum() for array in state.slots["v"].values())
    [row] = [line.split() for line in text.splitlines() if line.split()[:2] == ["v", "float32"]]
    assert row == ["v", "float32", "1,500", "6,000", "24,000", f"{math.sqrt(squares):.4g}", "0"]
    assert "4,500 arrays" in text
    few = done("inspect", tmp_path / "a", "--parameter", "layers.7?.weight", "--slots", "m,value")
    assert few.count("layers.7") == 10
    assert len([line for line in few.splitlines() if "2 x 2" in line]) == 20
    everything = done("inspect", tmp_path / "a", "--parameter", "*")
    assert everything.count("2 x 2") == 4500


def test_what_is_not_there_is_refused_with_what_is(tmp_path):
    saved(tmp_path / "a", samestep.AdamW(lr=1e-2))
    said = refused("inspect", tmp_path / "a", "--slots", "m,w")
    assert "no slot 'w' in it; there are m, v, value" in said
    said = refused("inspect", tmp_path / "a", "--parameter", "bias")
    assert "has the form 'bias'; they are called like layers.0.weight" in said
    refused("inspect", tmp_path / "b", code=USAGE)


def test_without_norms_the_arrays_are_not_read(tmp_path):
    path = tmp_path / "a"
    saved(path, samestep.AdamW(lr=1e-2))
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 4
    path.write_bytes(damaged)
    found = inspected(path, "--no-norms")
    assert "norm" not in found["parameters"]["scale"]["slots"]["m"]
    said = refused("inspect", path)
    assert "the bytes have been changed since they were written" in said


def test_norms_are_of_all_pieces_and_do_not_overflow():
    noise = numpy.random.default_rng(1)
    wide = noise.normal(size=3_000_000) * 1e200
    wide[[0, 2_999_999]] = numpy.nan, numpy.inf
    found = measured(Tensor(wide, "float64"))
    scaled = wide[1:-1] / 1e200
    assert found.norm == pytest.approx(1e200 * numpy.sqrt((scaled**2).sum()), rel=1e-12)
    assert (found.nan, found.infinite) == (1, 1)
    bits = numpy.array([0x3F80, 0x4000, 0x7F80, 0x7FC0, 0xC040], numpy.uint16)  # 1, 2, inf, nan, -3
    low = measured(Tensor(bits, "bfloat16"))
    assert low.norm == pytest.approx(math.sqrt(14))
    assert (low.nan, low.infinite) == (1, 1)
    assert measured(Tensor(numpy.zeros((0, 3), numpy.float32), "float32")) == (0.0, 0, 0)


def test_a_checkpoint_is_inspected_without_a_framework(tmp_path):
    saved(tmp_path / "a", samestep.AdamW(lr=1e-2))
    code = (
        "import sys\n"
        "from samestep.command_line.main import commands\n"
        f"commands()(['inspect', {str(tmp_path / 'a')!r}], standalone_mode=False)\n"
        "found = {'torch', 'jax', 'mlx', 'optax', 'safetensors'} & {*sys.modules}\n"
        "assert not found, found\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "AdamW(lr=0.01)" in run.stdout
    assert "\x1b" not in run.stdout


# What else a file is


class Touch:
    """An object whose pickle runs code when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def safetensors(items, text=b""):
    header = json.dumps(items).encode()
    return len(header).to_bytes(8, "little") + header + text


ORDINARY = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    "content, words",
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
    ids=lambda value: value[:12].decode("latin1") if isinstance(value, bytes) else "",
)
def test_other_files_are_called_what_they_are(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    assert words in done("inspect", tmp_path / "a")
    assert words in inspected(tmp_path / "a")["is"] or "empty" in words
    said = refused("convert", tmp_path / "a", tmp_path / "b")
    assert words.removeprefix("this is ") in said
    assert not (tmp_path / "b").exists()


def test_a_folder_is_one(tmp_path):
    assert "this is a folder" in done("inspect", tmp_path)
    (tmp_path / ".metadata").touch()
    assert "a folder of torch.distributed.checkpoint" in done("inspect", tmp_path)


def test_an_ordinary_safetensors_file_is_shown_too(tmp_path):
    array = numpy.array([3.0, -4.0], numpy.float32)
    (tmp_path / "a").write_bytes(safetensors(ORDINARY, array.tobytes()))
    found = inspected(tmp_path / "a")
    assert found["arrays"]["w"]["norm"] == 5.0
    (tmp_path / "a").write_bytes(safetensors(ORDINARY, array.tobytes()[:5]))
    assert "'w' is damaged" in refused("inspect", tmp_path / "a")
    (tmp_path / "a").write_bytes(safetensors(ORDINARY)[:-2])
    assert "it has been cut off" in refused("inspect", tmp_path / "a")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_never_run(tmp_path, protocol):
    (tmp_path / "a").write_bytes(pickle.dumps(Touch(tmp_path / "touched"), protocol))
    assert "a pickle, which is never loaded" in done("inspect", tmp_path / "a")
    refused("convert", tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "touched").exists()


def test_a_file_of_torch_with_code_in_it_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"state": {}, "param_groups": [Touch(tmp_path / "touched")]}, tmp_path / "a")
    for arguments in (["inspect", tmp_path / "a"], ["convert", tmp_path / "a", tmp_path / "b"]):
        assert "other objects than tensors and plain data" in refused(*arguments)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("end", [0.1, 0.5, 0.99])
def test_files_that_have_been_cut_off_are_no_traceback(tmp_path, end):
    torch = pytest.importorskip("torch")
    saved(tmp_path / "ours", samestep.AdamW(lr=1e-2))
    torch.save({"w": torch.ones(50)}, tmp_path / "torch")
    for name in ("ours", "torch"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(len(whole) * end)])
        result = command("inspect", tmp_path / name)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert result.exit_code == REFUSED or "damaged" in result.output
        refused("convert", tmp_path / name, tmp_path / "b")
    assert not (tmp_path / "b").exists()


# From and to torch


def torch_trained(name, steps=10, shapes=SHAPES, named=True, **values):
    """An optimizer of torch.optim that has taken steps, and its parameters."""
    torch = pytest.importorskip("torch")
    params = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in numbers(0, shapes).items()}
    given = params.items() if named else params.values()
    optimizer = getattr(torch.optim, name)(given, **values)
    for step in range(steps):
        torch_step(optimizer, params, step)
    return optimizer, params


def torch_step(optimizer, params, step):
    torch = pytest.importorskip("torch")
    for name, grad in gradients(step, {n: tuple(p.shape) for n, p in params.items()}).items():
        params[name].grad = torch.tensor(grad)
    optimizer.step()


RULES = {
    "AdamW": samestep.AdamW(lr=1e-2, weight_decay=0.1),
    "AdamW-amsgrad": samestep.AdamW(lr=1e-2, amsgrad=True, maximize=True),
    "Adam": samestep.Adam(lr=1e-2, betas=(0.8, 0.95), weight_decay=0.1, like="torch"),
    "SGD": samestep.SGD(lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1, like="torch"),
    "RMSprop": samestep.RMSprop(lr=1e-2, momentum=0.9, centered=True, like="torch"),
    "Adagrad": samestep.Adagrad(lr=1e-2, weight_decay=0.1, like="torch"),
    "NAdam": samestep.NAdam(lr=1e-2, weight_decay=0.1, like="torch"),
    "Adafactor": samestep.Adafactor(lr=1e-2, weight_decay=0.1, like="torch"),
    "Rprop": samestep.Rprop(lr=1e-2, like="torch"),
}


@pytest.mark.parametrize("name", RULES)
def test_there_and_back_through_torch_is_the_same_to_the_last_bit(tmp_path, name):
    torch = pytest.importorskip("torch")
    rule = RULES[name]
    saved(tmp_path / "a", rule)
    done("convert", tmp_path / "a", tmp_path / "b.pt", "--to", "torch", *in_order(tmp_path))
    content = torch.load(tmp_path / "b.pt", weights_only=True)
    assert content["param_groups"][0]["param_names"] == [*SHAPES]
    done("convert", tmp_path / "b.pt", tmp_path / "c")
    if not rule.hypers.get("momentum") or name == "RMSprop":
        same_bits(tmp_path / "a", tmp_path / "c")
    else:  # torch's SGD does not count its steps
        one, other = (arrays(read(tmp_path / path)) for path in "ac")
        for path in SHAPES:
            key = f"slots/m/{path}"
            assert one[key].bits.tobytes() == other[key].bits.tobytes()


def numbers_of(module, name):
    return inspect.signature(getattr(module, name)).parameters


@pytest.mark.parametrize("name", ["AdamW", "SGD", "RMSprop", "Adagrad"])
def test_what_is_written_for_torch_goes_on_there(tmp_path, name):
    torch = pytest.importorskip("torch")
    rule = RULES[name]
    params, state = saved(tmp_path / "a", rule)
    done("convert", tmp_path / "a", tmp_path / "b.pt", "--to", "torch", *in_order(tmp_path))
    there = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in params.items()}
    flags = ("nesterov", "centered", "momentum")
    more = {key: rule.hypers[key] for key in flags if key in numbers_of(torch.optim, name)}
    optimizer = getattr(torch.optim, name)(there.items(), lr=1.0, **more)
    optimizer.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True))
    assert optimizer.param_groups[0]["lr"] == 1e-2
    torch_step(optimizer, there, 10)
    wanted, _ = rule.update(gradients(10), params, state)
    for path, param in there.items():
        close(param.detach().numpy(), wanted[path], params[path])


def test_groups_of_other_numbers_stay_groups_in_torch(tmp_path):
    torch = pytest.importorskip("torch")
    rule = samestep.AdamW(lr=1e-2, groups=[(lambda p: p.ndim < 2, {"lr": 1e-3})])
    params, state = trained(rule)
    samestep.save(tmp_path / "a", rule, params, state)
    done("convert", tmp_path / "a", tmp_path / "b.pt", "--to", "torch", *in_order(tmp_path))
    first, second = torch.load(tmp_path / "b.pt", weights_only=True)["param_groups"]
    assert (first["lr"], first["param_names"]) == (1e-2, ["layers.0.weight"])
    assert (second["lr"], len(second["param_names"])) == (1e-3, 3)
    pytest.importorskip("mlx")
    said = refused("convert", tmp_path / "a", tmp_path / "c", "--to", "mlx")
    assert "keeps its own lr" in said
    assert not (tmp_path / "c").exists()


ALIKE = {"query": (3, 3), "key": (3, 3), "norm": (3,), "value": (3, 3), "after": (3,)}
"""Shapes of which several are the same, in an order that is not the alphabet's."""


def torch_goes_on(tmp_path, groups, rule, params, state):
    """The steps of torch.optim after loading ``b.pt`` are those of the rule."""
    torch = pytest.importorskip("torch")
    there = {name: torch.nn.Parameter(torch.tensor(params[name])) for name in ALIKE}
    split = [{"params": [there[name] for name in names]} for names in groups]
    optimizer = torch.optim.AdamW(split, lr=1.0)
    optimizer.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True))
    for step in range(8, 11):
        torch_step(optimizer, there, step)
        before = params
        params, state = rule.update(gradients(step, ALIKE), params, state)
    for name, param in there.items():
        close(param.detach().numpy(), params[name], before[name])


def write_order(path, form, tmp_path):
    """The order of ``ALIKE`` in a file of each kind that tells it."""
    torch = pytest.importorskip("torch")
    import samestep.torch  # noqa: PLC0415

    tensors = {name: torch.zeros(shape) for name, shape in ALIKE.items()}
    if form == "lines":
        path.write_text("\r\n".join(f" {name} " for name in ALIKE))
    elif form == "json":
        path.write_text(json.dumps([*ALIKE]))
    elif form == "model":
        torch.save({"buffer": torch.ones(9)} | tensors, path)
    elif form == "run":
        torch.save({"epoch": 1, "model": tensors}, path)
    else:
        named = ((name, torch.nn.Parameter(tensor)) for name, tensor in tensors.items())
        samestep.save(path, samestep.torch.SGD(named, lr=0.1))


@pytest.mark.parametrize("form", ["lines", "json", "model", "run", "checkpoint"])
def test_parameters_of_one_shape_get_their_own_state_in_torch(tmp_path, form):
    """A tree of JAX is sorted by names, and torch goes by places."""
    rule = samestep.AdamW(lr=1e-2, weight_decay=0.1)
    params, state = saved(tmp_path / "a", rule, 8, dict(sorted(ALIKE.items())))
    said = refused("convert", tmp_path / "a", tmp_path / "b.pt", "--to", "torch")
    assert "by its place, not by its name" in said
    assert "--order FILE" in said
    assert "samestep.load(path, torch_optimizer, model)" in said
    assert not (tmp_path / "b.pt").exists()
    write_order(tmp_path / "order", form, tmp_path)
    more = ["--to", "torch", "--order", tmp_path / "order"]
    text = done("convert", tmp_path / "a", tmp_path / "b.pt", *more)
    assert "in this order: query, key, norm, value, after\n" in text
    torch_goes_on(tmp_path, [[*ALIKE]], rule, params, state)
    if form in ("lines", "json"):  # the test would notice
        in_order(tmp_path, ["value", "key", "norm", "query", "after"])
        done("convert", tmp_path / "a", tmp_path / "b.pt", *more, "--force")
        with pytest.raises(AssertionError):
            torch_goes_on(tmp_path, [[*ALIKE]], rule, params, state)


def test_groups_are_told_in_the_order_in_which_torch_must_have_them(tmp_path):
    rule = samestep.AdamW(
        lr=1e-2, weight_decay=0.1, groups=[(lambda p: p.ndim < 2, {"weight_decay": 0.0})]
    )
    params, state = saved(tmp_path / "a", rule, 8, dict(sorted(ALIKE.items())))
    more = ["--to", "torch", *in_order(tmp_path, ALIKE)]
    text = done("convert", tmp_path / "a", tmp_path / "b.pt", *more)
    assert "must be made with these 2 groups, in this order" in text
    assert "group 0 (weight_decay=0.1): query, key, value\n" in text
    assert "group 1 (weight_decay=0.0): norm, after\n" in text
    groups = [["query", "key", "value"], ["norm", "after"]]
    torch_goes_on(tmp_path, groups, rule, params, state)


def test_an_order_that_is_none_of_these_parameters_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    order, names = tmp_path / "order", [*ALIKE]
    saved(tmp_path / "a", RULES["AdamW"], 2, ALIKE)
    saved(tmp_path / "other", RULES["AdamW"], 2, ALIKE)
    asked = ["convert", tmp_path / "a", tmp_path / "b", "--to", "torch", "--order"]
    for content, words in (
        (json.dumps(names[1:]), "it does not have query"),
        (json.dumps([*names, "key"]), "it has key more than once"),
        (json.dumps([*names, "keys"]), "it has keys, of which the checkpoint has no state"),
        (json.dumps({"a": 1}), "this is no list of names"),
        ("[1, 2]", "this is no list of names"),
        ("[1,", "this is neither a JSON list of names nor a text"),
    ):
        order.write_text(content)
        assert f"--order {order}: {words}" in refused(*asked, order)
    for content, words in (
        ({name: torch.zeros(2, 9) for name in names}, "'query' has shape (2, 9) there"),
        ({"epoch": 3}, "no model's state dict"),
    ):
        torch.save(content, order)
        assert words in refused(*asked, order)
    assert "is of layout numpy" in refused(*asked, tmp_path / "other")
    refused(*asked, tmp_path / "missing", code=USAGE)
    refused(*asked[:-2], "mlx", "--order", order, code=USAGE)
    assert not (tmp_path / "b").exists()


def test_a_checkpoint_of_torch_keeps_its_order_and_a_map_may_not(tmp_path):
    torch = pytest.importorskip("torch")
    optimizer, params = torch_trained("AdamW", 8, ALIKE, lr=1e-2)
    samestep.save(tmp_path / "a", optimizer)
    text = done("convert", tmp_path / "a", tmp_path / "b.pt", "--to", "torch")
    assert "in this order: query, key, norm, value, after\n" in text
    other = torch.optim.AdamW(params.values(), lr=1.0)
    other.load_state_dict(torch.load(tmp_path / "b.pt", weights_only=True))
    for param in params.values():
        assert torch.equal(optimizer.state[param]["exp_avg"], other.state[param]["exp_avg"])
    (tmp_path / "one.toml").write_text('[[rules]]\nfrom = "key"\nto = "a"\n')
    more = ["--to", "torch", "--map", tmp_path / "one.toml"]
    text = done("convert", tmp_path / "a", tmp_path / "c.pt", *more)
    assert "in this order: query, a, norm, value, after\n" in text
    saved(tmp_path / "tree", samestep.AdamW(lr=1e-2), 2, ALIKE)
    more[-1] = "flax:torch"
    said = refused("convert", tmp_path / "tree", tmp_path / "d.pt", *more)
    assert "whose layout a map has made that of torch" in said
    kernels = {
        "params.fc.bias": (3,),
        "params.fc.kernel": (3, 3),
        "params.head.bias": (3,),
        "params.head.kernel": (3, 3),
    }
    saved(tmp_path / "flax", samestep.AdamW(lr=1e-2), 2, kernels)
    text = done("convert", tmp_path / "flax", tmp_path / "e", "--map", "flax:torch")
    assert "still in the order of numpy; --to torch needs --order" in text
    said = refused("convert", tmp_path / "e", tmp_path / "f.pt", "--to", "torch")
    assert "whose layout a map has made that of torch" in said
    torch_order = in_order(tmp_path, ["fc.weight", "fc.bias", "head.weight", "head.bias"])
    done("convert", tmp_path / "e", tmp_path / "f.pt", "--to", "torch", *torch_order)


@pytest.mark.parametrize("to", ["torch", "optax", "mlx"])
def test_a_schedule_that_becomes_a_number_is_named(tmp_path, to):
    pytest.importorskip({"mlx": "mlx.core"}.get(to, to))
    schedule = CosineDecay(1e-2, 100)
    saved(tmp_path / "a", samestep.AdamW(lr=schedule), shapes=ALIKE)
    order = in_order(tmp_path, ALIKE) if to == "torch" else []
    text = done("convert", tmp_path / "a", tmp_path / "b", "--to", to, *order)
    [line] = [line for line in text.splitlines() if "was a schedule" in line]
    assert line.startswith("lr of AdamW was a schedule: CosineDecay(")
    assert f"at the last step {schedule(9)!r}; in the new file it is this number" in line
    assert "schedule:" not in done("convert", tmp_path / "a", tmp_path / "c")


def test_a_state_of_torch_goes_on_in_jax(tmp_path):
    """Named by their places in torch, and under Flax's names and in its layout in JAX."""
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    import samestep.jax  # noqa: PLC0415

    values = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    optimizer, params = torch_trained("AdamW", named=False, **values)
    torch.save(optimizer.state_dict(), tmp_path / "torch.pt")
    (tmp_path / "map.toml").write_text(
        'strict = true\n[[rules]]\nfrom = "0"\nto = "dense.kernel"\ntranspose = [1, 0]\n'
        + "".join(
            f'[[rules]]\nfrom = "{at}"\nto = "{to}"\n'
            for at, to in ((1, "dense.bias"), (2, "norm.scale"), (3, "scale"))
        )
    )
    text = done("convert", tmp_path / "torch.pt", tmp_path / "ours", "--map", tmp_path / "map.toml")
    assert "0 -> dense.kernel, transpose [1, 0]: 1" in text
    assert "6 parameters" not in text
    w, b, n, s = (jax.numpy.asarray(p.detach().numpy()) for p in params.values())
    tree = {"dense": {"kernel": w.T, "bias": b}, "norm": {"scale": n}, "scale": s}
    mine = samestep.jax.AdamW(**values)
    tree, state = samestep.load(tmp_path / "ours", mine, tree)
    gw, gb, gn, gs = gradients(10).values()
    grads = {"dense": {"kernel": gw.T, "bias": gb}, "norm": {"scale": gn}, "scale": gs}
    updates, _ = mine.update(grads, state, tree)
    new = optax.apply_updates(tree, updates)
    fresh, _ = mine.update(grads, mine.init(tree), tree)
    before = {name: param.detach().numpy().copy() for name, param in params.items()}
    torch_step(optimizer, params, 10)
    found = [new["dense"]["kernel"].T, new["dense"]["bias"], new["norm"]["scale"], new["scale"]]
    for (name, param), value in zip(params.items(), found, strict=True):
        close(value, param.detach().numpy(), before[name])
    assert numpy.abs(fresh["norm"]["scale"] - updates["norm"]["scale"]).max() > 1e-4


def test_an_optimizer_among_other_things_is_found(tmp_path):
    torch = pytest.importorskip("torch")
    optimizer, params = torch_trained("AdamW", lr=1e-2)
    torch.save({"model": params, "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "a")
    torch.save(optimizer.state_dict(), tmp_path / "b")
    assert "torch.optim.AdamW in 'optimizer', beside 'model', 'epoch'" in done(
        "inspect", tmp_path / "a"
    )
    for name in "ab":
        done("convert", tmp_path / name, tmp_path / f"{name}.safetensors")
    same_bits(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    torch.save(params, tmp_path / "c")
    assert "a model's state dict of 4 tensors" in done("inspect", tmp_path / "c")
    assert "no optimizer state" in refused("convert", tmp_path / "c", tmp_path / "d")


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "RAdam", "Adamax", "Adadelta", "Rprop"])
def test_a_state_dict_of_torch_says_by_its_groups_whose_it_is(tmp_path, name):
    torch = pytest.importorskip("torch")
    more = {"momentum": 0.9} if name == "SGD" else {}
    optimizer, _ = torch_trained(name, lr=1e-2, **more)
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    torch.save(optimizer.state_dict(), tmp_path / "a")
    assert f"the state dict of torch.optim.{name}" in done("inspect", tmp_path / "a")
    done("convert", tmp_path / "a", tmp_path / "b")
    kept = arrays(read(tmp_path / "b"))
    assert len([key for key in kept if key.endswith("/layers.0.weight")]) >= 1


def test_what_no_rule_computes_is_shown_and_refused_by_name(tmp_path):
    torch = pytest.importorskip("torch")
    optimizer, _ = torch_trained("ASGD", lr=1e-2)
    torch.save(optimizer.state_dict(), tmp_path / "a")
    text = done("inspect", tmp_path / "a")
    assert "torch.optim.ASGD" in text
    assert "group 0 of 4 parameters: lr=" in text
    assert "averaged SGD" in refused("convert", tmp_path / "a", tmp_path / "b")


def test_a_state_dict_of_ours_becomes_a_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    import samestep.torch  # noqa: PLC0415

    params = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in numbers(0).items()}
    optimizer = samestep.torch.Adan(params.items(), lr=1e-2, weight_decay=0.1)
    for step in range(10):
        torch_step(optimizer, params, step)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    samestep.save(tmp_path / "wanted", optimizer)
    assert "an optimizer of samestep.torch, Adan" in done("inspect", tmp_path / "a.pt")
    done("convert", tmp_path / "a.pt", tmp_path / "b")
    same_bits(tmp_path / "b", tmp_path / "wanted")


def test_what_a_state_dict_of_ours_may_be_of_is_said_likeliest_first(tmp_path):
    torch = pytest.importorskip("torch")
    import samestep.torch  # noqa: PLC0415

    params = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in numbers(0).items()}
    optimizer = samestep.torch.AdamW(params.items(), lr=1e-2, weight_decay=0.2)
    torch_step(optimizer, params, 0)
    torch.save(optimizer.state_dict(), tmp_path / "a")
    said = refused("convert", tmp_path / "a", tmp_path / "b")
    assert "those of the rules AdamW, Adam; say which it is: --rule samestep.AdamW" in said
    for name in ("AdamW", "Adam"):
        done("convert", tmp_path / "a", tmp_path / name, "--rule", f"samestep.{name}")


@pytest.mark.parametrize("wrap", [samestep.ClipGlobalNorm, samestep.Lookahead, samestep.Cautious])
def test_a_state_dict_of_wrapped_rules_is_to_be_saved_by_its_optimizer(tmp_path, wrap):
    torch = pytest.importorskip("torch")
    import samestep.torch  # noqa: PLC0415

    params = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in numbers(0).items()}
    optimizer = samestep.torch.bind(wrap(samestep.AdamW(lr=1e-2)), params.items())
    torch_step(optimizer, params, 0)
    torch.save(optimizer.state_dict(), tmp_path / "a")
    said = refused("convert", tmp_path / "a", tmp_path / "b")
    assert "load it into the optimizer that it is of" in said
    assert "samestep.save(path, optimizer)" in said
    assert "--rule" not in said


@pytest.mark.parametrize(
    "content",
    [
        {"state": {}, "param_groups": []},
        {"state": [], "param_groups": [{"params": [0]}]},
        {"state": {0: 3}, "param_groups": [{"params": [0]}]},
        {"state": {}, "param_groups": [{"params": 0}]},
        {"state": {}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"a": 1}}, "param_groups": [{"params": [0, 1], "lr": "x"}]},
        [1, 2],
    ],
    ids=str,
)
def test_what_is_not_quite_a_state_dict_is_no_traceback(tmp_path, content):
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "a")
    done("inspect", tmp_path / "a")
    refused("convert", tmp_path / "a", tmp_path / "b")
    refused("convert", tmp_path / "a", tmp_path / "b", "--rule", "AdamW")
    refused("convert", tmp_path / "a", tmp_path / "b", "--rule", "samestep.AdamW")
    assert not (tmp_path / "b").exists()


# From and to MLX and optax


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_what_is_written_for_mlx_goes_on_there_and_comes_back(tmp_path, name):
    mx = pytest.importorskip("mlx.core")
    optimizers = pytest.importorskip("mlx.optimizers")
    from mlx.utils import tree_unflatten  # noqa: PLC0415

    values = {"weight_decay": 0.1} | ({"momentum": 0.9} if name == "SGD" else {})
    rule = getattr(samestep, name)(lr=1e-2, like="mlx", **values)
    shapes = {"a.weight": (4, 3), "a.bias": (4,), "norm.weight": (3,)}
    params, state = saved(tmp_path / "a", rule, shapes=shapes)
    done("convert", tmp_path / "a", tmp_path / "b.safetensors", "--to", "mlx")
    there = {path: mx.array(value) for path, value in params.items()}
    optimizer = getattr(optimizers, name)(learning_rate=1e-2, **values)
    loaded = mx.load(str(tmp_path / "b.safetensors"))
    optimizer.state = tree_unflatten([*loaded.items()])
    grads = {path: mx.array(grad) for path, grad in gradients(10, shapes).items()}
    new = optimizer.apply_gradients(
        tree_unflatten([*grads.items()]), tree_unflatten([*there.items()])
    )
    wanted, _ = rule.update(gradients(10, shapes), params, state)
    for path in params:
        first, second = path.split(".")
        close(numpy.asarray(new[first][second]), wanted[path], params[path])
    done("convert", tmp_path / "b.safetensors", tmp_path / "c")
    kept, back = (arrays(read(tmp_path / path)) for path in "ac")
    for key in (key for key in kept if key.startswith("slots/")):
        assert kept[key].bits.tobytes() == back[key].bits.tobytes()
    assert read(tmp_path / "c").step == 10
    assert f"the state of mlx.optimizers.{name}(" in done("inspect", tmp_path / "b.safetensors")


def test_a_state_of_mlx_must_be_named(tmp_path):
    mx = pytest.importorskip("mlx.core")
    optimizers = pytest.importorskip("mlx.optimizers")
    from mlx.utils import tree_flatten  # noqa: PLC0415

    optimizer = optimizers.AdamW(learning_rate=0.02, weight_decay=0.3, betas=[0.8, 0.95])
    params = {"a": {"weight": mx.ones((4, 3))}, "b": mx.ones(3)}
    optimizer.init(params)
    for step in range(3):
        optimizer.apply_gradients(
            {"a": {"weight": mx.ones((4, 3)) * step}, "b": mx.ones(3)}, params
        )
    path = tmp_path / "a.safetensors"
    mx.save_safetensors(str(path), dict(tree_flatten(optimizer.state)))
    assert "does not say its class" in done("inspect", path)
    said = refused("convert", path, tmp_path / "b")
    assert "it keeps m, v of a parameter" in said
    done("convert", path, tmp_path / "b", "--rule", "AdamW")
    full = "AdamW(like='mlx', weight_decay=0.3, betas=(0.8, 0.95))"
    done("convert", path, tmp_path / "c", "--rule", full)
    for name, decay in (("b", 0.01), ("c", 0.3)):
        own = read(tmp_path / name).parameters["a.weight"]
        assert own.shape == (4, 3)
        assert own.step == 3
        assert own.rule["values"]["weight_decay"] == decay
        assert own.rule["values"]["lr"] == pytest.approx(0.02, rel=1e-7)
        wanted = numpy.asarray(optimizer.state["a"]["weight"]["v"])
        assert numpy.array_equal(own.slots["v"].bits, wanted)
        assert own.value is None
    for wrong in ("AdamW(", "AdamW(0.1)", "__import__('os')", "Adan", "AdamW(lr=open('a'))"):
        assert "--rule" in refused("convert", path, tmp_path / "d", "--rule", wrong)
    said = refused("convert", path, tmp_path / "d", "--rule", "SGD")
    assert "--rule SGD: it keeps v of a parameter, and the file has m, v" in said
    assert not (tmp_path / "d").exists()


def test_what_mlx_cannot_write_is_refused_by_name(tmp_path):
    pytest.importorskip("mlx.core")
    params = numbers(0) | {"norm.weight": numpy.ones(3)}
    rule = samestep.AdamW(lr=1e-2, like="mlx")
    _, state = rule.update(params, params, rule.init(params))
    samestep.save(tmp_path / "a", rule, params, state)
    said = refused("convert", tmp_path / "a", tmp_path / "b", "--to", "mlx")
    assert "parameter 'norm.weight' has float64 in slot m and v" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion", "AdEMAMix"])
def test_what_is_written_for_optax_is_loaded_as_documented(tmp_path, name):
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    numpy_files = pytest.importorskip("safetensors.numpy")
    values = {"momentum": 0.9} if name == "SGD" else {"weight_decay": 0.1}
    rule = getattr(samestep, name)(lr=1e-2, like="optax", **values)
    params, state = saved(tmp_path / "a", rule)
    text = done("convert", tmp_path / "a", tmp_path / "b", "--to", "optax")
    written = next(line for line in text.splitlines() if "the state of optax." in line)
    transformation = eval(written.partition("the state of ")[2], {"optax": optax})
    tree = {
        "layers": {"0": {"weight": params["layers.0.weight"], "bias": params["layers.0.bias"]}},
        "norm": {"weight": params["norm.weight"]},
        "scale": params["scale"],
    }
    tree = jax.tree.map(jax.numpy.asarray, tree)
    kept = numpy_files.load_file(tmp_path / "b")
    leaves, structure = jax.tree_util.tree_flatten_with_path(transformation.init(tree))
    there = structure.unflatten([kept[jax.tree_util.keystr(path)] for path, _ in leaves])
    assert len(kept) == len(leaves)
    grads = gradients(10)
    given = {
        "layers": {"0": {"weight": grads["layers.0.weight"], "bias": grads["layers.0.bias"]}},
        "norm": {"weight": grads["norm.weight"]},
        "scale": grads["scale"],
    }
    given = jax.tree.map(jax.numpy.asarray, given)
    updates, _ = transformation.update(given, there, tree)
    new = optax.apply_updates(tree, updates)
    wanted, _ = rule.update(grads, params, state)
    close(new["layers"]["0"]["weight"], wanted["layers.0.weight"], params["layers.0.weight"])
    close(new["norm"]["weight"], wanted["norm.weight"], params["norm.weight"])
    assert transformation.__class__.__name__.startswith("GradientTransformation")
    assert f"the state of a transformation of optax, {written.partition('the state of ')[2]}" in (
        " ".join(done("inspect", tmp_path / "b").split())
    )


# What is done with files


def test_names_and_shapes_go_through_a_map_and_are_reported(tmp_path):
    params, state = saved(tmp_path / "a", RULES["AdamW"])
    text = done("convert", tmp_path / "a", tmp_path / "b", "--map", "torch:flax")
    assert "{module...}.weight of ndim 2 -> params.{module...}.kernel, transpose [1, 0]: 1" in text
    assert "such as layers.0.weight -> params.layers.0.kernel" in text
    found = read(tmp_path / "b")
    assert found.layout == "jax"
    kept = found.parameters["params.layers.0.kernel"]
    assert numpy.array_equal(kept.slots["v"].bits, state.slots["v"]["layers.0.weight"].T)
    assert numpy.array_equal(kept.value.bits, params["layers.0.weight"].T)
    (tmp_path / "map.toml").write_text('[[rules]]\nfrom = "norm.{leaf}"\nto = "ln.{leaf}"\n')
    text = done("convert", tmp_path / "a", tmp_path / "c", "--map", tmp_path / "map.toml")
    assert "norm.weight -> ln.weight" in text
    assert "no rule matched 3, which stay: layers.0.weight, layers.0.bias, scale" in text
    (tmp_path / "map.toml").write_text('[[rules]]\nfrom = "nor.{leaf}"\nto = "ln.{leaf}"\n')
    text = done("convert", tmp_path / "a", tmp_path / "d", "--map", tmp_path / "map.toml")
    assert "nothing matched" in text


@pytest.mark.parametrize(
    "text, words",
    [
        ("strict = true", "no rule matches"),
        ("rules = 3", "map.toml"),
        ("a =", "this is no TOML"),
        ('[[rules]]\nfrom = "scale"\nto = "norm.weight"', "both called"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path, text, words):
    saved(tmp_path / "a", RULES["AdamW"])
    (tmp_path / "map.toml").write_text(text)
    arguments = ["convert", tmp_path / "a", tmp_path / "b", "--map", tmp_path / "map.toml"]
    assert words in refused(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "map.toml"]
    assert "there are no layers of 'x'" in refused(*arguments[:-1], "torch:x")


@pytest.mark.parametrize("to", ["samestep", "torch", "mlx", "optax"])
def test_what_is_there_is_replaced_only_when_asked_and_only_by_a_whole_file(
    tmp_path, monkeypatch, to
):
    pytest.importorskip({"samestep": "numpy", "mlx": "mlx.core"}.get(to, to))
    saved(tmp_path / "a", RULES["AdamW"])
    out = tmp_path / "out"
    out.write_bytes(b"precious")
    order = in_order(tmp_path) if to == "torch" else []
    names = sorted(["a", "out", *(["order"] if order else [])])
    (tmp_path / ".out.0123abcd.partial").write_bytes(b"left by a process that was killed")
    arguments = ["convert", tmp_path / "a", out, "--to", to, *order]
    assert "it is there already; --force replaces it" in refused(*arguments)
    assert out.read_bytes() == b"precious"
    with monkeypatch.context() as patched:

        def fail(*_):
            raise OSError(28, "No space left on device", "out")

        patched.setattr(os, "fsync", fail)
        assert "No space left on device" in refused(*arguments, "--force")
    assert out.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    done(*arguments, "--force")
    assert kind_of(out).name == to
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_checkpoint_is_spread_over_files_and_put_together(tmp_path):
    saved(tmp_path / "a", RULES["AdamW"])
    done("convert", tmp_path / "a", tmp_path / "b", "--max-shard-bytes", 100)
    assert len([*tmp_path.glob("b-*")]) > 1
    done("convert", tmp_path / "b", tmp_path / "c")
    same_bits(tmp_path / "a", tmp_path / "c")
    assert read(tmp_path / "c").parameters["scale"].value is not None


@pytest.mark.parametrize(
    "rule, to, words",
    [
        (samestep.Adan(lr=1e-2), "torch", "torch.optim has no class that computes Adan"),
        (samestep.Adan(lr=1e-2), "mlx", "mlx.optimizers has no class that computes Adan"),
        (
            samestep.Adan(lr=1e-2),
            "optax",
            "difference by b2 = 0.92, and optax weights",
        ),
        (samestep.Adam(lr=1e-2, eps_root=1e-3), "torch", "eps_root"),
        (samestep.Lookahead(samestep.SGD(lr=1e-2)), "optax", "no transformation of optax"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 9 else "",
)
def test_what_a_library_does_not_compute_is_refused(tmp_path, rule, to, words):
    pytest.importorskip({"mlx": "mlx.core"}.get(to, to))
    saved(tmp_path / "a", rule)
    said = refused("convert", tmp_path / "a", tmp_path / "b", "--to", to)
    assert words in said
    assert str(tmp_path / "a") in said
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "more, words",
    [
        (["--to", "keras"], "'keras' is not one of"),
        (["--to", "torch", "--max-shard-bytes", "9"], "--max-shard-bytes is for --to samestep"),
        (["--max-shard-bytes", "0"], "0 is not in the range"),
    ],
)
def test_usage_mistakes_have_a_code_of_their_own(tmp_path, more, words):
    saved(tmp_path / "a", RULES["AdamW"])
    assert words in refused("convert", tmp_path / "a", tmp_path / "b", *more, code=USAGE)
    assert "there is no folder" in refused(
        "convert", tmp_path / "a", tmp_path / "no" / "b", code=USAGE
    )


def test_a_damaged_checkpoint_is_not_converted(tmp_path):
    path = tmp_path / "a"
    saved(path, RULES["AdamW"])
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 4
    path.write_bytes(damaged)
    for to in ("samestep", "torch"):
        said = refused("convert", path, tmp_path / "b", "--to", to)
        assert "the bytes have been changed since they were written" in said
        assert said.count(str(path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_framework_that_is_missing_is_named(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refused("inspect", tmp_path / "a.pt")
    assert 'needs torch, which is not installed: pip install "samestep[torch]"' in said
