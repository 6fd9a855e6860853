"""Small parameters gathered into one vector, and large ones cut into pieces that stay in cache.

The results of an element rule do not change, and all small parameters together cost as many
operations as one. For other rules the framework says which parameters may be in a pack: those of
one shape, which are stacked, or small ones of any shapes, which are segments of a vector. Here only
packs of an element rule are executed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

from . import step as stepping
from .arrays import map_parts, parts
from .counts import key_of
from .step import Entry

__all__ = ["CHUNK", "SMALL", "fits", "in_chunks", "limits", "merged", "packs", "parted", "run"]

SMALL = 1 << 15
"""Parameters of at most this many elements are gathered."""
CHUNK = 1 << 18
"""The most elements of a piece, and of a vector of gathered parameters."""

Array = Any


def fits(entry: Entry) -> bool:
    """Whether an entry may be part of a vector, or cut into pieces."""
    shape = tuple(entry.param.shape)
    kept = [part for value in entry.slots.values() for part in parts(value)]
    return entry.rule.needs == "element" and all(tuple(p.shape) in (shape, ()) for p in kept)


def limits(entry: Entry, most: int | None = None) -> tuple[int, int]:
    """The most elements of an entry that is gathered, and of its pack; CHUNK by default.

    Matrices may be larger, because their arithmetic costs far more than copying.
    """
    most = CHUNK if most is None else most
    return most // 2 if entry.rule.needs == "matrix" else min(SMALL, most), most


def packs(
    entries: Sequence[Entry],
    limits: Callable[[Entry], tuple[int, int]] = limits,
    alike: Callable[[Entry], Any] = lambda entry: None,
    kind: Callable[[Entry], Any] = lambda entry: None,
) -> list[list[int]]:
    """The places of the entries in each pack; an entry by itself is a pack of one.

    All processes that have pieces of the parameters make the same packs, since their messages have
    the order of these. So a piece counts as large as the largest.

    Args:
        entries: one entry per parameter.
        limits: the most elements of an entry in a pack, and of the pack.
        alike: a key that must be equal in a pack, such as the device.
        kind: what entries that do not fit into a vector of elements have in common where they may
            be in a pack; ``None`` for an entry that must be by itself.
    """
    found: list[list[int]] = []
    filling: dict[Any, tuple[list[int], int]] = {}
    for place, entry in enumerate(entries):
        size = math.prod(entry.param.shape) if entry.placement is None else entry.placement.most
        largest, most = limits(entry)
        own = None
        if 0 < size <= largest:
            own = "elements" if fits(entry) else kind(entry)
        if own is None:
            found.append([place])
            continue
        key = _key(entry), alike(entry), own
        pack, held = filling.get(key, ([], 0))
        if not pack or held + size > most:
            pack, held = [], 0
            found.append(pack)
        pack.append(place)
        filling[key] = pack, held + size
    return found


def _key(entry: Entry) -> Any:
    dtypes = [str(part.dtype) for value in entry.slots.values() for part in parts(value)]
    kinds = str(entry.param.dtype), str(entry.grad.dtype), *dtypes
    return id(entry.rule), key_of(entry.step), entry.kept, entry.placement, entry.copies, *kinds


def merged(xp: Any, entries: Sequence[Entry]) -> Entry:
    """One entry with the gathered arrays of several."""
    rules, steps, grads, params, slots, *_, copies = zip(*entries, strict=True)
    gather = partial(_gathered, xp, [*map(math.prod, map(attrgetter("shape"), params))])
    own = {}
    for name in slots[0]:
        own[name] = gather(*map(itemgetter(name), slots))
    return Entry(rules[0], steps[0], gather(*grads), gather(*params), own, copies=copies[0])


def _gathered(xp: Any, sizes: Sequence[int], *arrays: Any) -> Any:
    """The concatenated arrays; a 0-d array is repeated for each element of its parameter."""
    if isinstance(arrays[0], (tuple, list)):
        return tuple(map(partial(_gathered, xp, sizes), *arrays))
    vectors = []
    for array, size in zip(arrays, sizes, strict=True):
        vector = xp.reshape(array, (-1,))
        vectors.append(xp.broadcast_to(vector, (size,)) if vector.shape[0] < size else vector)
    return xp.concat(vectors)


def parted(
    xp: Any, param: Array, slots: dict[str, Any], entries: Sequence[Entry]
) -> Iterator[tuple[Array, dict[str, Any]]]:
    """The new parameter and slots of each merged entry, from the results of the merged one."""
    start = 0

    def part(old: Any, vector: Any) -> Any:
        if isinstance(old, (tuple, list)):
            return tuple(map(part, old, vector))
        return xp.reshape(vector[start : start + math.prod(old.shape)], old.shape)

    for entry in entries:
        own = {}
        for name, old in entry.slots.items():
            own[name] = part(old, slots[name])
        yield part(entry.param, param), own
        start += math.prod(entry.param.shape)


def run(
    xp: Any,
    entries: Sequence[Entry],
    common: dict[str, Any],
    *executor: Any,
    places: list[list[int]] | None = None,
    **step: Any,
) -> tuple[Iterator[tuple[Array, dict[str, Any]]], dict[str, Any]]:
    """``step.run`` with small parameters gathered: the same arguments and results.

    ``places``: the result of ``packs`` for these entries, if it is known.
    """
    places = packs(entries) if places is None else places
    groups, packed = [], []
    for pack in places:
        group = [*map(entries.__getitem__, pack)]
        groups.append(group)
        packed.append(merged(xp, group) if len(group) > 1 else group[0])
    results, common = stepping.run(xp, packed, common, *executor, **step)
    found: list[Any] = [None] * len(entries)
    for pack, group, result in zip(places, groups, results, strict=True):
        apart = parted(xp, *result, group) if len(group) > 1 else [result]
        for place, own in zip(pack, apart, strict=True):
            found[place] = own
    return iter(found), common


def in_chunks(
    xp: Any,
    kernel: Callable[..., Any],
    grad: Array,
    param: Array,
    slots: dict[str, Any],
    common: Any,
    s: Any,
) -> tuple[Array, dict[str, Any]]:
    """Call a kernel that writes into its vectors for one piece of them after another.

    Slots that are 0-d go into every piece as they were, and come out of the last.
    """

    def copied(array: Array) -> Array:
        return xp.asarray(array, copy=True)

    size = param.shape[0]
    single = {name: value for name, value in slots.items() if not _cut(value, size)}
    kept: dict[str, Any] = {}
    for start in range(0, size, CHUNK):
        piece = slice(start, start + CHUNK)
        kept = {name: map_parts(copied, value) for name, value in single.items()}
        cut = itemgetter(piece)
        own = {
            name: kept[name] if name in kept else map_parts(cut, value)
            for name, value in slots.items()
        }
        kernel(grad[piece], param[piece], own, common, s)
    for name, value in kept.items():
        for old, new in zip(parts(single[name]), parts(value), strict=True):
            old[...] = new
    return param, slots


def _cut(value: Any, size: int) -> bool:
    return all(tuple(part.shape) == (size,) for part in parts(value))
