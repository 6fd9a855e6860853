"""Which piece of a parameter a process holds, on a mesh of processes."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from .arrays import map_parts
from .kept import Kept, kept_by
from .neutral import XP, Neutral

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["Cut", "Mesh", "Part", "Placement", "chunks"]

Dims = tuple[int, ...]


class Mesh(NamedTuple):
    """Processes in a grid, numbered in row-major order.

    Args:
        key: the adapter's handle of their group.
        sizes: the number of processes along each dimension.
        at: the coordinate of this process; ``None`` where it is traced and all cuts are even.
    """

    key: Hashable
    sizes: Dims
    at: Dims | None = None

    def place(self, over: Dims, at: Dims | None = None) -> int:
        """The place of a process, this one by default, along some dimensions, the last fastest."""
        coordinate, found = at or self.at or (0,) * len(self.sizes), 0
        for dim in over:
            found = found * self.sizes[dim] + coordinate[dim]
        return found


class Cut(NamedTuple):
    """An axis in pieces: the same description on every process.

    Args:
        bounds: piece ``i`` is from ``bounds[i]`` to ``bounds[i + 1]``; it may be empty.
        over: the dimensions of the mesh along which the pieces are; the last goes fastest.
    """

    bounds: Dims
    over: Dims

    def piece(self, mesh: Mesh, at: Dims | None = None) -> tuple[int, int]:
        """The bounds of a process's piece, by default of this one's."""
        place = mesh.place(self.over, at)
        return self.bounds[place], self.bounds[place + 1]

    @property
    def most(self) -> int:
        """The size of the largest piece."""
        return max(end - start for start, end in pairwise(self.bounds))


def chunks(size: int, pieces: int) -> Dims:
    """The bounds of an axis in equal pieces, of which the last ones may be smaller or empty."""
    each = -(-size // pieces)
    return tuple(min(place * each, size) for place in range(pieces + 1))


class Part(NamedTuple):
    """A factor of the size of an axis; an axis that joins several has several, slowest first."""

    size: int
    cut: Cut | None = None

    def length(self, mesh: Mesh) -> int:
        """The size of this process's piece."""
        if self.cut is None:
            return self.size
        start, end = self.cut.piece(mesh)
        return end - start


Axis = tuple[Part, ...]


@dataclass(frozen=True)
class Placement:
    """Which piece of a parameter this process holds.

    Args:
        shape: the shape of the whole parameter.
        cuts: how each axis is cut, or ``None``. Dimensions of the mesh that cut no axis hold
            copies.
        mesh: the processes.
        apart: dimensions of the mesh along which processes have other parameters.
        room: the most parameters that a process has where they are stacked along cut axes.
        shares: whether processes that have copies divide the work with whole matrices.
    """

    shape: Dims
    cuts: tuple[Cut | None, ...]
    mesh: Mesh
    apart: Dims = ()
    room: int = 1
    shares: bool = False

    @cached_property
    def _hash(self) -> int:
        return hash((self.shape, self.cuts, self.mesh, self.apart, self.shares))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis as its parts."""
        pairs = zip(self.shape, self.cuts, strict=True)
        return tuple(() if size == 1 and cut is None else (Part(size, cut),) for size, cut in pairs)

    @cached_property
    def local(self) -> Dims:
        """The shape of this process's piece."""
        return tuple(math.prod(part.length(self.mesh) for part in axis) for axis in self.axes)

    @cached_property
    def most(self) -> int:
        """The number of elements of the largest piece, which all processes know."""
        pairs = zip(self.shape, self.cuts, strict=True)
        return math.prod(size if cut is None else cut.most for size, cut in pairs)

    @cached_property
    def is_whole(self) -> bool:
        """Whether nothing is cut, and no work divided."""
        return not (self.shares or any(self.cuts))

    def one(self, kept: Kept) -> Placement:
        """The placement of one of the parameters that are stacked along batch axes."""
        if not kept.batch:
            return self
        known: dict[Kept, Placement] = vars(self).setdefault("_ones", {})
        if kept not in known:
            known[kept] = self._one(kept)
        return known[kept]

    def _one(self, kept: Kept) -> Placement:
        own = [axis for axis in range(len(self.shape)) if axis not in kept.batch]
        cuts = [self.cuts[axis] for axis in kept.batch]
        sizes = [
            self.shape[axis] if cut is None else cut.most
            for axis, cut in zip(kept.batch, cuts, strict=True)
        ]
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in own),
            cuts=tuple(self.cuts[axis] for axis in own),
            apart=tuple(dim for cut in cuts if cut is not None for dim in cut.over),
            room=math.prod(sizes),
        )

    def slot(self, rule: Rule, name: str) -> Any:
        """The placement of a slot, or of each array of a slot that is a tuple.

        An axis of the size of the parameter's is cut as that is; others, and 0-d slots, are not.

        Raises:
            ValueError: the shape of the slot is not known before the arrays are made.
        """
        kept = kept_by(rule, len(self.shape))
        return self.like(_slot_shape(rule, name, kept, self.shape), len(kept.batch))

    def slots(self, rule: Rule, kept: Kept) -> dict[str, Any]:
        """The axes of every slot of a parameter without batch axes, as ``axes``."""
        found = {}
        for name in rule.slots():
            placed = self.like(_slot_shape(rule, name, kept, self.shape))
            found[name] = map_parts(lambda one: one.axes, placed)
        return found

    def like(self, shape: Any, stacks: int = 0) -> Any:
        """The placement of an array of this shape that belongs to the parameter, or of several."""
        if shape and isinstance(shape[0], tuple):
            return tuple(self.like(one, stacks) for one in shape)
        axes: Any = range(len(self.shape))
        if len(shape) != len(self.shape):
            axes = axes[:stacks]
        cuts = [
            self.cuts[axis] if self.shape[axis] == size else None
            for axis, size in zip(axes, shape, strict=False)
        ]
        cuts += [None] * (len(shape) - len(cuts))
        return replace(self, shape=tuple(shape), cuts=tuple(cuts))


def _slot_shape(rule: Rule, name: str, kept: Kept, shape: Dims) -> Any:
    """The shape of a slot of a kept parameter, or of each of its arrays."""
    init, owner, seen = rule.slots()[name].init, rule.owner(name), kept.seen(shape)
    if init.shapes is not None:
        return kept.slot(shape, init.shapes(seen, owner))
    made = init.make(XP, Neutral(numpy.broadcast_to(numpy.float32(0), seen)), owner)
    return kept.slot(shape, map_parts(lambda part: tuple(part.shape), made))
