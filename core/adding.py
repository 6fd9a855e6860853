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
from .placed import over_of
from .placement import Mesh

if TYPE_CHECKING:
    from .step import Entry

__all__ = ["Item", "added"]

Array = Any


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


def added(xp: Any, exchange: Any, items: Sequence[Item]) -> list[Array]:
    """The results of requests, from what all processes send for them: one collective per mesh.

    Partial results are reduced in the order of the processes, so that all have the same bits.
    Along dimensions of the mesh that hold copies the first process counts.
    """
    totals: list[Any] = [None] * len(items)
    meshes: dict[Mesh, dict[Any, list[int]]] = {}
    for place, item in enumerate(items):
        placement: Any = item.entry.placement
        groups = meshes.setdefault(placement.mesh, {})
        groups.setdefault(item.group(), []).append(place)
    for mesh, groups in meshes.items():
        order = [place for places in groups.values() for place in places]
        wide = widest(xp, [items[place].partial for place in order])
        vector = xp.concat(
            [
                padded(xp, cast(xp, xp.reshape(items[at].partial, (-1,)), wide), items[at].room())
                for at in order
            ]
        )
        table = exchange.gathered(mesh, vector)
        table = xp.reshape(table, (*mesh.sizes, vector.shape[0]))
        start = 0
        for (kind, dims), places in groups.items():
            sizes = [items[place].room() for place in places]
            end = start + sum(sizes)
            index = tuple(
                slice(None) if apart is None else at if apart else 0
                for apart, at in zip(dims, mesh.at or (), strict=True)
            )
            rows = xp.reshape(table[(*index, slice(start, end))], (-1, end - start))
            total = getattr(xp, kind)(rows, axis=0)
            first = 0
            for place, size in zip(places, sizes, strict=True):
                own = items[place].partial
                found = total[first : first + math.prod(own.shape)]
                totals[place] = cast(xp, xp.reshape(found, own.shape), own.dtype)
                first = first + size
            start = end
    return totals
