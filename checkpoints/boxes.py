"""Boxes: parts of an array that are bounded along every axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from operator import sub
from typing import NamedTuple

__all__ = ["BUCKET", "Box", "Piece", "blocks", "runs", "whole"]

BUCKET = 1 << 24
"""Bytes that are brought together at a time."""


class Box(NamedTuple):
    """A part of an array: for each axis where it begins and ends."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(stop - start for start, stop in zip(*self, strict=True))

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slices of the whole array."""
        return tuple(map(slice, *self))

    def common(self, other: Box) -> Box:
        """What is in both; it has no elements if nothing is."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(map(max, start, map(min, self.stop, other.stop))))

    def within(self, outer: Box) -> Box:
        """The same part of an array that has the elements of ``outer`` only."""
        moved = (map(sub, end, outer.start) for end in self)
        return Box(*map(tuple, moved))


class Piece(NamedTuple):
    """A part of an array, and the process that gives it."""

    holder: int
    box: Box


def whole(shape: tuple[int, ...]) -> Box:
    """All of an array."""
    return Box((0,) * len(shape), tuple(shape))


def blocks(box: Box, itemsize: int) -> Iterator[Box]:
    """Parts of a box of at most ``BUCKET`` bytes, in the order of its elements."""
    axis = 0
    while axis < len(box.shape) - 1 and math.prod(box.shape[axis + 1 :]) * itemsize > BUCKET:
        axis += 1
    yield from _cut(box, axis, BUCKET // itemsize)


def runs(shape: tuple[int, ...], box: Box) -> Iterator[Box]:
    """Parts of a box of an array, each of elements one after another in memory."""
    axis = len(shape) - 1
    while axis > 0 and box.shape[axis] == shape[axis]:
        axis -= 1
    yield from _cut(box, axis, box.size)


def _cut(box: Box, axis: int, size: int) -> Iterator[Box]:
    """A box cut along the axes up to this one, into parts of about ``size`` elements."""
    if not box.size:
        return
    if not box.shape:
        yield box
        return
    start, stop = box.start[axis + 1 :], box.stop[axis + 1 :]
    step = max(size // math.prod(box.shape[axis + 1 :]), 1)
    first, last = box.start[axis], box.stop[axis]
    for place in product(*map(range, box.start[:axis], box.stop[:axis])):
        end = tuple(i + 1 for i in place)
        for at in range(first, last, step):
            yield Box((*place, at, *start), (*end, min(at + step, last), *stop))
