"""Whole arrays for what needs them: brought to their owners in pieces, and taken apart again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby, product
from operator import itemgetter
from typing import Any

from .arrays import cast
from .owners import Piece, Region, Task, elements, scheduled
from .placement import Mesh

__all__ = ["brought", "padded"]

Array = Any

CHEAP = 1 << 18
"""Work that two processes rather do twice than send results for; as of a matrix of 64 by 64."""


def brought(
    xp: Any,
    exchange: Any,
    mesh: Mesh,
    tasks: tuple[Task, ...],
    arrays: Sequence[Sequence[Array]],
    perform: Callable[[int, list[Array]], Sequence[Array]],
    like: Array,
    everywhere: bool = False,
) -> list[list[Array]]:
    """The pieces of the results of tasks, with two collectives.

    One task, or little work of two processes, is done by each of them, with one collective.

    Args:
        xp: array namespace.
        exchange: the processes.
        mesh: their mesh.
        tasks: the tasks, the same in every process.
        arrays: for each task, the pieces of its inputs; nothing where this process has none.
        perform: computes the outputs of a task from its whole inputs.
        like: an array of the dtype that is sent, and on the device.
        everywhere: whether every process has to do every task.

    Returns:
        For each task, the pieces of its outputs; nothing where this process has none.
    """
    costs, count = [task.cost for task in tasks], math.prod(mesh.sizes)
    saves = sum(costs) - max(costs) > CHEAP if count == 2 else len(tasks) > 1
    everywhere = everywhere or not saves or not hasattr(exchange, "swapped")
    every = [*product(*map(range, mesh.sizes))]
    here = mesh.at or every[0]
    plan, nothing = scheduled(mesh, tasks, everywhere), xp.reshape(like, (-1,))[:0]

    def joined(pieces: Sequence[Piece], of: Callable[[Piece], Array]) -> Array:
        parts = [cast(xp, xp.reshape(of(piece), (-1,)), like.dtype) for piece in pieces]
        return xp.concat(parts) if len(parts) > 1 else parts[0] if parts else nothing

    def mine(piece: Piece) -> Array:
        return arrays[piece[0]][piece[1]]

    lengths = [sum(elements(piece[2]) for piece in pieces) for pieces in plan.received]
    vectors = [joined(pieces, mine) for pieces in plan.sent]
    own = every.index(here)
    if all(task.is_copied for task in tasks):
        others = vectors[own] if everywhere else nothing
        rows = [vectors[own] if rank == own else others for rank in range(count)]
    elif everywhere:
        vector = vectors[own]
        rows = exchange.gathered(mesh, padded(xp, vector, max(lengths)))
    else:
        rows = exchange.swapped(mesh, vectors, lengths)
    given: dict[tuple[int, int], list[tuple[Region, Array]]] = {}
    for rank, pieces in enumerate(plan.received):
        for (place, index, at), part in zip(pieces, _parts(xp, rows[rank], pieces), strict=True):
            task = tasks[place]
            if task.counts(task.inputs[index], every[rank], here) or not everywhere:
                given.setdefault((place, index), []).append((at, part))
    done: dict[int, Sequence[Array]] = {}
    for place in plan.owned:
        inputs = range(len(tasks[place].inputs))
        done[place] = perform(place, [_assembled(xp, given.pop((place, at))) for at in inputs])

    def result(piece: Piece) -> Array:
        place, index, at = piece
        return done[place][index][tuple(slice(*bounds) for bounds in at)]

    found: list[list[Array]] = [[] for _ in tasks]
    if everywhere:
        for piece in plan.returned[own]:
            found[piece[0]].append(result(piece))
        return found
    lengths = [sum(elements(piece[2]) for piece in pieces) for pieces in plan.back]
    vectors = [joined(pieces, result) for pieces in plan.returned]
    for pieces, row in zip(plan.back, exchange.swapped(mesh, vectors, lengths), strict=True):
        for (place, _, _), part in zip(pieces, _parts(xp, row, pieces), strict=True):
            found[place].append(part)
    return found


def padded(xp: Any, vector: Array, length: int) -> Array:
    """A vector of some length, with zeros at the end."""
    missing = length - vector.shape[0]
    if not missing:
        return vector
    zero = xp.zeros_like(xp.sum(vector))  # on the device of the vector
    return xp.concat([vector, xp.broadcast_to(zero, (missing,))])


def _parts(xp: Any, vector: Array, pieces: Sequence[Piece]) -> list[Array]:
    """The pieces that lie in a vector one after another, each in its shape."""
    start, found = 0, []
    for _, _, own in pieces:
        end = start + elements(own)
        found.append(xp.reshape(vector[start:end], tuple(last - first for first, last in own)))
        start = end
    return found


def _assembled(xp: Any, pieces: Sequence[tuple[Region, Array]], axis: int = 0) -> Array:
    """The whole array of its pieces, which are a grid."""
    if axis == len(pieces[0][0]):
        return pieces[0][1]
    pieces = [piece for piece in pieces if piece[0][axis][0] < piece[0][axis][1]] or pieces[:1]
    bounds = itemgetter(axis)
    pieces = sorted(pieces, key=lambda piece: bounds(piece[0]))
    groups = [[*group] for _, group in groupby(pieces, key=lambda piece: bounds(piece[0]))]
    slabs = [_assembled(xp, group, axis + 1) for group in groups]
    return xp.concat(slabs, axis=axis) if len(slabs) > 1 else slabs[0]
