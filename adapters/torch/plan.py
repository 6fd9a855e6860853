"""The tensors that a step changes, and which of them go through the kernel together."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate, chain, count, repeat
from operator import add, attrgetter, is_
from typing import Any, NamedTuple

import torch
from samestep.arrays import parts
from samestep.counts import Counts, warn_apart
from samestep.kept import kept_by, rule_of
from samestep.packing import packs
from samestep.rule import Rule
from samestep.step import Entry

from .batch import Batch
from .counting import entry
from .entries import entries_of, slots_in
from .gathering import gatherings
from .kernels import FLAT, is_fake, is_plain, limits, real, real_gradient
from .memory import address, in_shared_memory, is_shared, overlapping, refuse_common, refuse_strided
from .pieces import pieces, slots_of_piece
from .shards import Shards
from .trial import kinds, variant

__all__ = ["Member", "Plan"]

Tensors = Sequence[torch.Tensor]
_in_order = torch.Tensor.is_contiguous
_target = weakref.ref.__call__
_dtype = attrgetter("dtype")


def _writes(tensor: torch.Tensor) -> int:
    """How often a tensor was written into; it is not known of a tensor for inference."""
    return 0 if tensor.is_inference() else tensor._version


class Member(NamedTuple):
    """A parameter that has a gradient, with its group and its state."""

    group: int
    name: str
    param: torch.Tensor
    state: dict[str, Any]
    slots: dict[str, Any]
    steps: int
    missed: tuple[tuple[str, int], ...] = ()
    begins: bool = False
    """Whether some slot was switched off in the steps before."""


class Plan:
    """The parameters that have a gradient, in packs.

    A plan keeps no tensor alive. It knows parameters and state by weak references, addresses and
    formats, and every step takes the tensors themselves out of the optimizer. A plan holds as long
    as these are the same; other code may replace any of them, or its memory, without a call. The
    state of small parameters is moved into one tensor per slot and pack, and ``optimizer.state``
    then holds views of it. Only gradients and parameters are gathered in every step.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        members: Sequence[Member],
        grads: Sequence[torch.Tensor],
        common: dict[str, Any],
        execution: str,
        capturable: bool,
        shards: Shards | None = None,
    ) -> None:
        """Read the state, and move that of small parameters together.

        Args:
            rules: one per parameter group.
            members: the parameters that have a gradient.
            grads: their gradients.
            common: shared state.
            execution: how the kernels are executed.
            capturable: whether steps are counted on the devices of the parameters.
            shards: the pieces of DTensors, if there are any; the gradients are pieces.

        Raises:
            ValueError: a state in shared memory cannot be stepped where it is.
        """
        self.rules = rules
        self.variants = [variant(rule) for rule in rules]
        self.capturable = capturable
        self.states: Any = [member.state for member in members]
        self.in_pieces = shards is not None
        self.shards = None if shards is None else shards.of(members)
        params = [member.param for member in members]
        if self.in_pieces:
            params = pieces(params)
        self.address = address if any(map(is_fake, params)) else torch.Tensor.data_ptr  # fast
        self.complex = any(param.is_complex() for param in params)
        self.captures = capturable or any(param.is_cuda for param in params)
        self.several = len({param.device for param in params}) > 1
        self.expected = [member.steps for member in members]
        self.fake = any(is_fake(state["step"]) for state in self.states)
        if len({*self.expected}) > 1:
            for rule in {id(rule): rule for rule in rules if rule.withholds}.values():
                warn_apart(rule)
        self.missed = [member.missed for member in members]
        self.begin: dict[int, Rule] = {}
        entries = [
            Entry(
                own := self._rule(rules[member.group], member),
                Counts(0, step, gone) if gone else step,
                real_gradient(grad),
                param := real(part.detach()),
                slots_of_piece(member.slots) if self.in_pieces else member.slots,
                kept_by(own, param.ndim),
                placement=None if shards is None else shards.placements[id(member.param)],
                copies=None if shards is None else shards.copies.get(id(member.param)),
            )
            for member, part, grad, step, gone in zip(
                members, params, grads, self.expected, self.missed, strict=True
            )
        ]
        refuse_common(members, entries)
        flat = FLAT[execution]
        if flat is not None:
            refuse_strided(members, entries)
        self.counters = self._counters(params)
        self._place(members)
        apart = overlapping([entry.param for entry in entries])
        packed = packs(
            entries,
            limits=partial(limits, execution),
            alike=lambda entry: (
                entry.param.device,
                is_plain(entry.param),
                id(entry.param) if id(entry.param) in apart or _is_alone(entry) else None,
            ),
            kind=kinds(common),
        )
        self.batches = [
            Batch([(place, entries[place]) for place in pack], self.places[pack[0]], flat)
            for pack in packed
        ]
        self.gatherings = gatherings(self.batches, entries)
        self.single = [batch.places[0] for batch in self.batches if not batch.gathers]
        self.moved = self._slots_of([b for b in self.batches if b.gathers or b.flat])
        self.unmoved = self._slots_of([b for b in self.batches if not (b.gathers or b.flat)])
        firsts = [members[batch.places[0]] for batch in self.batches]
        self.firsts = [(one.group, one.name, _form(one.param)) for one in firsts]
        self.used: Any = None
        self.kinds: Any = None

    def _counters(self, params: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The step counts of all parameters, on the host or on each device of the parameters.

        The ``step`` of every state becomes an element of a count. There are no counts if other
        processes see a ``step``, which then stays where it is.
        """
        if any(in_shared_memory(state["step"]) for state in self.states):
            return []
        devices = [p.device if self.capturable else torch.device("cpu") for p in params]
        counters = []
        for device in dict.fromkeys(devices):
            places = [place for place, own in enumerate(devices) if own == device]
            counts = torch.tensor([self.expected[place] for place in places], device=device)
            for place, one in zip(places, counts, strict=True):
                self.states[place]["step"] = one.detach()  # a view keeps what it is a view of
            counters.append(counts)
        return counters

    def _place(self, members: Sequence[Member]) -> None:
        """Note where counts and slots are among all values of the states."""
        self.names = [*chain.from_iterable(self.states)]
        firsts = accumulate(map(len, self.states), initial=0)
        found = [
            dict(zip(state, count(first), strict=False))
            for state, first in zip(self.states, firsts, strict=False)
        ]
        kept = [("step", *entries_of(member.slots)) for member in members]
        own = [place[name] for place, names in zip(found, kept, strict=True) for name in names]
        gone = {entry(name) for rule in self.rules for name in rule.withholds}.union(*kept)
        plain = all(isinstance(part, torch.Tensor) for s in self.states for part in s.values())
        self.own = None if plain and gone.issuperset(self.names) else own
        self.steps = [place["step"] for place in found]
        self.places = [
            {name: slots_in(place)[name] for name in member.slots}
            for place, member in zip(found, members, strict=True)
        ]

    def _slots_of(self, batches: Sequence[Batch]) -> list[int]:
        """The places of the slots of the parameters in some batches."""
        slots = (self.places[place].values() for batch in batches for place in batch.places)
        return [place for value in chain.from_iterable(slots) for place in parts(value)]

    def values(
        self,
        rules: Sequence[Rule],
        own: Sequence[Any],
        params: Sequence[Any],
        grads: Sequence[torch.Tensor],
        where: Sequence[Any],
        state: Any,
    ) -> list[Any] | None:
        """All values in the states of the parameters; ``None`` if the plan does not hold any more.

        Everything is compared before every step, since other code may replace any of it without a
        call: a group's parameters, ``.data``, ``.grad``, an entry of ``state``, a count. The
        comparison makes no object per parameter that Python's garbage collector has to track.

        Args:
            rules: one per parameter group.
            own: the parameters that have a gradient.
            params: the same, or the pieces of DTensors.
            grads: their gradients.
            where: names and places of the parameters.
            state: the state of the optimizer.
        """
        if where != self.where:
            return None
        states = [*state.values()]
        if len(states) != len(own) or not all(map(is_, own, state)):
            states = [*map(state.get, own)]
        try:
            if [*chain.from_iterable(states)] != self.names:
                return None
            values = [*chain.from_iterable(map(dict.values, states))]
            if self.in_pieces:
                values = pieces(values)
            known = values if self.own is None else [values[place] for place in self.own]
            memory = [*map(self.address, params)]
            holds = (
                [*map(self.address, known)] == self.addresses
                and all(map(is_, map(values.__getitem__, self.unmoved), map(_target, self.kept)))
                and self._formats(params, grads, values) == self.formats
                and (memory == self.memory or self._only_moved(params, memory))
                and self._counted(values) == self.expected
                and (rules is self.rules or [variant(rule) for rule in rules] == self.variants)
            )
        except (RuntimeError, TypeError):  # no state, or something in it that has no memory
            return None
        return values if holds else None

    def _counted(self, values: Sequence[Any]) -> list[int]:
        """The counts of all parameters; ``capturable``: how often they were written on a device.

        Reading a count there would make the host wait.
        """
        counts = self.counters or [values[place] for place in self.steps]
        if self.capturable and any(count.device.type != "cpu" for count in counts):
            return [*map(_writes, counts)]
        if self.fake:  # of which there is no value
            return self.expected
        if not self.counters:
            return [*map(int, counts)]
        return [*chain.from_iterable(map(torch.Tensor.tolist, counts))]

    def _formats(self, params: Tensors, grads: Tensors, values: Sequence[Any]) -> list[Any]:
        """The formats of gradients and parameters; where they are gathered, that shows the rest.

        Slots that were moved together are seen as one vector or stack, as long as each is in order.
        """
        formats: list[Any] = [*map(_dtype, grads)]
        for place in self.single:
            formats += grads[place].layout, params[place].shape
        formats += map(_in_order, map(values.__getitem__, self.moved))
        return formats

    def _only_moved(self, params: Sequence[torch.Tensor], memory: list[int]) -> bool:
        """Whether parameters have only moved to other memory of their own.

        This needs no new plan: some training loops exchange ``data`` at every step.
        """
        if _kinds(params) != self.kinds or overlapping([param.detach() for param in params]):
            return False
        self.memory = memory
        return True

    def enter(self, state: Any, own: Tensors, params: Tensors, grads: Any, where: Any) -> None:
        """Store the states of the plan in the optimizer, and note what the plan is made for."""
        state.update(zip(own, self.states, strict=True))
        values = [*chain.from_iterable(map(dict.values, self.states))]
        if self.in_pieces:
            values = pieces(values)
        known = values if self.own is None else [values[place] for place in self.own]
        self.states = None
        self.where = None if torch.is_inference_mode_enabled() else where  # else checked anew
        self.formats, self.kinds = self._formats(params, grads, values), _kinds(params)
        self.watched = [*map(weakref.ref, known)]
        self.kept = [weakref.ref(values[place]) for place in self.unmoved]
        self.addresses, self.memory = [*map(self.address, known)], [*map(self.address, params)]
        if self.capturable:
            self.expected = self._counted(values)

    def entries(
        self,
        rules: Sequence[Rule],
        params: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor],
        values: Sequence[Any],
        calls: Any,
    ) -> list[Entry]:
        """One entry per batch, for the step after ``calls`` calls.

        Raises:
            RuntimeError: a parameter has another shape in the memory that it had.
        """
        if rules is not self.used:
            self.used, self.of_batches = rules, self._rules_of_batches(rules)
            self.spread = self.several or any(map(attrgetter("has_arrays"), rules))
        if self.complex:
            params, grads = [*map(real, params)], [*map(real_gradient, grads)]
        for gathering in self.gatherings:
            gathering.grad.fill(gathering.own(grads))
            gathering.param.fill(gathering.own(params))
        found = []
        for batch, rule in zip(self.batches, self.of_batches, strict=True):
            place = batch.places[0]
            step = values[self.steps[place]] if self.capturable else self.expected[place]
            alike = rule.constant or (not self.capturable and step == calls)
            if self.missed[place] or not alike:
                step = Counts(calls, step, self.missed[place])
            found.append(batch.entry(rule, step, grads, params, values))
        return found

    def _rule(self, rule: Rule, member: Member) -> Rule:
        """The rule of a parameter in the first step of the plan."""
        own = rule_of(rule, member.name, member.param)
        return self.begin.setdefault(id(own), own.beginning()) if member.begins else own

    def _rules_of_batches(self, rules: Sequence[Rule]) -> list[Rule]:
        variants: dict[Any, Rule] = {}
        begin = {id(rule): rule for rule in self.begin.values()}
        found = []
        for batch, (group, name, whole) in zip(self.batches, self.firsts, strict=True):
            key = group, batch.rule
            if key not in variants:
                variants[key] = begin.get(batch.rule) or rule_of(rules[group], name, whole)
            found.append(variants[key])
        return found

    def left(self) -> list[tuple[torch.Tensor, int]]:
        """The parts of the state that are where the plan has them, and their addresses."""
        known = zip(map(_target, self.watched), self.addresses, strict=True)
        return [(part, at) for part, at in known if part is not None and address(part) == at]

    def finish(
        self,
        results: Iterable[Any],
        params: Sequence[torch.Tensor],
        values: Sequence[Any],
        taken: torch.Tensor | None = None,
    ) -> None:
        """Compute the results, put gathered parameters back, and count the step.

        Args:
            results: an iterator that computes the result of one batch after another.
            params: the parameters.
            values: all values in their states.
            taken: whether the step is taken, where that is known on the device only.
        """
        if self.complex:
            params = [*map(real, params)]
        left = [*self.gatherings]
        try:
            for batch, _ in zip(self.batches, results, strict=True):
                if left and batch is left[0].last:
                    one = left.pop(0)
                    torch._foreach_copy_(one.own(params), one.param.views)
        finally:  # where a batch fails, those before it have stepped
            for one in left:
                torch._foreach_copy_(one.own(params), one.param.views)
        for counts in self.counters or [values[place] for place in self.steps]:
            counts.add_(1 if taken is None else taken.to(counts.device))
        known = taken is None and self.counters and not self.capturable
        after = map(add, self.expected, repeat(1)) if known else self._counted(values)
        self.expected = [*after]
        if self.begin:
            self.begin, self.used = {}, None


def _is_alone(entry: Entry) -> bool:
    """Whether the state of a parameter cannot lie in one vector with others'.

    A 0-d slot would be repeated there for each element, of which the state would show the first.
    """
    kept = [part for value in entry.slots.values() for part in parts(value)]
    one = entry.rule.needs == "element" and any(p.numel() != entry.param.numel() for p in kept)
    return one or is_shared(entry)


def _kinds(tensors: Sequence[torch.Tensor]) -> Any:
    return [(type(t), t.shape, t.stride(), t.dtype, t.device, t.is_conj()) for t in tensors]


def _form(param: torch.Tensor) -> torch.Tensor:
    """A tensor of the shape of a parameter that keeps nothing alive."""
    return torch.empty(param.shape, device="meta")
