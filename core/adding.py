"""Sums and maxima over processes: one collective for all of a mesh.

Everything that the parameters of a mesh send goes in one vector, and every process reduces what has
come from all of them in the order of processes. So all processes have the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .arrays import cast, widest
from .bringing import padded
from .exchanges import Request
from .kept import PLAIN
from .placed import over_of
from .placement import Mesh, Placement

if TYPE_CHECKING:
    from .step import Entry

__all__ = ["Item", "added", "copied"]

Array = Any

LONG = 1 << 20
"""The most elements that a process gets of all others' vectors, if it can do with less."""


class Item(NamedTuple):
    """What a process sends for a request.

    Args:
        place: the place of the entry.
        entry: the entry that asks.
        request: the request.
        partial: what this process has.
        name: the name of the result.
        summed: whether it is summed over the parameters of a stack already.
    """

    place: int
    entry: Entry
    request: Request
    partial: Array
    name: str
    summed: bool = False

    def group(self) -> Any:
        """The reduction, and what the processes along each dimension of the mesh have.

        They are reduced over (``None``), have other values (true), or copies of which one counts.
        Nothing here differs between processes, which have to agree on the order of groups.
        """
        placement: Any = self.entry.placement
        apart = {*placement.one(self.entry.kept).apart, *over_of(self.request.axes)}
        dims, over = range(len(placement.mesh.sizes)), self.request.over
        return self.request.kind, tuple(None if dim in over else dim in apart for dim in dims)

    def room(self) -> int:
        """The most numbers that a process sends."""
        placement: Any = self.entry.placement
        stack = self.entry.param.shape[0] if self.entry.stacked else 1
        several = 1 if self.summed else stack * placement.one(self.entry.kept).room
        most = [
            part.size if part.cut is None else part.cut.most
            for axis in self.request.axes
            for part in axis
        ]
        return several * math.prod(most)


def copied(entry: Entry, name: str, term: Array) -> Item:
    """What a process sends of a term of a parameter of which others have copies."""
    assert entry.copies is not None
    own = entry._replace(kept=PLAIN, placement=Placement((), (), entry.copies))
    return Item(id(entry), own, Request(1, "sum", (), ()), term, name, True)


Dims = tuple[Any, ...]
"""For each dimension of a mesh: ``None`` if it is reduced over, else whether values differ."""


class _Span(NamedTuple):
    """A part of a vector: how it is reduced, and where it begins and ends."""

    kind: str
    dims: Dims
    start: int
    end: int


def added(xp: Any, exchange: Any, items: Sequence[Item]) -> list[Array]:
    """The results of requests, from what all processes send for them: one collective per mesh.

    Partial results are reduced in the order of the processes, so that all have the same bits.
    Of copies, which have equal bits, the largest counts, so that one that is NaN is NaN everywhere.
    Where a vector of all would be long, each process reduces a part of it and then sends that: two
    collectives.
    """
    totals: list[Any] = [None] * len(items)
    meshes: dict[Mesh, dict[Any, list[int]]] = {}
    for place, item in enumerate(items):
        placement: Any = item.entry.placement
        groups = meshes.setdefault(placement.mesh, {})
        groups.setdefault(item.group(), []).append(place)
    for mesh, groups in meshes.items():
        order = [place for places in groups.values() for place in places]
        rooms = {place: items[place].room() for place in order}
        wide = widest(xp, [items[place].partial for place in order])
        vectors, spans, start = [], [], 0
        for (kind, dims), places in groups.items():
            for at in places:
                vector = cast(xp, xp.reshape(items[at].partial, (-1,)), wide)
                vectors.append(padded(xp, vector, rooms[at]))
            spans.append(_Span(kind, dims, start, start + sum(map(rooms.__getitem__, places))))
            start = spans[-1].end
        found = _reduced(xp, exchange, mesh, xp.concat(vectors), spans)
        start = 0
        for place in order:
            own = items[place].partial
            total = found[start : start + math.prod(own.shape)]
            totals[place] = cast(xp, xp.reshape(total, own.shape), own.dtype)
            start = start + rooms[place]
    return totals


def _reduced(xp: Any, exchange: Any, mesh: Mesh, vector: Array, spans: Sequence[_Span]) -> Array:
    """The vector of this process's results."""
    count, length = math.prod(mesh.sizes), vector.shape[0]
    if count * length <= LONG or not hasattr(exchange, "swapped"):
        table = xp.reshape(exchange.gathered(mesh, vector), (*mesh.sizes, length))
        return _own(_of_all(xp, mesh, table, spans, 0), mesh, spans)
    part = -(-length // count)
    vector = padded(xp, vector, part * count)
    parts = [vector[part * rank : part * (rank + 1)] for rank in range(count)]
    rows = exchange.swapped(mesh, parts, [part] * count)
    table = xp.reshape(xp.stack(rows), (*mesh.sizes, part))
    here = part * mesh.place(tuple(range(len(mesh.sizes))))
    mine = _of_all(xp, mesh, table, spans, here)
    every = xp.reshape(exchange.gathered(mesh, xp.reshape(mine, (-1,))), (count, *mine.shape))
    return xp.concat([_own(every[rank, ...], mesh, spans) for rank in range(count)])


def _of_all(xp: Any, mesh: Mesh, table: Array, spans: Sequence[_Span], start: int) -> Array:
    """The results of all processes, of some columns; along most dimensions they are the same.

    Args:
        xp: array namespace.
        mesh: the processes.
        table: what they have sent: the dimensions of the mesh, and columns.
        spans: how columns are reduced.
        start: the first column.

    Returns:
        The dimensions of the mesh along which results may differ, others of size 1, and columns.
    """
    end = start + table.shape[-1]
    shape = [size if apart else 1 for size, apart in zip(mesh.sizes, _apart(spans), strict=True)]
    found = []
    for kind, dims, first, last in [*spans, _Span("sum", (None,) * len(shape), spans[-1].end, end)]:
        low, high = max(first, start), min(last, end)
        if low >= high:
            continue
        own = table[(*(slice(None) for _ in dims), slice(low - start, high - start))]
        copies = tuple(dim for dim, apart in enumerate(dims) if apart is False)
        own = xp.max(own, axis=copies, keepdims=True) if copies else own
        over = tuple(dim for dim, apart in enumerate(dims) if apart is None)
        own = getattr(xp, kind)(own, axis=over, keepdims=True)
        found.append(xp.broadcast_to(own, (*shape, high - low)))
    return xp.concat(found, axis=-1)


def _apart(spans: Sequence[_Span]) -> tuple[bool, ...]:
    """Whether results differ along each dimension of the mesh."""
    return tuple(any(column) for column in zip(*(span.dims for span in spans), strict=True))


def _own(results: Array, mesh: Mesh, spans: Sequence[_Span]) -> Array:
    """The results of this process."""
    at: Any = mesh.at
    return results[tuple(at[dim] if apart else 0 for dim, apart in enumerate(_apart(spans)))]
