"""Checkpoints of arrays that several processes of JAX have parts of."""

from __future__ import annotations

from functools import cache

import numpy
import pytest

import samestep
import samestep.jax as adapter
from samestep.checkpoints import read
from samestep.checkpoints.contents import arrays as arrays_of
from samestep.checkpoints.contents import metadata
from samestep.conformance.harness.ranks import started

pytestmark = pytest.mark.sharded

SHAPES = {"w": (8, 6), "deep": (4, 8, 3), "b": (8,), "odd": (3, 5)}
HALF, STEPS = 3, 6
RULES = [samestep.AdamW(), samestep.NAdam(), samestep.Lookahead(samestep.AdamW(), sync_period=2)]
EACH = [RULES[0], *(pytest.param(rule, marks=pytest.mark.thorough) for rule in RULES[1:])]

loopback = started("jax", 2, JAX_NUM_CPU_DEVICES="2", JAX_ENABLE_X64="1")


def arrays(seed):
    random = numpy.random.default_rng(seed)
    return {path: random.standard_normal(shape).astype("float32") for path, shape in SHAPES.items()}


def spread(values, turned=False):
    """Arrays on a mesh of two by two, of which each process has two devices."""
    import jax  # noqa: PLC0415  (in the ranks only)

    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    specs = {"w": ("x", "y"), "deep": (None, ("x", "y")), "b": ("y",), "odd": ()}
    if turned:
        specs = {"w": ("y",), "deep": ("x", None, None), "b": (("x", "y"),), "odd": ()}

    def one(path, value):
        place = jax.NamedSharding(mesh, jax.P(*specs[path]))
        return jax.make_array_from_callback(value.shape, place, lambda index: value[index])

    return {path: one(path, value) for path, value in values.items()}


@cache
def stepper(rule):
    import jax  # noqa: PLC0415
    import optax  # noqa: PLC0415

    optimizer = adapter.bind(rule)

    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(optimizer.init), step


def trained(rule, params, state, steps, place=lambda values: values):
    init, step = stepper(rule)
    state = init(params) if state is None else state
    for at in steps:
        params, state = step(params, state, place(arrays(100 + at)))
    return params, state


def contents(path):
    """Everything in a file; the order of slots is that of a dict, which jit sorts."""
    found = arrays_of(read(path))
    bits = {key: (own.dtype, own.shape, own.bits.tobytes()) for key, own in found.items()}
    return bits, metadata(read(path))


def saved_and_loaded(rank, rule, folder):
    """Saves a run, and goes on from the file on another mesh and from the file of one device."""
    import jax  # noqa: PLC0415

    optimizer = adapter.bind(rule)
    params, state = trained(rule, spread(arrays(0)), None, range(HALF), spread)
    samestep.save(folder / "sharded", optimizer, params, state)
    in_memory = samestep.checkpoint(optimizer, params, state)
    end = trained(rule, params, state, range(HALF, STEPS), spread)
    samestep.save(folder / "end", optimizer, *end)
    samestep.save(folder / "memory", in_memory)
    for name, turned in (("sharded", False), ("memory", False), ("one", False), ("one", True)):
        other = spread(arrays(1), turned)
        if name == "memory":
            params, state = samestep.restore(optimizer, in_memory, other)
        else:
            params, state = samestep.load(folder / name, optimizer, other)
        samestep.save(folder / f"{name}.again", optimizer, params, state)
        for path, param in params.items():
            assert param.sharding == other[path].sharding
        params, state = trained(rule, params, state, range(HALF, STEPS), spread)
        if not turned:
            samestep.save(folder / f"{name}.end", optimizer, params, state)
    return jax.process_count()


@pytest.mark.parametrize("rule", EACH, ids=str)
def test_processes_write_the_file_of_one_and_read_it(loopback, rule, tmp_path):
    optimizer = adapter.bind(rule)
    params, state = trained(rule, arrays(0), None, range(HALF))
    samestep.save(tmp_path / "one", optimizer, params, state)
    assert loopback.run(saved_and_loaded, rule, tmp_path) == [2, 2]
    for name in ("sharded", "memory"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "one").read_bytes()
    for name in ("sharded", "memory", "one"):
        assert contents(tmp_path / f"{name}.again") == contents(tmp_path / "one")
        assert contents(tmp_path / f"{name}.end") == contents(tmp_path / "end")
    # XLA rounds a sharded step in another way now and then
    samestep.save(tmp_path / "alone", optimizer, *trained(rule, params, state, range(HALF, STEPS)))
    alone, end = read(tmp_path / "alone"), read(tmp_path / "end")
    for path, own in alone.parameters.items():
        numpy.testing.assert_allclose(
            end.parameters[path].value.values(), own.value.values(), rtol=1e-6, atol=1e-7
        )


def failing(rank, folder):
    """What each process is told of a failure of the second."""
    optimizer, said = adapter.bind(RULES[0]), []
    params, state = trained(RULES[0], spread(arrays(0)), None, range(1), spread)
    samestep.save(folder / "good", optimizer, params, state)
    other = adapter.bind(RULES[0].replace(lr=0.5 if rank else 0.1))
    for act in (
        lambda: samestep.save(folder / "good", other, params, state),
        lambda: samestep.save(folder / f"file{rank}", optimizer, params, state),
        lambda: samestep.load(folder / "good", adapter.bind(RULES[rank]), params),
        lambda: samestep.load(folder / "gone", optimizer, params),
    ):
        try:
            act()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    samestep.load(folder / "good", optimizer, params)
    return said


def test_a_failure_of_one_process_is_that_of_all(loopback, tmp_path):
    first, second = loopback.run(failing, tmp_path)
    words = (
        "lr of rule of parameter",
        "path must be the same",
        "process 1 of 2 has failed",
        "gone",
    )
    assert len(first) == len(second) == len(words)
    assert all(word in said for word, said in zip(words, first, strict=True)), first
    assert "is not that of NAdam" in second[2]
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
