"""``samestep convert``: maps, files that exist, mistakes, and the states of MLX and optax."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import numpy
import pytest

import samestep
from samestep.checkpoints import read
from samestep.command_line.files.kinds import kind_of
from samestep.command_line.files.nesting import nested
from samestep.schedules import CosineDecay
from tests.command_line.state_files import (
    ADAMW,
    SHAPES,
    USAGE,
    close,
    damage,
    done,
    gradients,
    needs,
    numbers,
    refused,
    same_bits,
    same_slots,
    saved,
    words,
)

pytestmark = pytest.mark.usefixtures("in_own_folder")

TARGETS = ["samestep", "torch", "mlx", "optax"]


def option(to):
    """The option for a target; torch needs the order of the parameters too."""
    if to != "torch":
        return f" --to {to}"
    Path("order").write_text("\n".join(SHAPES))
    return " --to torch --order order"


# What is done with files


def test_names_and_shapes_go_through_a_map_and_are_reported():
    params, state = saved("a", ADAMW)
    text = done("convert a b --map torch:flax")
    assert "{module...}.weight of ndim 2 -> params.{module...}.kernel, transpose [1, 0]: 1" in text
    assert "such as layers.0.weight -> params.layers.0.kernel" in text
    found = read("b")
    assert found.layout == "jax"
    kept = found.parameters["params.layers.0.kernel"]
    assert numpy.array_equal(kept.slots["v"].bits, state.slots["v"]["layers.0.weight"].T)
    assert numpy.array_equal(kept.value.bits, params["layers.0.weight"].T)
    Path("map.toml").write_text('[[rules]]\nfrom = "norm.{leaf}"\nto = "ln.{leaf}"\n')
    text = done("convert a c --map map.toml")
    assert "norm.weight -> ln.weight" in text
    assert "no rule matched 3, which stay: layers.0.weight, layers.0.bias, scale" in text
    Path("map.toml").write_text('[[rules]]\nfrom = "nor.{leaf}"\nto = "ln.{leaf}"\n')
    assert "nothing matched" in done("convert a d --map map.toml")


def test_a_refusal_comes_after_what_the_map_has_done():
    saved("a", ADAMW)
    assert "such as layers.0.weight -> " in refused("convert a b --to torch --map torch:flax")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strict = true", "no rule matches"),
        ("rules = 3", "map.toml"),
        ("a =", "this is no TOML"),
        ('[[rules]]\nfrom = "scale"\nto = "norm.weight"', "both called"),
        (None, "there are no layers of 'x'"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(text, said):
    saved("a", ADAMW)
    Path("map.toml").write_text(text or "")
    assert said in refused(f"convert a b --map {'map.toml' if text else 'torch:x'}")
    assert sorted(os.listdir()) == ["a", "map.toml"]


@pytest.mark.parametrize("to", TARGETS)
def test_what_is_there_is_replaced_only_when_asked_and_only_by_a_whole_file(monkeypatch, to):
    needs(to)
    saved("a", ADAMW)
    out = Path("out")
    out.write_bytes(b"precious")
    line = "convert a out" + option(to)
    names = sorted(os.listdir())
    Path(".out.0123abcd.partial").write_bytes(b"left by a process that was killed")
    assert "it is there already; --force replaces it" in refused(line)
    assert out.read_bytes() == b"precious"
    with monkeypatch.context() as patched:

        def fail(*_):
            raise OSError(28, "No space left on device", "out")

        patched.setattr(os, "fsync", fail)
        assert "No space left on device" in refused(line + " --force")
    assert out.read_bytes() == b"precious"
    assert sorted(os.listdir()) == names
    done(line + " --force")
    assert kind_of(out).name == to
    assert sorted(os.listdir()) == names


def test_a_checkpoint_is_spread_over_files_and_put_together():
    saved("a", ADAMW)
    done("convert a b --max-shard-bytes 100")
    assert len([*Path().glob("b-*")]) > 1
    done("convert b c")
    same_bits("a", "c")
    assert read("c").parameters["scale"].value is not None


@pytest.mark.parametrize("to", TARGETS[1:])
def test_a_schedule_that_becomes_a_number_is_named(to):
    needs(to)
    schedule = CosineDecay(1e-2, 100)
    saved("a", samestep.AdamW(lr=schedule))
    [line] = [s for s in done("convert a b" + option(to)).splitlines() if "was a schedule" in s]
    assert line.startswith("lr of AdamW was a schedule: CosineDecay(")
    assert f"at the last step {schedule(9)!r}; in the new file it is this number" in line
    assert "schedule:" not in done("convert a c")


@pytest.mark.parametrize(
    ("rule", "to", "text"),
    [
        (samestep.Adan(lr=1e-2), "torch", "torch.optim has no class that computes Adan"),
        (samestep.Adan(lr=1e-2), "mlx", "mlx.optimizers has no class that computes Adan"),
        (samestep.Adan(lr=1e-2), "optax", "difference by b2 = 0.92, and optax.adan weights"),
        (samestep.Adam(lr=1e-2, eps_root=1e-3), "torch", "eps_root"),
        (samestep.Lookahead(samestep.SGD(lr=1e-2)), "optax", "no transformation of optax"),
        (
            samestep.ADOPT(power=0.5),
            "optax",
            "does not take power, and computes as with power",
        ),
        (samestep.ADOPT(weight_decay=0.1), "optax", "contrib.adopt does not take weight_decay"),
        (samestep.DAdaptAdam(growth_rate=1.02, like="optax"), "optax", "not take growth_rate"),
        (samestep.DAdaptAdam(beta3=0.5, like="optax"), "optax", "does not take beta3"),
        (samestep.Yogi(), "optax", "does not take initial_m, and computes as"),
        (samestep.AdamW(maximize=True), "optax", "does not take maximize"),
        (samestep.AdamW(decay="absolute"), "optax", "does not take decay"),
    ],
)
def test_what_a_library_does_not_compute_is_refused(rule, to, text):
    needs(to)
    saved("a.safetensors", rule)
    said = refused(f"convert a.safetensors b --to {to}")
    assert text in said
    assert "a.safetensors" in said
    assert os.listdir() == ["a.safetensors"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("convert a b --to keras", "'keras' is not one of"),
        (
            "convert a b --to torch --max-shard-bytes 9",
            "--max-shard-bytes is for --to samestep",
        ),
        ("convert a b --max-shard-bytes 0", "0 is not in the range"),
        ("convert a no/b", "there is no folder"),
    ],
)
def test_usage_mistakes_have_a_code_of_their_own(line, text):
    saved("a", ADAMW)
    assert text in refused(line, code=USAGE)


def test_a_rule_is_not_named_for_a_checkpoint_which_says_it():
    saved("a", ADAMW)
    for line in ("--rule Nope", "--rule SGD", "--to optax --rule AdamW"):
        said = refused(f"convert a b {line}")
        assert f"it is a checkpoint, which says its rule: {ADAMW!r}" in said
    assert os.listdir() == ["a"]


@pytest.mark.parametrize("to", TARGETS[:2])
def test_a_damaged_checkpoint_is_not_converted(to):
    needs(to)
    saved("a.safetensors", ADAMW)
    damage(Path("a.safetensors"))
    said = refused(f"convert a.safetensors b --to {to}")
    assert "the bytes have been changed since they were written" in said
    assert said.count("a.safetensors") == 1
    assert os.listdir() == ["a.safetensors"]


def test_a_framework_that_is_missing_is_named(monkeypatch):
    with zipfile.ZipFile("a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refused("inspect a.pt")
    assert 'needs torch, which is not installed: pip install "samestep[torch]"' in said


# From and to MLX and optax


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_what_is_written_for_mlx_goes_on_there_and_comes_back(name):
    mx = pytest.importorskip("mlx.core")
    optimizers = pytest.importorskip("mlx.optimizers")
    utils = pytest.importorskip("mlx.utils")

    values = {"weight_decay": 0.1} | ({"momentum": 0.9} if name == "SGD" else {})
    rule = getattr(samestep, name)(lr=1e-2, like="mlx", **values)
    shapes = {"a.weight": (4, 3), "a.bias": (4,), "norm.weight": (3,)}
    params, state = saved("a", rule, shapes=shapes)
    done("convert a b.safetensors --to mlx")
    optimizer = getattr(optimizers, name)(learning_rate=1e-2, **values)
    optimizer.state = utils.tree_unflatten([*mx.load("b.safetensors").items()])
    grads, there = (
        utils.tree_unflatten([(path, mx.array(value)) for path, value in tree.items()])
        for tree in (gradients(10, shapes), params)
    )
    new = dict(utils.tree_flatten(optimizer.apply_gradients(grads, there)))
    wanted, _ = rule.update(gradients(10, shapes), params, state)
    for path in params:
        close(numpy.asarray(new[path]), wanted[path], params[path])
    done("convert b.safetensors c")
    same_slots("a", "c")
    assert read("c").step == 10
    said = refused(f"convert b.safetensors d --rule {name}")
    assert f"it is the state of mlx.optimizers.{name}(" in said and "leave --rule out" in said
    assert f"the state of mlx.optimizers.{name}(" in done("inspect b.safetensors")


def test_a_state_of_mlx_must_be_named():
    mx = pytest.importorskip("mlx.core")
    optimizers = pytest.importorskip("mlx.optimizers")
    utils = pytest.importorskip("mlx.utils")

    optimizer = optimizers.AdamW(learning_rate=0.02, weight_decay=0.3, betas=[0.8, 0.95])
    params = {"a": {"weight": mx.ones((4, 3))}, "b": mx.ones(3)}
    optimizer.init(params)
    for step in range(3):
        grads = {"a": {"weight": mx.ones((4, 3)) * step}, "b": mx.ones(3)}
        optimizer.apply_gradients(grads, params)
    mx.save_safetensors("a.safetensors", dict(utils.tree_flatten(optimizer.state)))
    assert "does not say its class" in done("inspect a.safetensors")
    assert "it keeps m, v of a parameter" in refused("convert a.safetensors b")
    full = "AdamW(like='mlx', weight_decay=0.3, betas=(0.8, 0.95))"
    for out, rule, decay in (("b", "AdamW", 0.01), ("c", full, 0.3)):
        done(f"convert a.safetensors {out} --rule", rule)
        own = read(out).parameters["a.weight"]
        assert (own.shape, own.step, own.value) == ((4, 3), 3, None)
        assert own.rule["values"]["weight_decay"] == decay
        assert own.rule["values"]["lr"] == pytest.approx(0.02, rel=1e-7)
        wanted = numpy.asarray(optimizer.state["a"]["weight"]["v"])
        assert numpy.array_equal(own.slots["v"].bits, wanted)
    for wrong in ("AdamW(", "AdamW(0.1)", "__import__('os')", "Adan", "AdamW(lr=open('a'))"):
        assert "--rule" in refused("convert a.safetensors d --rule", wrong)
    said = refused("convert a.safetensors d --rule SGD")
    assert "has m, which mlx.optimizers.SGD does not keep (it keeps v)" in said
    assert not Path("d").exists()


def test_what_mlx_cannot_write_is_refused_by_name():
    pytest.importorskip("mlx.core")
    params = numbers() | {"norm.weight": numpy.ones(3)}
    rule = samestep.AdamW(lr=1e-2, like="mlx")
    _, state = rule.update(params, params, rule.init(params))
    samestep.save("a", rule, params, state)
    said = refused("convert a b --to mlx")
    assert "parameter 'norm.weight' has float64 in slot m and v" in said
    assert os.listdir() == ["a"]


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion", "AdEMAMix"])
def test_what_is_written_for_optax_is_loaded_as_documented(name):
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    numpy_files = pytest.importorskip("safetensors.numpy")
    values = {"momentum": 0.9} if name == "SGD" else {"weight_decay": 0.1}
    rule = getattr(samestep, name)(lr=1e-2, like="optax", **values)
    params, state = saved("a", rule)
    text = done("convert a b --to optax")
    written = next(line for line in text.splitlines() if "the state of optax." in line)
    made = written.partition("the state of ")[2]
    transformation = eval(made, {"optax": optax})
    grads = gradients(10)
    tree, given = (
        jax.tree.map(jax.numpy.asarray, nested(values.items())) for values in (params, grads)
    )
    kept = numpy_files.load_file("b")
    leaves, structure = jax.tree_util.tree_flatten_with_path(transformation.init(tree))
    there = structure.unflatten([kept[jax.tree_util.keystr(path)] for path, _ in leaves])
    assert len(kept) == len(leaves)
    updates, _ = transformation.update(given, there, tree)
    new = optax.apply_updates(tree, updates)
    wanted, _ = rule.update(grads, params, state)
    for path, leaf in (
        ("layers.0.weight", new["layers"]["0"]["weight"]),
        ("norm.weight", new["norm"]["weight"]),
    ):
        close(leaf, wanted[path], params[path])
    assert transformation.__class__.__name__.startswith("GradientTransformation")
    assert f"the state of a transformation of optax, {made}" in words("inspect b")
