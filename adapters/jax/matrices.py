"""Whole matrices of sharded parameters: equal ones are stacked, and the stack is spread.

A rule is carried out up to the function that needs a whole matrix (``samestep.vocabulary.whole``).
The matrices of one shape of all parameters are then stacked, each device gets some of them whole,
and the rules go on with the results. Newton-Schulz on a sharded matrix would exchange the matrix in
every iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from samestep import step as stepping
from samestep.products import multiplies
from samestep.rule import Rule

from .namespace import xp
from .trees import leaves

__all__ = ["deferring", "finished", "is_spread"]

Array = Any
_spec: Any = jax.P
_constrained: Any = jax.lax.with_sharding_constraint
Mesh = Any
"""An abstract mesh, which is known while JAX traces."""


def is_spread(rule: Rule, param: Array) -> bool:
    """Whether the matrices of a parameter of this rule are divided among devices."""
    return multiplies(rule) and bool(_axes(_mesh_of(param)))


def _mesh_of(array: Array) -> Mesh:
    return jax.typeof(array).sharding.mesh


def _axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes over which XLA may spread an array, the last of the mesh first.

    An array that is sharded over two axes along one of its own then goes from one to the other by
    one exchange for each: the pieces of the last axis lie next to each other.
    """
    kinds = zip(mesh.axis_names, mesh.axis_types, mesh.axis_sizes, strict=True)
    manual = jax.sharding.AxisType.Manual
    return tuple(name for name, kind, size in kinds if kind != manual and size > 1)[::-1]


class _Call(NamedTuple):
    """A function of a whole matrix, and its arguments after that."""

    function: Callable[..., Array]
    args: tuple[Any, ...]
    more: tuple[tuple[str, Any], ...]

    def of(self, matrix: Array) -> Array:
        """The result for a matrix."""
        return self.function(xp, matrix, *self.args, **dict(self.more))


class _Deferred(NamedTuple):
    """The step of one parameter, which is not carried out yet."""

    function: Callable[..., Any]
    rule: Rule
    grad: Array
    param: Array
    slots: dict[str, Any]
    common: dict[str, Any]
    s: Any

    def carried_out(self, names: Any, known: Sequence[Array]) -> Any:
        """The new parameter and slots.

        Args:
            names: a namespace, which gets the function ``whole``.
            known: the results of the first calls of ``whole``.

        Raises:
            _AskedError: another result is needed.
        """
        calls = iter(known)

        def met(
            function: Callable[..., Array], _: Any, matrix: Array, *args: Any, **more: Any
        ) -> Array:
            call = _Call(function, args, tuple(more.items()))

            def outside(matrices: Array) -> Array:
                found = next(calls, None)
                if found is None:
                    raise _AskedError(matrices, call)
                return found

            if not (_is_known(call) and _axes(_mesh_of(self.param))):
                return call.of(matrix)
            if not getattr(self.function, "stacks", False):
                return outside(matrix)
            mapped: Any = jax.custom_batching.custom_vmap(call.of)
            mapped.def_vmap(lambda size, batched, x: (outside(x), True))
            return mapped(matrix)

        names.whole = met
        return self.function(names, *self[1:])


class _AskedError(Exception):
    """The matrix, or a stack of them, and the function of which a step needs the result."""

    def __init__(self, matrices: Array, call: _Call) -> None:
        super().__init__()
        self.matrices, self.call = matrices, call


def deferring(kernel: Callable[..., Any], function: Any, xp: Any, rule: Rule) -> Any:
    """A kernel that ``kernel`` makes, or one whose results ``finished`` computes."""
    if getattr(function, "of", function) is stepping.change and multiplies(rule):
        return partial(_Deferred, function, rule)
    return kernel(function, xp, rule)


def finished(results: Iterable[Any]) -> list[Any]:
    """The results of a step, those that are deferred too."""
    found = [*results]
    places = [place for place, result in enumerate(found) if isinstance(result, _Deferred)]
    deferred = [found[place] for place in places]
    explicit = jax.sharding.AxisType.Explicit
    if any(explicit in _mesh_of(one.param).axis_types for one in deferred):
        made = _in_types(deferred)
    else:
        made = _carried_out(deferred)
    for place, result in zip(places, made, strict=True):
        found[place] = result
    return found


def _in_types(deferred: list[_Deferred]) -> list[Any]:
    """The results where shardings are in the types of arrays: XLA chooses those in between."""
    flat, structure = leaves([tuple(one[2:]) for one in deferred])
    places = [place for place, leaf in enumerate(flat) if isinstance(leaf, jax.Array)]

    def free(arrays: Sequence[Array]) -> list[Any]:
        for place, array in zip(places, arrays, strict=True):
            flat[place] = array
        return _carried_out(
            [
                _Deferred(one.function, one.rule, *own)
                for one, own in zip(deferred, structure.unflatten(flat), strict=True)
            ]
        )

    like = [(one.param, one.slots) for one in deferred]
    same = jax.tree.map(lambda array: jax.typeof(array).sharding, like)
    made: Any = jax.sharding.auto_axes(free, out_sharding=same)
    return list(made([flat[place] for place in places]))


def _carried_out(deferred: list[_Deferred]) -> list[Any]:
    """The results; each round has one ``whole`` of every parameter."""
    names, found = SimpleNamespace(**vars(xp)), dict[int, Any]()
    known: list[list[Array]] = [[] for _ in deferred]
    while len(found) < len(deferred):
        groups: dict[Any, list[tuple[int, Array]]] = {}
        for place, one in enumerate(deferred):
            if place in found:
                continue
            try:
                found[place] = one.carried_out(names, known[place])
            except _AskedError as asks:
                needed = asks.matrices
                key = asks.call, _mesh_of(one.param), needed.shape, needed.dtype
                groups.setdefault(key, []).append((place, needed))
        for (call, mesh, *_), members in groups.items():
            concrete = not isinstance(members[0][1], jax.core.Tracer)
            back = tuple(x.sharding for _, x in members) if concrete else None
            made = _spread([x for _, x in members], call, mesh, back)
            for (place, _), result in zip(members, made, strict=True):
                known[place].append(result)
    return [found[place] for place in range(len(deferred))]


@partial(jax.jit, static_argnums=(1, 2, 3))
def _spread(
    matrices: list[Array], call: _Call, mesh: Mesh, back: tuple[Any, ...] | None
) -> list[Array]:
    """A function of whole matrices of one shape, each on one device.

    Args:
        matrices: matrices, or stacks of as many.
        call: the function.
        mesh: the mesh of the arrays.
        back: the shardings of the results, if they are known.
    """
    dims, free = _axes(mesh), _spec.UNCONSTRAINED
    devices = math.prod(mesh.shape[axis] for axis in dims)
    shape = matrices[0].shape
    layers = len(shape) > 2 and shape[0] % devices == 0  # which may be spread already
    dims = dims[::-1] if layers else dims
    stack = jnp.stack(matrices, axis=int(layers))
    joined = jnp.reshape(stack, (-1, *shape[-2:]))
    count = joined.shape[0]
    empty = jnp.zeros((-count % devices, *shape[-2:]), joined.dtype)
    ways = [_spec(dims[:some] or None, free, free) for some in range(int(layers), len(dims) + 1)]

    def moved(stack: Array, ways: Iterable[Any]) -> Array:
        for way in ways:
            place = jax.sharding.NamedSharding(mesh, way)
            stack = _constrained(stack, place)
        return stack

    def own(stack: Array) -> Array:
        alone = stack.shape[0] == 1
        return call.of(stack[0])[None] if alone else jax.lax.map(call.of, stack)

    whole = _spec(dims, None, None)
    spread = jax.shard_map(own, mesh=mesh, in_specs=whole, out_specs=whole, axis_names={*dims})
    joined = spread(moved(jnp.concat([joined, empty]), ways))
    joined = moved(joined, reversed(ways))[:count]
    stack = jnp.moveaxis(jnp.reshape(joined, stack.shape), int(layers), 0)
    found = [*map(stack.__getitem__, range(len(matrices)))]
    return found if back is None else [*map(_constrained, found, back)]


def _is_known(call: _Call) -> bool:
    """Whether no argument of a function is an array, so that calls can be compared."""
    try:
        hash(call)
    except TypeError:
        return False
    return True
