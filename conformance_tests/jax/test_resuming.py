"""Runs in JAX that are interrupted go on exactly: any tree, compiled with donated buffers.

That every rule does is tested for every backend in ``checkpoint/test_resuming.py``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.interrupted import asked_for, in_a_new_process
from samestep.conformance.harness.jax_trees import stepper, types
from samestep.schedules import CosineDecay

HALF, STEPS = 6, 12
ROUTED = samestep.route(
    (samestep.Where(min_ndim=2), samestep.Muon(layout="oi")), samestep.Prodigy(lr=0.5)
)
RULES = {
    "route": (ROUTED, jnp.float32),
    "scheduled": (samestep.AdamW(lr=CosineDecay(0.1, STEPS), weight_decay=0.1), jnp.float32),
    "narrow": (samestep.AdamW(lr=0.01, weight_decay=0.1, state_dtype="float32"), jnp.bfloat16),
}


def tree(seed, dtype=None):
    """Dicts, lists and a tuple; values that change sign and scale."""
    random = numpy.random.default_rng(seed)

    def array(*shape):
        scale = 10.0 ** random.integers(-3, 2, shape)
        return jnp.asarray(random.standard_normal(shape) * scale, dtype or jnp.float32)

    return {"layers": [(array(8, 4), array(8)), None], "out": {"w": array(8, 16)}, "none": None}


def begun(name, seed):
    """An optimizer, a compiled step that takes its buffers over, parameters and state."""
    rule, dtype = RULES[name]
    optimizer, params = adapter.bind(rule), tree(seed, dtype)
    step = jax.jit(stepper(optimizer), donate_argnums=(0, 1))
    return optimizer, step, (params, optimizer.init(params))


def train(step, run, steps):
    for t in steps:
        run = step(*run, tree(1000 + t, run[0]["out"]["w"].dtype))
    return run


def values(run):
    """Every array, copied; those of bfloat16 as float32, which holds them."""
    return [
        numpy.array(leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf)
        for leaf in jax.tree.leaves(run)
    ]


def same(one, other):
    return len(one) == len(other) and all(map(numpy.array_equal, one, other))


def resume(folder):
    """What the new process does: load, go on, and write down where each run ends."""
    for path in folder.glob("*.safetensors"):
        optimizer, step, (params, _) = begun(path.stem, 1)
        run = samestep.load(path, optimizer, params)
        loaded, found = values(run), str(types(run))
        end = values(train(step, run, range(HALF, STEPS)))
        numpy.savez(path.with_suffix(".npz"), *loaded, *end, types=found)


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """Every run halfway, and what another process has made of it."""
    found = tmp_path_factory.mktemp("resuming")
    for name in asked_for(request):
        optimizer, step, run = begun(name, 0)
        samestep.save(found / f"{name}.safetensors", optimizer, *train(step, run, range(HALF)))
    in_a_new_process(__name__, f"resume(Path({str(found)!r}))", JAX_PLATFORMS="cpu")
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_new_process_goes_on_exactly(name, folder):
    """What is loaded is what was saved, six steps later it is what it would have been."""
    optimizer, step, run = begun(name, 0)
    run = train(step, run, range(HALF))
    half, expected = values(run), str(types(run))
    copies = jax.tree.map(jnp.array, run[0])
    lost = (copies, optimizer.init(copies)._replace(step=jnp.array(run[1].step)))
    end = values(train(step, run, range(HALF, STEPS)))
    resumed = numpy.load(folder / f"{name}.npz")
    found = [resumed[key] for key in resumed if key != "types"]
    assert resumed["types"] == expected and same(found, [*half, *end]) and not same(half, end)
    elsewhere = train(step, lost, range(HALF, STEPS))[0]  # without the state
    assert not same(values(elsewhere), end[: len(jax.tree.leaves(copies))])


def test_what_is_loaded_owns_its_buffers_in_a_loop_that_donates_them(tmp_path):
    """Steps before and after, on what was saved and on what was loaded, disturb nothing."""
    optimizer, step, run = begun("route", 0)
    run = train(step, run, range(HALF))
    samestep.save(tmp_path / "x.safetensors", optimizer, *run)
    half = values(run)
    loaded = samestep.load(tmp_path / "x.safetensors", optimizer, run[0])
    assert same(values(loaded), half)
    end = values(train(step, run, range(HALF, STEPS)))
    assert same(values(loaded), half)
    assert same(values(train(step, loaded, range(HALF, STEPS))), end)
    again = samestep.load(tmp_path / "x.safetensors", optimizer, tree(1))
    assert same(values(again), half)


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    optimizer, step, run = begun("scheduled", 0)
    run = train(step, run, range(2))
    samestep.save(tmp_path / "x.safetensors", optimizer, *run)
    before = values(run)
    other = {**run[0], "out": {"w": run[0]["out"]["w"].T}}
    for wrong, params, words in (
        (adapter.Lion(), run[0], "it is the state of AdamW, not of Lion"),
        (optimizer, other, r"'out.w' has shape \(16, 8\) here and \(8, 16\) in"),
        (optimizer, {"out": run[0]["out"]}, "only in the checkpoint: layers.0.0"),
    ):
        with pytest.raises(samestep.CheckpointError, match=f"x.safetensors: .*{words}"):
            samestep.load(tmp_path / "x.safetensors", wrong, params)
    assert same(values(run), before)
