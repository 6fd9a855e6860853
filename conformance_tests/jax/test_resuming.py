"""Runs in JAX that are interrupted go on exactly: any tree, sharded, compiled with donated buffers.

A new process takes every run from a file of ``samestep.save``; eight devices are made of one CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest

import samestep
from samestep.conformance.harness.settings import all_rules, typical
from samestep.schedules import CosineDecay
from samestep.wrapper import Wrapper

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
adapter = pytest.importorskip("samestep.jax")
jnp = jax.numpy

HALF, STEPS = 6, 12


class Layer(NamedTuple):
    """A node of a tree whose children have names."""

    weight: Any
    bias: Any


Run = tuple[Any, Any]
"""Parameters and state."""


def tree(seed: int, dtype: Any = None, is_grad: bool = False) -> Any:
    """Dicts, lists, tuples with names; values that change sign and, as gradients, scale."""
    random = numpy.random.default_rng(seed)

    def array(*shape: int) -> Any:
        scale = 10.0 ** random.integers(-3, 2, shape) if is_grad else 1
        return jnp.asarray(random.standard_normal(shape) * scale, dtype or jnp.float32)

    layers = [Layer(array(8, 4), array(8)), Layer(array(16, 8), array(16))]
    return {"layers": layers, "out": {"w": array(8, 16)}, "nothing": None}


def adamw(**values: Any) -> Any:
    return samestep.AdamW(**{"lr": 0.01, "weight_decay": 0.1, **values})


def taken(rule: Any) -> Any:
    """The rule for the parameters that it takes, AdamW for the others."""
    where = samestep.Where(min_ndim=rule.min_ndim)
    return samestep.route((where, rule), adamw()) if rule.min_ndim else rule


def rules() -> dict[str, tuple[Any, Any]]:
    """A rule for every need, a wrapper and a route, with the parameters' dtypes."""
    found: dict[str, Any] = {}
    for cls in all_rules():
        if not issubclass(cls, Wrapper):
            found.setdefault(cls.needs, taken(typical(cls)))
    found["wrapper"] = typical(samestep.Lookahead)
    found["all parameters"] = samestep.Prodigy(weight_decay=0.1)
    found["route"] = samestep.route(
        (samestep.Where(min_ndim=2), samestep.Muon()), samestep.Prodigy(lr=0.5)
    )
    found["scheduled"] = adamw(lr=CosineDecay(0.1, STEPS))
    found["grouped"] = adamw(groups=[(samestep.Where(ndim=1), {"lr": 0.5})])
    found["narrow state"] = adamw(state_dtype={"m": "bfloat16"})
    both = {name: (rule, jnp.float32) for name, rule in found.items()}
    return {**both, "narrow": (adamw(state_dtype="float32"), jnp.bfloat16)}


def begun(name: str, seed: int) -> tuple[Any, Run]:
    rule, dtype = rules()[name]
    optimizer, params = adapter.bind(rule), tree(seed, dtype)
    return optimizer, (params, optimizer.init(params))


def stepper(optimizer: Any) -> Callable[..., Run]:
    """A compiled step that takes the buffers of parameters and state for its own."""

    def step(params: Any, state: Any, grads: Any) -> Run:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled: Any = jax.jit(step, donate_argnums=(0, 1))
    return compiled  # type: ignore[no-any-return]


def train(step: Callable[..., Run], run: Run, steps: Iterable[int]) -> Run:
    for t in steps:
        grads = tree(1000 + t, run[0]["out"]["w"].dtype, is_grad=True)
        like = lambda grad, param: jax.device_put(grad, param.sharding)  # noqa: E731
        run = step(*run, jax.tree.map(like, grads, run[0]))
    return run


def values(run: Run) -> list[numpy.ndarray]:
    """Every array, copied; those of bfloat16 as float32, which holds them."""
    return [
        numpy.array(leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf)
        for leaf in jax.tree.leaves(run)
    ]


def kinds(run: Run) -> list[str]:
    return [f"{leaf.dtype} {leaf.shape}" for leaf in jax.tree.leaves(run)]


def same(one: list[numpy.ndarray], other: list[numpy.ndarray]) -> bool:
    return len(one) == len(other) and all(map(numpy.array_equal, one, other))


def resume(folder: Path) -> None:
    """What the new process does: load, go on, and write down where it ends."""
    for place, name in enumerate(rules()):
        optimizer, (params, _) = begun(name, 1)
        run = samestep.load(folder / f"{place}.safetensors", optimizer, params)
        loaded, found = values(run), kinds(run)
        end = values(train(stepper(optimizer), run, range(HALF, STEPS)))
        numpy.savez(folder / f"{place}.npz", *loaded, *end, kinds=found)


def started(code: str, **settings: str) -> None:
    rules = "from samestep.conformance.harness.settings import load_rules; load_rules()"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{rules}; from pathlib import Path; import {__name__} as own; {code}",
        ],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **settings},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run halfway and at its end, and what another process has made of it."""
    found = tmp_path_factory.mktemp("resuming")
    for place, name in enumerate(rules()):
        optimizer, run = begun(name, 0)
        step = stepper(optimizer)
        run = train(step, run, range(HALF))
        samestep.save(found / f"{place}.safetensors", optimizer, *run)
        half, seen = values(run), kinds(run)
        end = values(train(step, run, range(HALF, STEPS)))
        numpy.savez(found / f"{place}.whole.npz", *half, *end, kinds=seen)
    started(f"own.resume(Path({str(found)!r}))")
    return found


@pytest.mark.parametrize("name", rules())
def test_a_new_process_goes_on_exactly(name: str, folder: Path) -> None:
    """What is loaded is what was saved, and six steps later it is what it would have been."""
    place = [*rules()].index(name)
    whole, resumed = (numpy.load(folder / f"{place}{part}.npz") for part in (".whole", ""))
    assert [*whole] == [*resumed]
    assert [*whole["kinds"]] == [*resumed["kinds"]]
    assert [key for key in whole if not numpy.array_equal(whole[key], resumed[key])] == []
    arrays = [whole[key] for key in whole if key != "kinds"]
    half = len(arrays) // 2
    assert not same(arrays[:half], arrays[half:])


@pytest.mark.parametrize("name", rules())
def test_without_the_state_it_goes_elsewhere(name: str) -> None:
    """With the parameters and the count; or the test above could not fail."""
    optimizer, run = begun(name, 0)
    step = stepper(optimizer)
    params, state = train(step, run, range(HALF))
    copies = jax.tree.map(jnp.array, params)
    lost = (copies, optimizer.init(copies)._replace(step=jnp.array(state.step)))
    ends = [train(step, each, range(HALF, STEPS))[0] for each in ((params, state), lost)]
    assert not same(*map(values, ends))


def test_what_is_loaded_owns_its_buffers_in_a_loop_that_donates_them(tmp_path: Path) -> None:
    """Steps before and after, on what was saved and on what was loaded, disturb nothing."""
    optimizer, run = begun("all parameters", 0)
    step = stepper(optimizer)
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


def test_a_file_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    optimizer, run = begun("scheduled", 0)
    run = train(stepper(optimizer), run, range(2))
    samestep.save(tmp_path / "x.safetensors", optimizer, *run)
    before = values(run)
    other = {**run[0], "out": {"w": run[0]["out"]["w"].T}}
    for wrong, params, words in (
        (adapter.Lion(), run[0], "it is the state of AdamW, not of Lion"),
        (optimizer, other, r"'out.w' has shape \(16, 8\) here and \(8, 16\) in"),
        (optimizer, {"out": run[0]["out"]}, "only in the checkpoint: layers.0.weight"),
    ):
        with pytest.raises(samestep.CheckpointError, match=f"x.safetensors: .*{words}"):
            samestep.load(tmp_path / "x.safetensors", wrong, params)
    assert same(values(run), before)


# Eight devices.


def sharded(folder: Path) -> None:
    """Saved from eight devices and loaded onto them, spread otherwise, and onto one."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("x"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.P())
    for name in ("element", "factored", "all parameters", "route", "narrow"):
        rule, dtype = rules()[name]
        optimizer = adapter.bind(rule)
        step = stepper(optimizer)
        params = jax.device_put(tree(0, dtype), rows)
        run = train(step, (params, optimizer.init(params)), range(HALF))
        path = folder / f"{name}.safetensors"
        samestep.save(path, optimizer, *run)
        half = values(run)
        wheres = {
            place: samestep.load(path, optimizer, jax.device_put(tree(1, dtype), place))
            for place in (rows, everywhere, jax.devices()[0])
        }
        for place, (values_there, state) in wheres.items():
            assert same(values((values_there, state)), half), (name, place)
            wanted = jax.device_put(jnp.zeros(8), place).sharding
            for param in jax.tree.leaves(values_there):
                assert param.sharding.is_equivalent_to(wanted, param.ndim), (name, place, param)
            for slot in state.slots.values():
                for leaf in jax.tree.leaves(slot):
                    full = leaf.shape in {param.shape for param in jax.tree.leaves(values_there)}
                    alike = leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
                    assert alike or not full, (name, place, leaf.sharding)
        end = values(train(step, run, range(HALF, STEPS)))
        assert same(values(train(step, wheres[rows], range(HALF, STEPS))), end), name


def test_arrays_on_several_devices_come_back_to_where_the_parameters_are(tmp_path: Path) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    started(f"own.sharded(Path({str(tmp_path)!r}))", XLA_FLAGS=flags)
