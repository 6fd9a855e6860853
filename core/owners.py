"""Who does what with whole arrays: one owner for each task.

A task needs some arrays whole, of which processes hold pieces. Every process computes the same
schedule from what all of them know.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from .placement import Cut, Mesh, Part

__all__ = ["LIMIT", "Box", "Piece", "Region", "Task", "buckets", "elements", "owners", "scheduled"]

LIMIT = 1 << 24
"""About how many elements of a bucket a process owns."""

Box = tuple[Part, ...]
"""An array: an axis for each part."""
Region = tuple[tuple[int, int], ...]
"""The first and the last place, exclusive, along each axis."""


class Task(NamedTuple):
    """Something that is done with whole arrays.

    Args:
        inputs: the arrays.
        outputs: the results.
        cost: the work, in any unit.
        among: cut axes along which the parameter is stacked, and its place there: only processes
            whose piece has that place have pieces of the arrays.
    """

    inputs: tuple[Box, ...]
    outputs: tuple[Box, ...]
    cost: int
    among: tuple[tuple[Cut, int], ...] = ()

    @property
    def is_copied(self) -> bool:
        """Whether every process has all inputs."""
        return not (self.among or any(part.cut for box in self.inputs for part in box))

    def holds(self, mesh: Mesh, at: tuple[int, ...]) -> bool:
        """Whether a process has pieces of the arrays."""
        return all(
            start <= place < end
            for cut, place in self.among
            for start, end in (cut.piece(mesh, at),)
        )

    def counts(self, box: Box, at: tuple[int, ...], owner: tuple[int, ...]) -> bool:
        """Whether a process's piece is the copy that an owner gets."""
        cut = {dim for part in box if part.cut for dim in part.cut.over}
        cut |= {dim for one, _ in self.among for dim in one.over}
        return all(
            dim in cut or here == there
            for dim, (here, there) in enumerate(zip(at, owner, strict=True))
        )


def region(box: Box, mesh: Mesh, at: tuple[int, ...]) -> Region:
    """What a process holds of an array."""
    return tuple((0, part.size) if part.cut is None else part.cut.piece(mesh, at) for part in box)


def elements(place: Region) -> int:
    """The number of elements of a region."""
    return math.prod(end - start for start, end in place)


def owners(costs: Sequence[int], count: int) -> list[int]:
    """An owner for each task: the largest first, each to the process that has least to do."""
    loads = [(0, rank) for rank in range(count)]
    found = [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: (-costs[task], task)):
        load, rank = heapq.heappop(loads)
        found[task] = rank
        heapq.heappush(loads, (load + costs[task], rank))
    return found


def buckets(work: Sequence[tuple[int, int]], count: int) -> list[list[int]]:
    """Parameters in buckets, each of which is brought together at once: the largest first.

    A bucket has about ``LIMIT`` elements for each process, and gives each a parameter, so that
    there is work for all.

    Args:
        work: the cost and the elements of each parameter.
        count: the number of processes.
    """
    found: list[list[int]] = [[]]
    held = 0
    for place in sorted(range(len(work)), key=lambda place: (-work[place][0], place)):
        if held >= LIMIT * count and len(found[-1]) % count == 0:
            found.append([])
            held = 0
        found[-1].append(place)
        held += work[place][1]
    return [bucket for bucket in found if bucket]


Piece = tuple[int, int, Region]
"""A task, the place of one of its arrays, and a region of that."""


class Schedule(NamedTuple):
    """What this process does of some tasks. Lists by process are empty where nothing goes.

    Args:
        owned: the tasks that are done here.
        sent: for each process, the pieces of inputs that it gets from here.
        received: for each process, the pieces of inputs that come from it.
        returned: for each process, the pieces of outputs that it gets from here.
        back: for each process, the pieces of outputs that come from it.
    """

    owned: list[int]
    sent: list[list[Piece]]
    received: list[list[Piece]]
    returned: list[list[Piece]]
    back: list[list[Piece]]


@lru_cache(maxsize=256)
def scheduled(mesh: Mesh, tasks: tuple[Task, ...], everywhere: bool) -> Schedule:
    """What this process does of some tasks.

    Args:
        mesh: the processes.
        tasks: the tasks, the same in every process.
        everywhere: whether each process does all of them for itself, and has no owner.
    """
    every = [*product(*map(range, mesh.sizes))]
    here = mesh.at or every[0]
    owned = [] if everywhere else owners([task.cost for task in tasks], len(every))
    lists: list[list[list[Piece]]] = [[[] for _ in every] for _ in range(4)]
    found = Schedule([], *lists)
    for place, task in enumerate(tasks):
        owner = here if everywhere else every[owned[place]]
        getter, other = None if everywhere else owner, every.index(owner)
        found.sent[other].extend(_pieces(place, task, task.inputs, mesh, here, getter))
        found.back[other].extend(_pieces(place, task, task.outputs, mesh, here))
        if owner != here:
            continue
        found.owned.append(place)
        for rank, at in enumerate(every):
            found.received[rank].extend(_pieces(place, task, task.inputs, mesh, at, getter))
            found.returned[rank].extend(_pieces(place, task, task.outputs, mesh, at))
    return found


def _pieces(
    place: int,
    task: Task,
    boxes: tuple[Box, ...],
    mesh: Mesh,
    at: tuple[int, ...],
    owner: tuple[int, ...] | None = None,
) -> Iterator[Piece]:
    """The pieces of arrays that a process has, or of these the ones that an owner gets."""
    if task.holds(mesh, at):
        for index, box in enumerate(boxes):
            if owner is None or task.counts(box, at, owner):
                yield place, index, region(box, mesh, at)
