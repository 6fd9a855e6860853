"""Parameters inside ``jax.shard_map``, where a rule is given the piece that one device has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as xp
from samestep.arrays import listed
from samestep.kept import kept_by, rule_of
from samestep.placed import over_of
from samestep.placement import Cut, Mesh, Placement
from samestep.rule import Rule, State

from .trees import dotted, flattened, leaves, real

__all__ = ["Shards", "exchange", "mapped", "typed"]

Array = Any
Names = tuple[str, ...]
_spec: Any = jax.P
_struct: Any = jax.ShapeDtypeStruct
_lax: Any = jax.lax
SUMS = ("element", "tensor", "tree")
"""Needs of rules to which it does not matter along which of its axes a parameter is cut."""


class Shards:
    """How the parameters of an optimizer are sharded inside ``jax.shard_map``.

    Args:
        given: the names of the axes of the mesh, or ``jax.P`` of every parameter in a tree that is
            a prefix of the parameters', as in ``in_specs``; ``None`` where nothing is said.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        named = (given,) if isinstance(given, str) else given
        is_names = isinstance(named, (tuple, list)) and all(isinstance(n, str) for n in named)
        self.names: Names | None = tuple(named) if is_names else None

    def specs(self, params: Any) -> list[Any]:
        """What is said of every parameter."""
        if self.given is None or self.names is not None:
            return [None] * len(leaves(params)[0])
        try:
            return leaves_of(jax.tree.broadcast(self.given, params, is_leaf=_is_spec))
        except ValueError as error:
            raise ValueError(
                f"axis_name={self.given!r}: the tree is no prefix of the parameters'; give the "
                "in_specs of the parameters"
            ) from error

    def whole(self, array: Array, spec: Any) -> Any:
        """An array, or shape and dtype of the whole of which it is a piece, where that is said."""
        sizes = mapped()
        if not sizes or spec is None or not sizes.keys() >= {*_names(spec)}:
            return array
        placed = _placed(array, _by_axis(spec, array.ndim), sizes)
        return _struct(placed.shape, array.dtype)

    def of_state(self, rule: Rule, params: Any) -> State:
        """The specs of a state.

        Raises:
            ValueError: those of the parameters are not known.
        """
        if self.given is None or self.names is not None:
            raise ValueError(
                f"{rule.name}(axis_name={self.given!r}): the specs of the state follow from the "
                "parameters'; give axis_name= the in_specs of the parameters"
            )
        paths, structure = flattened(params)
        found: dict[str, list[Any]] = {name: [] for name in rule.slots()}
        for (path, leaf), spec in zip(paths, self.specs(params), strict=True):
            name, by_axis = dotted(path), _by_axis(spec, leaf.ndim)
            own = rule_of(rule, name, leaf)
            names = dict.fromkeys(name for cut in by_axis for name in cut)
            like = real(_struct(leaf.shape, leaf.dtype))
            placed = _placed(like, [*by_axis, ()][: like.ndim], dict.fromkeys(names, 1))
            slots = own.slots()
            for slot, values in found.items():
                here = placed.slot(own, slot) if slot in slots else None
                values.append(_written(here, [*names]))
        slots = {name: structure.unflatten(values) for name, values in found.items()}
        return State(_spec(), slots, {name: _spec() for name in rule.shared()})

    def placement(self, rule: Rule, path: str, array: Array, spec: Any) -> Placement | None:
        """Which piece of a parameter an array is; ``None`` where it is the whole.

        Raises:
            ValueError: that has to be known, and is not; or an axis is not one of ``shard_map``.
        """
        manual = mapped()
        if not manual:
            return None
        who = f"{rule.name}: parameter {path!r}"
        varies = tuple(name for name in manual if name in _varying(array))
        if spec is None and self.names is None:
            if varies and rule.needs != "element":
                raise ValueError(
                    f"{who} is sharded over {listed(varies)} inside jax.shard_map, and "
                    f"{rule.name} reads more than one element (needs {rule.needs!r}); give "
                    "axis_name=, the in_specs of the parameters, to the optimizer, or leave out "
                    "shard_map: under jax.jit a sharded array is whole to a rule"
                )
            return None
        names = (*_names(spec),) if self.names is None else self.names
        unknown = [name for name in names if name not in manual]
        if unknown:
            raise ValueError(
                f"{who} has axis_name={self.given!r}, and {listed(unknown)} is no axis of "
                f"jax.shard_map here; these are {listed(manual)}"
            )
        if self.names is None:
            more = [name for name in varies if name not in names]
            if more:
                raise ValueError(
                    f"{who} is sharded over {listed(more)} too, which its {spec} does not say; "
                    "give axis_name= the in_specs of the parameters"
                )
            by_axis = _by_axis(spec, array.ndim)
        else:
            by_axis = self._first_axis(rule, who, array, varies)
        return _placed(array, by_axis, manual) if any(by_axis) else None

    def _first_axis(self, rule: Rule, who: str, array: Array, varies: Names) -> list[Names]:
        """Names for the first axis, where it does not matter which one it is.

        Raises:
            ValueError: it matters.
        """
        cut = tuple(name for name in varies if name in (self.names or ()))
        by_axis: list[Names] = [()] * array.ndim
        if rule.needs == "element":
            return by_axis
        if not _varying(_lax.axis_index(self.names)):
            raise ValueError(
                f"{who} may be sharded or not, which jax.shard_map(check_vma=False) does not say; "
                "give axis_name= the in_specs of the parameters"
            )
        more = [name for name in varies if name not in cut]
        if more:
            raise ValueError(
                f"{who} is sharded over {listed(more)} too; give axis_name= all axes, or the "
                "in_specs of the parameters"
            )
        if not cut:
            return by_axis
        if rule.needs not in SUMS or rule.sees_axes or kept_by(rule, array.ndim).batch:
            raise ValueError(
                f"{who} is sharded over {listed(cut)}, and {rule.name} must know along which of "
                f"its axes (needs {rule.needs!r}); give axis_name= the in_specs of the parameters "
                "in place of a name"
            )
        if not array.ndim:
            raise ValueError(f"{who} is a single number, which differs along {listed(cut)}")
        return [cut, *by_axis[1:]]


def leaves_of(tree: Any) -> list[Any]:
    """The specs in a tree."""
    return list(jax.tree.leaves(tree, is_leaf=_is_spec))


def _is_spec(value: Any) -> bool:
    return value is None or isinstance(value, _spec)


def _pair(entry: Any) -> Names:
    """The names that cut an axis."""
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _by_axis(spec: Any, ndim: int) -> list[Names]:
    """The names that cut each axis."""
    return [*map(_pair, spec), *[()] * (ndim - len(spec))]


def _names(spec: Any) -> Names:
    return tuple(name for entry in spec for name in _pair(entry))


def mapped() -> dict[str, int]:
    """The axes of the mesh over which ``shard_map`` maps here, and their sizes."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    manual = jax.sharding.AxisType.Manual
    return {name: mesh.shape[name] for name, kind in kinds if kind == manual}


def _varying(array: Array) -> frozenset[str]:
    """The axes along which the values of an array differ between devices, as far as JAX knows."""
    kind: Any = jax.typeof(array)
    found = getattr(kind, "manual_axis_type", kind)  # from JAX 0.9 on
    return frozenset(getattr(found, "varying", getattr(found, "vma", ())))


def _written(placed: Any, names: Sequence[str]) -> Any:
    """A placement, or a tuple of them, as a spec."""
    if placed is None:
        return None
    if isinstance(placed, tuple):
        return tuple(_written(one, names) for one in placed)
    return _spec(*(cut and tuple(names[dim] for dim in cut.over) for cut in placed.cuts))


def _placed(array: Array, by_axis: Sequence[Names], sizes: Mapping[str, int]) -> Placement:
    """The placement of a piece on a mesh with these axes."""
    names, cuts, shape = tuple(sizes), [], []
    for size, own in zip(array.shape, by_axis, strict=True):
        pieces = math.prod(sizes[name] for name in own)
        bounds = tuple(range(0, size * pieces + 1, size)) if size else (0,) * (pieces + 1)
        cuts.append(Cut(bounds, tuple(map(names.index, own))) if own else None)
        shape.append(size * pieces)
    return Placement(tuple(shape), tuple(cuts), Mesh(names, tuple(sizes.values())))


class _Exchange:
    """The devices of ``jax.shard_map``; what they send each other is traced at once."""

    immediate = True

    def total(self, mesh: Mesh, kind: str, over: tuple[int, ...], partial: Array) -> Array:
        """The reduction of a partial result over dimensions of the mesh."""
        names = _over(mesh, over)
        partial = differing(partial, names)
        if kind == "prod":
            return xp.prod(_lax.all_gather(partial, names), axis=0)
        function: Any = {"sum": _lax.psum, "max": _lax.pmax, "min": _lax.pmin}[kind]
        return function(partial, names)

    def whole(
        self,
        mesh: Mesh,
        cuts: Sequence[Cut | None],
        function: Callable[[Array], Array],
        piece: Array,
    ) -> Array:
        """The piece of the result of a function of the whole, which every device computes."""
        whole, places = piece, []
        for axis, cut in enumerate(cuts):
            over = () if cut is None else _over(mesh, cut.over)
            place = _lax.axis_index(over) if over else xp.int32(0)
            places.append(place * piece.shape[axis])
            if over:
                whole = _lax.all_gather(differing(whole, over), over, axis=axis, tiled=True)
        return _lax.dynamic_slice(function(whole), places, piece.shape)

    def gathered(self, mesh: Mesh, vector: Array) -> Array:
        """The vectors of all devices, as the rows of a matrix."""
        names: Any = mesh.key
        return _lax.all_gather(differing(vector, names), names)


exchange = _Exchange()


def typed(value: Any, placed: Any) -> Any:
    """An array, or a tuple of arrays, that differs between devices where it is cut, and only there.

    Values are the same everywhere along the axes that do not cut it.
    """
    if isinstance(value, tuple):
        return tuple(map(typed, value, placed))
    cut = _over(placed.mesh, over_of(placed.axes))
    more = tuple(name for name in _varying(value) if name not in cut)
    return differing(_lax.pmax(value, more) if more else value, cut)


def _over(mesh: Mesh, over: Sequence[int]) -> Names:
    names: Any = mesh.key
    return tuple(names[dim] for dim in over)


def differing(array: Array, names: Sequence[str]) -> Array:
    """The array as one that may differ between devices along these axes of the mesh."""
    more = tuple(name for name in names if name not in _varying(array))
    if not more or not _varying(_lax.axis_index(tuple(names))):
        return array
    if hasattr(jax.lax, "pcast"):
        return _lax.pcast(array, more, to="varying")
    return _lax.pvary(array, more)
