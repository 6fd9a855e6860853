"""The ways in which MLX is used on several devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy
from mlx.nn.utils import average_gradients
from mlx.utils import tree_flatten

import samestep.mlx
from samestep.rule import Rule

from .given import SHAPES, STEPS, Arrays, entered, gradients, parameters

__all__ = ["ENGINES", "alone", "trained"]

NAMES = tuple(name for name, shape in SHAPES.items() if shape[0] > 1)
"""Those of which two ranks have rows."""
Make = Callable[[Rule, str], Arrays]
ENGINES: dict[str, tuple[tuple[int, ...], Make]] = {}
"""The numbers of ranks, and what gives the parameters at the end, by the name."""
engine = entered(ENGINES)


def stepped(optimizer: Any, rule: Rule, dtype: str, put: Any, average: Any) -> Iterator[Any]:
    """Parameters and state after each step, by name."""
    params = put(parameters(rule, dtype, NAMES))
    for at in range(STEPS):
        grads = average(put(gradients(rule, dtype, at, NAMES)))
        params = optimizer.apply_gradients(grads, params)
        mx.eval(params, optimizer.state)
        yield params | slots_of(optimizer)


def slots_of(optimizer: Any) -> dict[str, mx.array]:
    """The state, by the names of slots and parameters."""
    shared = optimizer.state.get("shared_state", {})
    found: dict[str, mx.array] = dict(tree_flatten(shared))
    for name in NAMES:
        slots: Any = tree_flatten(optimizer.state.get(name, {}))
        found |= {f"{slot} of {name}": value for slot, value in slots}
    return found


def everything(values: Arrays) -> dict[str, mx.array]:
    """On this rank."""
    return {name: mx.array(value) for name, value in values.items()}


def rows(values: Arrays) -> dict[str, mx.array]:
    """Of the first axis what belongs to this rank; the first ranks have one more."""
    group = mx.distributed.init()
    return {
        name: mx.array(numpy.array_split(value, group.size())[group.rank()])
        for name, value in values.items()
    }


def joined(params: dict[str, mx.array], wholes: dict[str, mx.array]) -> Arrays:
    """The rows of all ranks, in their order, of what is no whole."""
    group = mx.distributed.init()
    found = {}
    for name, param in params.items():
        if param.shape == wholes[name].shape:
            found[name] = numpy.array(param)
            continue
        counts = numpy.array(mx.distributed.all_gather(mx.array([param.shape[0]])))
        most = int(counts.max())
        padded = mx.pad(param, [(0, most - param.shape[0]), *[(0, 0)] * (param.ndim - 1)])
        every = numpy.array(mx.distributed.all_gather(padded)).reshape(group.size(), *padded.shape)
        found[name] = numpy.concatenate([p[:n] for p, n in zip(every, counts, strict=True)])
    return found


def read(params: dict[str, mx.array]) -> Arrays:
    """As NumPy has them."""
    return {name: numpy.array(param) for name, param in params.items()}


@engine("MLX, `average_gradients`", 2)
def averaged(rule: Rule, dtype: str) -> Arrays:
    optimizer = samestep.mlx.bind(rule)
    *_, last = stepped(optimizer, rule, dtype, everything, average_gradients)
    return read(last)


def divided(rule: Rule, dtype: str, **options: Any) -> Arrays:
    """Each rank has some rows of every parameter."""
    optimizer, alone = samestep.mlx.bind(rule, **options), samestep.mlx.bind(rule)
    *_, last = stepped(optimizer, rule, dtype, rows, lambda grads: grads)
    params = everything(parameters(rule, dtype, NAMES))
    alone.init(params)
    return joined(last, params | slots_of(alone))


@engine("MLX, rows of each parameter, `group=`", 2)
def divided_unsaid(rule: Rule, dtype: str) -> Arrays:
    return divided(rule, dtype, group=mx.distributed.init())


@engine("MLX, rows of each parameter, `group=`, `shards=`", 2)
def divided_by_rows(rule: Rule, dtype: str) -> Arrays:
    return divided(rule, dtype, group=mx.distributed.init(), shards=0)


def alone(rank: int, rule: Rule, dtype: str, execution: Any) -> list[Arrays]:
    """What one rank finds with everything after each step."""
    steps = stepped(
        samestep.mlx.bind(rule, execution=execution), rule, dtype, everything, lambda grads: grads
    )
    return [read(params) for params in steps]


def trained(rank: int, name: str, rule: Rule, dtype: str) -> Arrays | str:
    """What a rank finds, or the words with which it has refused."""
    try:
        return ENGINES[name][1](rule, dtype)
    except (ValueError, TypeError) as refusal:
        if type(rule).__name__ not in str(refusal):
            raise
        return str(refusal)
