"""Exchanges of all parameters together: one collective for each level and mesh.

Everything that the parameters of a mesh send goes in one vector, and every process reduces what has
come from all of them in the order of processes. So all processes have the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .arrays import cast, widest
from .exchanges import Noting, Plan, Request, placed
from .placed import over_of
from .placement import Mesh
from .shaping import EXCHANGED, stacked

if TYPE_CHECKING:
    from .step import Entry

__all__ = ["Exchange", "Exchanging", "is_whole"]

Array = Any
Slots = dict[str, Any]
_PLACED: Any = placed


class Exchange(Protocol):
    """The processes of a mesh, as an adapter reaches them."""

    def gathered(self, mesh: Mesh, vector: Array) -> Array:
        """The vectors of all processes, of equal length, as the rows of a matrix, in order."""


class Exchanging:
    """The exchanges of one step: what ``step.run`` executes parameters with.

    Args:
        xp: array namespace.
        exchange: the processes.
        execute: executes a function on an entry, as one that has been made of it.
        coefficients: gives the scalars of an entry.
        shared: gives the shared state, as rules are shown it.
        vmap: the framework's function, for batch axes.
    """

    def __init__(
        self,
        xp: Any,
        exchange: Any,
        execute: Callable[..., Any],
        coefficients: Callable[..., Any],
        shared: Slots,
        vmap: Callable[..., Any] | None,
    ) -> None:
        self.xp, self.exchange, self.execute = xp, exchange, execute
        self.coefficients, self.shared, self.vmap = coefficients, shared, vmap
        self.immediate = exchange if getattr(exchange, "immediate", False) else None
        self.plans: dict[Any, Plan] = {}

    def __call__(self, function: Callable[..., Any], entry: Entry) -> Any:
        """The results of a function of one entry, to which ``answered`` has been applied."""
        if is_whole(entry):
            return self.execute(function, entry)
        first, second = self.execute(function, entry, self._made(function, entry))
        new = first if isinstance(first, dict) else second
        new = {name: value for name, value in new.items() if name != EXCHANGED}
        return (new, second) if isinstance(first, dict) else (first, new)

    def _made(self, function: Callable[..., Any], entry: Entry, level: int = 0) -> Any:
        plan = None if self.immediate is not None else self._plan(function, entry)
        return _PLACED(*self._kind(function, entry), plan, level, self.immediate)

    def _kind(self, function: Callable[..., Any], entry: Entry) -> Any:
        """The arguments of ``placed`` that do not depend on exchanges."""
        placement: Any = entry.placement
        known = entry.rule._known
        key = "axes of slots", placement, entry.kept
        if key not in known:
            own = entry.kept._replace(batch=())
            known[key] = tuple(placement.one(entry.kept).slots(entry.rule, own).items())
        return function, entry.kept, self.vmap, placement, known[key]

    def _plan(self, function: Callable[..., Any], entry: Entry) -> Plan:
        """The exchanges of a function of an entry; the first time they are found by executing it.

        Raises:
            NotLocalError: the rule does something with a piece that needs the whole.
        """
        s = self.coefficients(entry)
        key = function, id(entry.rule), entry.kept, entry.stacked, entry.placement, id(s)
        if key not in self.plans:
            kind = function, entry.rule.bare, entry.kept, entry.placement, _switches(s)
            if kind not in _plans:
                notes = Noting()
                made = _PLACED(*self._kind(function, entry), None, 0, notes)
                made = stacked(made, self.vmap) if entry.stacked else made
                arrays = entry.grad, entry.param, entry.slots, self.shared
                made(self.xp, entry.rule.bare, *arrays, s)
                _plans[kind] = tuple(notes.requests)
            self.plans[key] = _plans[kind]
        return self.plans[key]

    def answered(self, function: Callable[..., Any], entries: Sequence[Entry]) -> list[Entry]:
        """The entries with the results of all exchanges that a function needs."""
        entries = [*entries]
        if self.immediate is not None:
            return entries
        plans = {
            place: plan
            for place, entry in enumerate(entries)
            if not is_whole(entry) and (plan := self._plan(function, entry))
        }
        deepest = max((one.level for plan in plans.values() for one in plan), default=0)
        for level in range(1, deepest + 1):
            items: list[Item] = []
            for place, plan in plans.items():
                asked = {str(at): one for at, one in enumerate(plan) if one.level == level}
                if asked:
                    entry = entries[place]
                    made = self._made(function, entry, level)
                    _, sent = self.execute(function, entry, made)
                    items += [Item(place, entry, one, sent[at]) for at, one in asked.items()]
            totals = added(self.xp, self.exchange, items)
            for item, total in zip(items, totals, strict=True):
                entry = entries[item.place]
                known = (*entry.slots.get(EXCHANGED, ()), total)
                entries[item.place] = entry._replace(slots={**entry.slots, EXCHANGED: known})
        return entries

    def terms(self, entries: Sequence[Entry], sums: Sequence[Slots]) -> list[Slots]:
        """Terms of sums over all parameters, of parameters that are stacked along a cut axis."""
        items = []
        for place, (entry, terms) in enumerate(zip(entries, sums, strict=True)):
            over = entry.placement.one(entry.kept).apart if entry.placement is not None else ()
            request = Request(1, "sum", over, ())
            if over:
                items += [Item(place, entry, request, term, name) for name, term in terms.items()]
        found = [*sums]
        for item, total in zip(items, added(self.xp, self.exchange, items), strict=True):
            found[item.place] = {**found[item.place], item.name: total}
        return found


_plans: dict[Any, Plan] = {}
"""Exchanges by function, rule, placement, and what is switched on in a step."""


def _switches(value: Any) -> Any:
    """The truth values among the scalars of a step, on which its exchanges may depend."""
    if isinstance(value, dict):
        return tuple((name, found) for name, each in value.items() if (found := _switches(each)))
    if isinstance(value, tuple):
        return tuple(map(_switches, value))
    return (value,) if isinstance(value, bool) else ()


def is_whole(entry: Entry) -> bool:
    """Whether a process has all that a parameter's step needs."""
    placement = entry.placement
    return placement is None or entry.rule.needs == "element" or placement.one(entry.kept).is_whole


class Item(NamedTuple):
    """What a process sends for a request: ``place`` is that of the entry."""

    place: int
    entry: Entry
    request: Request
    partial: Array
    name: str = ""

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
        most = [
            part.size if part.cut is None else part.cut.most
            for axis in self.request.axes
            for part in axis
        ]
        batch = placement.one(self.entry.kept).room if not self.name else 1
        return math.prod([stack if not self.name else 1, batch, *most])


def added(xp: Any, exchange: Exchange, items: Sequence[Item]) -> list[Array]:
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
        vector = xp.concat([_padded(xp, items[place], wide) for place in order])
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
                first += size
            start = end
    return totals


def _padded(xp: Any, item: Item, dtype: Any) -> Array:
    """A partial result as a vector that is as long in every process."""
    vector = cast(xp, xp.reshape(item.partial, (-1,)), dtype)
    missing = item.room() - vector.shape[0]
    if not missing:
        return vector
    zero = xp.zeros_like(xp.sum(vector))  # on the device of the vector
    return xp.concat([vector, xp.broadcast_to(zero, (missing,))])
