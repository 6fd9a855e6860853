"""The ways in which JAX shards, each with the same parameters and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy
import optax  # type: ignore[import-untyped]
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding

import samestep.jax
from samestep.rule import Rule

from .given import STEPS, Arrays, entered, gradients, parameters

__all__ = ["ENGINES", "alone", "trained"]

NAMES = ("even", "again", "uneven", "wide", "vector")
"""A few, since XLA compiles a step of each."""
P: Any = jax.P
Make = Callable[[Rule, str], tuple[Any, Any]]
ENGINES: dict[str, tuple[tuple[int, ...], Make]] = {}
"""The numbers of processes, and what gives parameters and state at the end, by the name."""
engine = entered(ENGINES)


def spec(value: numpy.ndarray) -> Any:
    """The first axis that the devices divide is divided among them."""
    for axis, size in enumerate(value.shape):
        if size % jax.device_count() == 0:
            return P(*[None] * axis, "x")
    return P()


def mesh(kind: AxisType = AxisType.Auto) -> Any:
    """All devices in a row."""
    return jax.make_mesh((jax.device_count(),), ("x",), axis_types=(kind,))


def placed(values: Arrays, where: Any) -> Any:
    """Divided among the devices."""
    return {
        name: jax.make_array_from_callback(
            value.shape,
            NamedSharding(where, spec(value)),
            partial(numpy.ndarray.__getitem__, value),
        )
        for name, value in values.items()
    }


def stepper(optimizer: Any) -> Callable[..., Any]:
    """A step as people write it."""

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def stepped(optimizer: Any, rule: Rule, dtype: str, put: Any, **options: Any) -> Iterator[Any]:
    """Parameters and state after each step under ``jax.jit``."""
    step = jax.jit(stepper(optimizer), **options)
    params = put(parameters(rule, dtype, NAMES))
    state = jax.jit(optimizer.init)(params)
    for at in range(STEPS):
        params, state = step(params, state, put(gradients(rule, dtype, at, NAMES)))
        yield params, state


@engine("`jax.jit`, sharded arrays", 1, 2)
def automatic(rule: Rule, dtype: str) -> Any:
    *_, last = stepped(samestep.jax.bind(rule), rule, dtype, partial(placed, where=mesh()))
    return last


@engine("`jax.jit`, explicit axes", 1)
def explicit(rule: Rule, dtype: str) -> Any:
    own = mesh(AxisType.Explicit)
    with jax.set_mesh(own):
        *_, last = stepped(samestep.jax.bind(rule), rule, dtype, partial(placed, where=own))
    return last


def in_shard_map(rule: Rule, dtype: str, **options: Any) -> Any:
    """All steps under ``jax.shard_map``, which shows the optimizer the pieces."""
    optimizer, own = samestep.jax.bind(rule, **options), mesh()
    values = parameters(rule, dtype, NAMES)
    put = partial(placed, where=own)
    specs = {name: spec(value) for name, value in values.items()}
    told = samestep.jax.bind(rule, axis_name=specs)  # the specs of the state follow from these
    kept = told.specs(values)
    mapped = partial(jax.shard_map, mesh=own)
    params = put(values)
    state = jax.jit(mapped(optimizer.init, in_specs=(specs,), out_specs=kept))(params)
    step = jax.jit(
        mapped(stepper(optimizer), in_specs=(specs, kept, specs), out_specs=(specs, kept))
    )
    for at in range(STEPS):
        params, state = step(params, state, put(gradients(rule, dtype, at, NAMES)))
    return params, state


@engine("`jax.shard_map`", 1)
def mapped(rule: Rule, dtype: str) -> Any:
    return in_shard_map(rule, dtype)


@engine("`jax.shard_map`, `axis_name=` the axis", 1)
def mapped_over_an_axis(rule: Rule, dtype: str) -> Any:
    return in_shard_map(rule, dtype, axis_name="x")


@engine("`jax.shard_map`, `axis_name=` the specs", 1, 2)
def mapped_with_specs(rule: Rule, dtype: str) -> Any:
    values = parameters(rule, dtype, NAMES)
    return in_shard_map(rule, dtype, axis_name={name: spec(v) for name, v in values.items()})


def alone(rank: int, rule: Rule, dtype: str, execution: Any) -> list[Arrays]:
    """What one device finds after each step."""
    put = partial(jax.tree.map, partial(jax.device_put, device=jax.local_devices()[0]))
    return [
        read(*each)
        for each in stepped(samestep.jax.bind(rule, execution=execution), rule, dtype, put)
    ]


def trained(rank: int, name: str, rule: Rule, dtype: str) -> Arrays | str:
    """What a rank finds, or the words with which it has refused."""
    try:
        return read(*ENGINES[name][1](rule, dtype))
    except (ValueError, TypeError) as refusal:
        if type(rule).__name__ not in str(refusal):
            raise
        return str(refusal)


def read(params: Any, state: Any) -> Arrays:
    """Parameters and state, whole."""
    leaves = jax.tree.leaves_with_path((params, state))
    return {jax.tree_util.keystr(path): whole(leaf) for path, leaf in leaves}


def whole(leaf: Any) -> numpy.ndarray:
    """All of it, as NumPy has it."""
    leaf = jnp.asarray(leaf)
    if not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return numpy.array(leaf)
