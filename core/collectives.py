"""Exchanges of all parameters together, between the processes that hold their pieces.

For each level there is one collective for all sums of a mesh. What is done with whole arrays takes
two, and one bucket of parameters is whole at a time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .adding import Item, added, copied
from .exchanges import Noting, Plan, Request, placed
from .owners import buckets
from .placed import NotLocalError
from .placement import Mesh
from .shaping import EXCHANGED, stacked
from .wholes import Job, answers, is_local, of_request, of_step, returned

if TYPE_CHECKING:
    from .step import Entry

__all__ = ["Exchange", "Exchanging", "is_whole"]

Array = Any
Slots = dict[str, Any]
_PLACED: Any = placed

_log = logging.getLogger("samestep")


class Exchange(Protocol):
    """The processes of a mesh, as an adapter reaches them.

    An exchange that is ``immediate`` has ``total`` and ``whole`` instead, which are called while a
    rule is executed; see ``exchanges.Tape``.
    """

    def gathered(self, mesh: Mesh, vector: Array) -> Array:
        """The vectors of all processes, of equal length, as the rows of a matrix, in order."""

    def swapped(self, mesh: Mesh, parts: Sequence[Array], lengths: Sequence[int]) -> list[Array]:
        """What all processes have sent here; ``parts`` has a vector for each process.

        ``lengths``: the elements that come from each. Without this method all is gathered.
        """


class Exchanging:
    """The exchanges of one step: what ``step.run`` executes parameters with.

    Args:
        xp: array namespace.
        exchange: the processes.
        execute: executes a function on an entry, as one that has been made of it.
        coefficients: gives the scalars of an entry.
        shared: the shared state, as rules are shown it.
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
        self.plans: dict[Any, Plan | None] = {}
        self.copied: dict[int, tuple[Slots, Slots]] = {}

    def results(self, function: Callable[..., Any], entries: Sequence[Entry]) -> Iterator[Any]:
        """The results of a function of all entries, in their order.

        Sums are exchanged at once, and with them the terms of parameters that others have copies
        of. What is done with whole arrays is done a bucket at a time, when the first result of a
        bucket is asked for.
        """
        entries, plans, copies = [*entries], dict[int, Plan | None](), list[Item]()
        if self.immediate is None:
            for place, entry in enumerate(entries):
                if not is_whole(entry):
                    plans[place] = self._plan(function, entry)
                elif entry.copies is not None and is_local(function):
                    slots, terms = self.execute(function, entry)
                    self.copied[id(entry)] = slots, {**terms}
                    copies += [copied(entry, name, term) for name, term in terms.items()]
        levels = {place: _deepest(plan) for place, plan in plans.items()}
        late = {place for place, plan in plans.items() if _ends_whole(plan)}
        for level in range(1, max((len(copies) > 0, *levels.values())) + 1):
            now = (p for p in plans if plans[p] and not (p in late and levels[p] == level))
            self._answer(function, entries, plans, dict.fromkeys(now, level), copies)
            copies = []
        if not late:
            return map(partial(self._result, function), entries)
        return self._by_bucket(function, entries, plans, {place: levels[place] for place in late})

    def _by_bucket(
        self,
        function: Callable[..., Any],
        entries: list[Entry],
        plans: Mapping[int, Plan | None],
        late: Mapping[int, int],
    ) -> Iterator[Any]:
        """The results in order; ``late``: entries for which arrays come together, and the level."""
        bucket_of: dict[int, list[int]] = {}
        meshes: dict[Mesh, list[int]] = {}
        for place in late:
            placement: Any = entries[place].placement
            meshes.setdefault(placement.mesh, []).append(place)
        for mesh, places in meshes.items():
            work = [_work(entries[place]) for place in places]
            for bucket in buckets(work, math.prod(mesh.sizes)):
                together = [places[at] for at in bucket]
                bucket_of |= dict.fromkeys(together, together)
        done: dict[int, Any] = {}
        for place, entry in enumerate(entries):
            if place in late and place not in done:
                own = {at: entries[at] for at in bucket_of[place]}
                terms = self._answer(function, own, plans, {at: late[at] for at in own})
                for at, answered in own.items():
                    done[at] = self._result(function, answered, terms.get(at))
            yield done.pop(place) if place in late else self._result(function, entry)

    def _result(
        self, function: Callable[..., Any], entry: Entry, terms: Slots | None = None
    ) -> Any:
        """The result of a function of an entry with all answers.

        ``terms``: where the whole function was executed elsewhere, its terms of sums.
        """
        if is_whole(entry):
            return self.copied.pop(id(entry), None) or self.execute(function, entry)
        made = self._made(function, entry) if terms is None else returned(function)
        try:
            first, second = self.execute(function, entry, made)
        except NotLocalError as error:  # of an exchange that is immediate; others have a plan
            raise ValueError(
                f"{entry.rule.name}: {error}, and pieces are not brought together while a rule is "
                "executed on them; step where arrays are whole, as in jax.jit without shard_map"
            ) from error
        new = first if isinstance(first, dict) else second
        new = {name: value for name, value in new.items() if name != EXCHANGED}
        return (new, terms or second) if isinstance(first, dict) else (first, new)

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

    def _plan(self, function: Callable[..., Any], entry: Entry) -> Plan | None:
        """The exchanges of a function of an entry; the first time they are found by executing it.

        ``None``: the rule does something with a piece that needs the whole.
        """
        s = self.coefficients(entry)
        key = function, id(entry.rule), entry.kept, entry.stacked, entry.placement, id(s)
        if key not in self.plans:
            known = entry.rule.bare, entry.kept, entry.placement, tuple(entry.slots)
            kind = function, *known, _switches(s)
            if kind not in _plans:
                _plans[kind] = self._found(function, entry, s)
            self.plans[key] = _plans[kind]
        return self.plans[key]

    def _is_brought(self, function: Callable[..., Any], entry: Entry) -> bool:
        """Whether a function of an entry is executed on whole arrays."""
        return self.immediate is None and self._plan(function, entry) is None

    def _found(self, function: Callable[..., Any], entry: Entry, s: Any) -> Plan | None:
        notes = Noting()
        made = _PLACED(*self._kind(function, entry), None, 0, notes)
        made = stacked(made, self.vmap) if entry.stacked else made
        arrays = entry.grad, entry.param, entry.slots, self.shared
        try:
            made(self.xp, entry.rule.bare, *arrays, s)
        except NotLocalError as error:
            if entry.rule.name not in _said:
                _said.add(entry.rule.name)
                _log.warning(
                    "%s: each step brings whole parameters together: %s", entry.rule.name, error
                )
            return None
        return tuple(notes.requests)

    def _answer(
        self,
        function: Callable[..., Any],
        entries: Any,
        plans: Mapping[int, Plan | None],
        levels: Mapping[int, int],
        copies: Sequence[Item] = (),
    ) -> dict[int, Slots]:
        """Put the answers to what entries ask for, each at its level, beside their slots.

        Args:
            function: the function that they ask in.
            entries: a list, or a dict, of entries, which are replaced.
            plans: their exchanges.
            levels: which entries, and at which level.
            copies: terms that other processes have too.

        Returns:
            The terms of sums of entries whose function has been executed on whole arrays.
        """
        items: list[Item] = []
        jobs: list[Job] = []
        for place, level in levels.items():
            entry, plan = entries[place], plans[place]
            if plan is None:
                common, s = self.shared, self.coefficients(entry)
                jobs.append(of_step(self.xp, place, function, entry, common, s, self.vmap))
                continue
            asked = {str(at): one for at, one in enumerate(plan) if one.level == level}
            if not asked:
                continue
            _, sent = self.execute(function, entry, self._made(function, entry, level))
            for name, request in asked.items():
                item = Item(place, entry, request, sent[name], name)
                if request.call is None:
                    items.append(item)
                else:
                    jobs.append(of_request(self.xp, item))
        totals = added(self.xp, self.exchange, [*items, *copies])
        sums = [
            (item.place, int(item.name), (total,))
            for item, total in zip(items, totals, strict=False)
        ]
        for item, total in zip(copies, totals[len(items) :], strict=True):
            self.copied[item.place][1][item.name] = total
        wholes = [
            (job.place, job.at, answer)
            for job, answer in zip(jobs, answers(self.xp, self.exchange, jobs), strict=True)
        ]
        for place, _, answer in sorted([*sums, *wholes], key=lambda one: one[:2]):
            entry = entries[place]
            known = (*entry.slots.get(EXCHANGED, ()), *answer)
            entries[place] = entry._replace(slots={**entry.slots, EXCHANGED: known})
        return {job.place: job.terms for job in jobs if job.terms is not None}

    def terms(
        self, function: Callable[..., Any], entries: Sequence[Entry], sums: Sequence[Slots]
    ) -> list[Slots]:
        """Terms of sums over all parameters, of parameters that are stacked along a cut axis."""
        items = []
        for place, (entry, terms) in enumerate(zip(entries, sums, strict=True)):
            over = entry.placement.one(entry.kept).apart if entry.placement is not None else ()
            done = not is_whole(entry) and self._is_brought(function, entry)  # of all of the stack
            if over and not done:
                request = Request(1, "sum", over, ())
                items += [
                    Item(place, entry, request, term, name, True) for name, term in terms.items()
                ]
        found = [*sums]
        if self.immediate is not None:
            for item in items:
                placement: Any = item.entry.placement
                mesh, over = placement.mesh, item.request.over
                total = self.immediate.total(mesh, "sum", over, item.partial)
                found[item.place] = {**found[item.place], item.name: total}
            return found
        for item, total in zip(items, added(self.xp, self.exchange, items), strict=True):
            found[item.place] = {**found[item.place], item.name: total}
        return found

    def agreed(self, entry: Entry, values: Slots) -> Slots:
        """What has come of sums over all parameters, where processes have them on several meshes.

        Those who share a small mesh have the same bits of its sums, others may have other ones.
        """
        home = getattr(self.exchange, "home", None)
        if home is None:
            return values
        entry = entry._replace(copies=home)
        items = [copied(entry, name, value) for name, value in values.items()]
        return dict(zip(values, added(self.xp, self.exchange, items), strict=True))


_plans: dict[Any, Plan | None] = {}
"""Exchanges by function, rule, placement, and what is switched on in a step."""
_said: set[str] = set()
"""The rules of which the log has been told that they bring whole parameters together."""


def _switches(value: Any) -> Any:
    """The truth values among the scalars of a step, on which its exchanges may depend."""
    if isinstance(value, dict):
        return tuple((name, found) for name, each in value.items() if (found := _switches(each)))
    if isinstance(value, tuple):
        return tuple(map(_switches, value))
    return (value,) if isinstance(value, bool) else ()


def _deepest(plan: Plan | None) -> int:
    """The highest level of exchanges."""
    return max((request.level for request in plan or ()), default=0)


def _ends_whole(plan: Plan | None) -> bool:
    """Whether the last thing that is asked for are whole arrays."""
    if plan is None:
        return True
    deepest = _deepest(plan)
    return bool(plan) and all(one.call is not None for one in plan if one.level == deepest)


def _work(entry: Entry) -> tuple[int, int]:
    """The work for a parameter that is whole, and its elements."""
    placement: Any = entry.placement
    size = math.prod(placement.shape) * (entry.param.shape[0] if entry.stacked else 1)
    return size * min(placement.shape), size


def is_whole(entry: Entry) -> bool:
    """Whether a process has all that a parameter's step needs."""
    placement = entry.placement
    if placement is None or entry.is_empty or entry.rule.needs == "element":
        return True
    return placement.one(entry.kept).is_whole
