"""Processes simulated by threads of one process, which exchange arrays as an adapter would.

A collective that not every rank joins is an error that names the rank and the collective.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy

from samestep.placement import Mesh

__all__ = ["SECONDS", "Group", "Immediate", "Rank", "together"]

SECONDS = 20
"""How long a rank waits for the others."""

Array = Any


class Group:
    """Simulated processes.

    Args:
        count: how many there are.
        seconds: how long a rank waits for the others in a collective.
    """

    def __init__(self, count: int, seconds: float = SECONDS) -> None:
        self.count, self.seconds = count, seconds
        self.barrier = threading.Barrier(count)
        self.board: list[Any] = [None] * count
        self.joined: list[str] = ["nothing yet"] * count
        self.counted: Counter[str] = Counter()
        """The collectives of rank 0 by name."""
        self.received = [0] * count
        """The elements that every rank has got from others."""

    def swap(self, rank: int, collective: str, value: Any) -> list[Any]:
        """What every rank has given."""
        self.board[rank], self.joined[rank] = value, collective
        try:
            self.barrier.wait(self.seconds)
            found = [*self.board]
            names = {*self.joined}
            self.barrier.wait(self.seconds)
        except threading.BrokenBarrierError:
            others = ", ".join(f"rank {at} in {name}" for at, name in enumerate(self.joined))
            raise TimeoutError(f"rank {rank} waits in {collective}: {others}") from None
        if len(names) > 1:
            raise RuntimeError(f"rank {rank}: the ranks are in different collectives: {names}")
        if rank == 0:
            self.counted[collective] += 1
        return found


class Rank:
    """One simulated process, as ``step.run`` is given it.

    Args:
        group: all of them.
        rank: the number of this one.
    """

    def __init__(self, group: Group, rank: int) -> None:
        self.group, self.rank = group, rank

    def gathered(self, mesh: Mesh, vector: Array) -> Array:
        """The vectors of all ranks."""
        assert mesh.place(tuple(range(len(mesh.sizes)))) == self.rank
        vectors = self.group.swap(self.rank, "gathered", vector)
        shapes = {(tuple(one.shape), str(one.dtype)) for one in vectors}
        if len(shapes) > 1:
            raise RuntimeError(f"rank {self.rank}: gathered is given vectors of {shapes}")
        self.group.received[self.rank] += (self.group.count - 1) * int(vector.shape[0])
        return array_api_compat.array_namespace(vector).stack(vectors)

    def swapped(self, mesh: Mesh, parts: Sequence[Array], lengths: Sequence[int]) -> list[Array]:
        """What all ranks have sent to this one."""
        found = [row[self.rank] for row in self.group.swap(self.rank, "swapped", [*parts])]
        sizes = [int(part.shape[0]) for part in found]
        if sizes != [*lengths]:
            raise RuntimeError(f"rank {self.rank} expects {[*lengths]} elements and gets {sizes}")
        self.group.received[self.rank] += sum(sizes) - sizes[self.rank]
        return found


class Immediate(Rank):
    """One simulated process that makes an exchange while a rule is executed, as JAX traces one."""

    immediate = True

    def total(self, mesh: Mesh, kind: str, over: Sequence[int], partial: Array) -> Array:
        """The reduction over some dimensions of the mesh."""
        rows = self.group.swap(self.rank, "total", partial)
        own = [
            row
            for row, at in zip(rows, numpy.ndindex(*mesh.sizes), strict=True)
            if all(dim in over or at[dim] == here for dim, here in enumerate(mesh.at or at))
        ]
        found: Array = getattr(numpy, kind)(numpy.stack(own), axis=0)
        return found

    def whole(
        self, mesh: Mesh, cuts: Sequence[Any], function: Callable[[Array], Array], piece: Array
    ) -> Array:
        """The piece of the result of a function of a whole array."""
        pieces = self.group.swap(self.rank, "whole", piece)
        index = [
            tuple(slice(None) if cut is None else slice(*cut.piece(mesh, at)) for cut in cuts)
            for at in numpy.ndindex(*mesh.sizes)
        ]
        shape = [
            size if cut is None else cut.bounds[-1]
            for size, cut in zip(piece.shape, cuts, strict=True)
        ]
        array = numpy.zeros(shape, piece.dtype)
        for at, one in zip(index, pieces, strict=True):
            array[at] = one
        return numpy.array(function(array)[index[self.rank]])


def together(
    count: int, function: Callable[[Rank], Any], seconds: float = SECONDS, kind: type[Rank] = Rank
) -> tuple[list[Any], Group]:
    """The results of a function on every rank, and what they have exchanged.

    Rank 0 is the calling thread. If one fails its error is raised, not those of others that wait.
    """
    group = Group(count, seconds)
    results: list[Any] = [None] * count
    failed: list[tuple[bool, int, BaseException]] = []

    def run(rank: int) -> None:
        try:
            results[rank] = function(kind(group, rank))
        except BaseException as error:
            failed.append((isinstance(error, TimeoutError), rank, error))
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(1, count)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join(3 * seconds)
    if failed:
        raise min(failed, key=lambda one: one[:2])[2]
    return results, group
