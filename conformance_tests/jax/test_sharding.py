"""Parameters and states spread over eight devices, which a process of its own is started for."""

from __future__ import annotations

import math
import os
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep import Where
from samestep.conformance.harness import collectives
from samestep.conformance.harness.interrupted import in_a_new_process
from samestep.conformance.harness.jax_pieces import few_agree, refused
from samestep.conformance.harness.jax_trees import KINDS, close, same, stepper
from samestep.conformance.harness.settings import all_rules, typical

SHAPES = {"layer": {"w": (16, 8), "b": (8,)}, "out": (8, 16)}


def large(rule, seed, dtype=None):
    random = np.random.default_rng(seed)
    values = jax.tree.map(
        lambda shape: jnp.asarray(random.standard_normal(shape), dtype),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    return values if not rule.min_ndim else {"out": values["out"]}


def mesh(kind):
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


def sharded_by_the_compiler(folder, rules):
    spread = jax.sharding.NamedSharding(mesh(jax.sharding.AxisType.Auto), jax.P("x"))
    for rule in rules:
        optimizer, plain = adapter.bind(rule), large(rule, 0)
        params = jax.device_put(plain, spread)
        state, own = optimizer.init(params), optimizer.init(plain)
        step = jax.jit(stepper(optimizer))
        for t in range(2):
            for slot in state.slots.values():
                kept = jax.tree.leaves(slot, is_leaf=lambda node: node is None)
                for leaf, param in zip(kept, jax.tree.leaves(params), strict=False):
                    if leaf is not None and leaf.shape == param.shape:
                        assert leaf.sharding.is_equivalent_to(spread, leaf.ndim), (rule, leaf)
            for leaf in jax.tree.leaves(params):
                shard = leaf.addressable_shards[3].data
                assert shard.shape == (leaf.shape[0] // 8, *leaf.shape[1:]), rule
            grads = large(rule, 1 + t)
            plain, own = step(plain, own, grads)
            params, state = step(params, state, jax.device_put(grads, spread))
            close((params, state), (plain, own))
        updates = jax.jit(optimizer.update)(params, state, params)[0]
        assert all(u.sharding.is_equivalent_to(spread, u.ndim) for u in jax.tree.leaves(updates))


def sharded_in_types(folder, rules):
    """What optax asks of its own in ``sharding_test``: types are the same, step by step."""
    explicit = mesh(jax.sharding.AxisType.Explicit)
    with jax.set_mesh(explicit):
        sharding = jax.sharding.NamedSharding(explicit, jax.P(None, "x"))
        for rule in rules:
            params = {"w": jnp.ones((2, 8, 4), jnp.float16, out_sharding=sharding)}
            optimizer = adapter.bind(rule)
            state, compiled = optimizer.init(params), jax.jit(optimizer.init)(params)
            steps = [
                f(params, state, params) for f in (optimizer.update, jax.jit(optimizer.update))
            ]
            first = jax.tree.map(jax.typeof, state)
            assert jax.tree.map(jax.typeof, compiled) == first, rule
            for updates, after in steps:
                assert jax.tree.map(jax.typeof, after) == first, rule
                assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, params), rule


def saved_and_loaded(folder, _):
    """Saved from eight devices and loaded onto them, spread otherwise, and onto one."""
    auto = mesh(jax.sharding.AxisType.Auto)
    rows, everywhere = (jax.sharding.NamedSharding(auto, jax.P(*axes)) for axes in ("x", ""))
    narrow = samestep.AdamW(lr=0.01, weight_decay=0.1, state_dtype="float32")
    rules = {kind: (KINDS[kind], jnp.float32) for kind in ("factored", "tree", "route")}
    for name, (rule, dtype) in {**rules, "narrow": (narrow, jnp.bfloat16)}.items():
        optimizer = adapter.bind(rule)
        step = jax.jit(stepper(optimizer), donate_argnums=(0, 1))

        def trained(run, steps, rule=rule, dtype=dtype, step=step):
            for t in steps:
                run = step(*run, jax.device_put(large(rule, 100 + t, dtype), rows))
            return run

        params = jax.device_put(large(rule, 0, dtype), rows)
        run = trained((params, optimizer.init(params)), range(6))
        path = folder / f"{name}.safetensors"
        samestep.save(path, optimizer, *run)
        half = jax.tree.map(np.array, run)
        wheres = {
            place: samestep.load(path, optimizer, jax.device_put(large(rule, 1, dtype), place))
            for place in (rows, everywhere, jax.devices()[0])
        }
        for place, (there, state) in wheres.items():
            same(jax.tree.map(np.array, (there, state)), half)
            wanted = jax.device_put(jnp.zeros(8), place).sharding
            for param in jax.tree.leaves(there):
                assert param.sharding.is_equivalent_to(wanted, param.ndim), (name, place, param)
            for leaf in jax.tree.leaves(state.slots):
                full = leaf.shape in {param.shape for param in jax.tree.leaves(there)}
                alike = leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
                assert alike or not full, (name, place, leaf.sharding)
        end = jax.tree.map(np.array, trained(run, range(6, 12)))
        same(trained(wheres[rows], range(6, 12)), end)


def committed_to_two_devices(folder, rules):
    """Eager: sums meet on one of them, and the numbers are those of a single device."""
    thorough = len(rules) > len(FEW)
    alone, several = places_of()
    auto = jax.sharding.NamedSharding(mesh(jax.sharding.AxisType.Auto), jax.P("x"))
    summing = [typical(rule) for rule in all_rules() if typical(rule).phases]
    assert len(summing) >= 4
    for rule in summing if thorough else [samestep.ClipGlobalNorm(samestep.SGD(lr=0.1))]:
        ends = []
        for places in (alone, several, (several[1], auto))[: 3 if thorough else 2]:
            optimizer = adapter.bind(rule)
            params = committed(large(rule, 0), places)
            state = optimizer.init(params)
            own = samestep.State(0, state.slots, state.shared)
            functional = params
            for t in range(2):
                grads = committed(large(rule, 1 + t), places)
                updates, state = optimizer.update(grads, state, params)
                params = optax.apply_updates(params, updates)
                functional, own = rule.update(grads, functional, own)
            for new, old in zip(*map(jax.tree.leaves, (params, grads)), strict=True):
                assert new.sharding == old.sharding, rule
            close((params, state.shared), (functional, own.shared))
            ends.append(jax.tree.map(np.array, (params, state.slots, state.shared)))
        same(ends[0], ends[1])
        for spread in ends[2:]:
            close(ends[0], spread)
    ends = []
    for place in several:
        rule = samestep.AdamW(lr=jax.device_put(jnp.asarray(0.1), place))
        for execution in adapter.EXECUTIONS if thorough else ("auto",):
            optimizer = adapter.bind(rule, execution=execution)
            params = committed(large(rule, 0), alone)
            updates, _ = optimizer.update(params, optimizer.init(params), params)
            assert jax.tree.leaves(updates)[0].devices() == {alone[0]}
            ends.append(jax.tree.map(np.array, updates))
    for end in ends[1:]:
        close(ends[0], end)
    norms = [samestep.clip_grads(committed(large(rule, 5), two), 0.1) for two in places_of()]
    same(*(jax.tree.map(np.array, clipped) for clipped in norms))


EQUAL, TALL = (16, 8), (8, 24)
"""Shapes of matrices, of which there are eight and three."""


def exchanges(folder, rules):
    """Element rules exchange nothing, sums go together, matrices once in and once out by shape."""
    thorough = len(rules) > len(FEW)
    own = samestep.Muon(lr=0.1, layout="io")
    wanted = {
        samestep.AdamW(lr=0.1): {},
        samestep.ClipGlobalNorm(samestep.LAMB(lr=0.1)): {"all_reduce": 2},
        own: {"all_to_all": 4},
    }
    auto = mesh(jax.sharding.AxisType.Auto)
    spread = jax.sharding.NamedSharding(auto, jax.P("x"))
    params = {f"l{at}": {"equal": jnp.ones(EQUAL)} for at in range(8)}
    params |= {f"t{at}": {"tall": jnp.ones(TALL)} for at in range(3)}
    params = jax.device_put(params, spread)
    for rule, names in wanted.items():
        optimizer = adapter.bind(rule)
        state = optimizer.init(params)
        for steps in (adapter.bind(rule), adapter.bind(rule, execution="compiled"))[: 1 + thorough]:
            program = jax.jit(stepper(steps)).lower(params, state, params).compile()
            found = collectives.compiled(program)
            assert collectives.names(found) == names, (rule, found)
    pieces, size = 8, params["l0"]["equal"].dtype.itemsize
    stacks = (8 * math.prod(EQUAL), 8 * math.prod(TALL))  # three are filled up to eight
    most = sum(2 * numbers * size * (pieces - 1) / pieces**2 for numbers in stacks)
    assert collectives.sent(found) == most


def matrices(folder, rules):
    """The bits of one device, for layers and experts too, on meshes of one and two axes."""
    thorough = len(rules) > len(FEW)
    muon = samestep.Muon(lr=0.02, weight_decay=0.1, layout="io")
    layers = samestep.Muon(lr=0.02, weight_decay=0.1, layout="io", batch_axes=0)
    rule = samestep.route((Where(path="layers"), layers), muon)
    rule = samestep.Cautious(rule) if thorough else rule
    auto = jax.sharding.AxisType.Auto
    two = jax.make_mesh((4, 2), ("x", "y"), axis_types=(auto, auto))
    wheres = [(mesh(auto), "x", None), (two, "x", "y"), (two, None, "y"), (two, ("x", "y"), None)]

    def arrays(seed, sharding=None):
        random = np.random.default_rng(seed)
        shapes = {"one": (16, 8), "other": (16, 8), "layers": (8, 16, 8)}
        made = {n: jnp.asarray(random.standard_normal(shape)) for n, shape in shapes.items()}
        return made if sharding is None else jax.device_put(made, sharding)

    for within, *axes in wheres if thorough else wheres[1:2]:
        spread = {
            name: jax.sharding.NamedSharding(within, jax.P(*([None] * (name == "layers")), *axes))
            for name in arrays(0)
        }
        for execution in ("auto", "compiled", "reference") if thorough else ("auto",):
            for wrap in (jax.jit, lambda step: step) if thorough else (jax.jit,):
                optimizer = adapter.bind(rule, execution=execution)
                step, ends = wrap(stepper(optimizer)), []
                for sharding in (None, spread):
                    params = arrays(0, sharding)
                    state = optimizer.init(params)
                    for t in range(2):
                        params, state = step(params, state, arrays(1 + t, sharding))
                        jax.block_until_ready(params)
                    ends.append(jax.tree.map(np.array, (params, state)))
                for name, param in params.items():
                    assert param.sharding.is_equivalent_to(spread[name], param.ndim), name
                close(*ends, 1e-14)


def committed(tree, places):
    """The leaves in turn on two devices."""
    leaves, structure = jax.tree.flatten(tree)
    put = [jax.device_put(leaf, places[at % 2]) for at, leaf in enumerate(leaves)]
    return structure.unflatten(put)


def places_of():
    """One device twice, and two devices."""
    first, other = jax.devices()[3], jax.devices()[6]
    return (first, first), (first, other)


WHAT = {
    each.__name__: each
    for each in (
        sharded_by_the_compiler,
        sharded_in_types,
        saved_and_loaded,
        committed_to_two_devices,
        exchanges,
        matrices,
        few_agree,
        refused,
    )
}


FEW = ("factored", "matrix", "route")
"""The kinds that make sharded takes; the branches of the route are an element rule and a sum."""


def all_on_eight_devices(folder: Path, kinds: tuple[str, ...]) -> None:
    """What the process does: everything, and a file of what has failed."""
    for name, function in WHAT.items():
        try:
            function(folder, [KINDS[kind] for kind in kinds])
            said = ""
        except Exception:
            said = traceback.format_exc()
        (folder / f"{name}.txt").write_text(said, encoding="utf-8")


@pytest.fixture(scope="module")
def said(request, tmp_path_factory):
    """What has failed on eight devices, of which one processor is made; little is optimized."""
    folder = tmp_path_factory.mktemp("sharding")
    in_a_new_process(
        __name__,
        f"all_on_eight_devices(Path({str(folder)!r}), {request.param})",
        XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
        JAX_PLATFORMS="cpu",
        JAX_ENABLE_X64="1",
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        JAX_CPU_ENABLE_ASYNC_DISPATCH="0",  # two programs may wait for each other's devices
    )
    return {name: (folder / f"{name}.txt").read_text(encoding="utf-8") for name in WHAT}


@pytest.mark.parametrize("name", WHAT)
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(FEW, marks=pytest.mark.sharded),
        pytest.param((*KINDS,), marks=pytest.mark.thorough),
    ],
    ids=["few", "all"],
    indirect=True,
)
def test_steps_and_files_keep_the_shardings_of_parameters(name, said):
    assert said[name] == ""
