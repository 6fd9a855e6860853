"""Which tensors a step is taken on, and which of them go through the kernel together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

import array_api_compat.torch as xp

import torch
from samestep.arrays import map_parts, parts
from samestep.packing import fits, packs
from samestep.rule import Rule
from samestep.step import Entry, run

from .kernels import real, real_gradient

__all__ = ["Member", "Plan", "tried"]


class Member(NamedTuple):
    """A parameter that has a gradient: where it is, and its state."""

    group: int
    name: str
    param: torch.Tensor
    state: dict[str, Any]
    slots: dict[str, Any]


class Plan:
    """The parameters that have a gradient, in packs.

    A plan is good for as long as parameters, groups and state are the very same tensors; that is
    looked at before every step, so that whoever replaces one is served. The state of small
    parameters is moved into one tensor per slot and pack, of which ``optimizer.state`` then holds
    views; only gradients and parameters are gathered in every step.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        members: Sequence[Member],
        grads: Sequence[torch.Tensor],
        common: dict[str, Any],
        limit: int,
        capturable: bool,
    ) -> None:
        """Read the state, and move that of small parameters together.

        Args:
            rules: one per parameter group.
            members: the parameters that have a gradient.
            grads: their gradients.
            common: shared state.
            limit: elements of a pack, at most; 0 for no packs.
            capturable: whether steps are counted on the devices of the parameters.
        """
        self.rules = rules
        self.variants = [_variant(rule) for rule in rules]
        self.members = members
        self.params = [member.param for member in members]
        self.groups = [member.group for member in members]
        self.complex = any(param.is_complex() for param in self.params)
        self.grads = _formats(grads)
        self.states = [member.state for member in members]
        self.owners: list[Any] = []
        self.owned: list[Any] = []
        self.capturable = capturable
        self.expected = [int(state["step"]) for state in self.states]
        self.counters = self._counters()
        entries = [
            Entry(
                rules[member.group].of(member.name, member.param.shape),
                step,
                real_gradient(grad),
                real(member.param.detach()),
                member.slots,
            )
            for member, grad, step in zip(members, grads, self.expected, strict=True)
        ]
        apart = _overlapping([entry.param for entry in entries])
        places = packs(
            entries,
            limit=limit,
            alike=lambda entry: (
                entry.param.device,
                _plain(entry.param),
                id(entry.param) if id(entry.param) in apart else None,
            ),
            stacks=_stackable(common),
        )
        self.batches = [
            _Batch([(place, entries[place]) for place in pack], limit > 0) for pack in places
        ]
        single = [b.places[0] for b in self.batches if not b.gathers]
        self.single = [self.params[place] for place in single]
        self.layouts = _layouts(self.single)
        self.gathered = [self.params[p] for b in self.batches if b.gathers for p in b.places]
        self.addresses = _pointers(self.gathered)
        self.kinds = _kinds(self.gathered)
        self.kept = _values(self.states)
        self.parts = [part for m in members for v in m.slots.values() for part in parts(v)]
        self.pointers = _pointers(self.parts)

    def _counters(self) -> list[torch.Tensor]:
        """The steps taken: of all parameters on the host, or of those on a device there.

        Every state's own ``step`` becomes an element of it.
        """
        devices = [p.device if self.capturable else torch.device("cpu") for p in self.params]
        counters = []
        for device in dict.fromkeys(devices):
            places = [place for place, own in enumerate(devices) if own == device]
            counts = torch.tensor([self.expected[place] for place in places], device=device)
            for place, count in zip(places, counts, strict=True):
                self.states[place]["step"] = count
            counters.append(counts)
        return counters

    def holds(
        self,
        rules: Sequence[Rule],
        params: Sequence[Any],
        grads: Sequence[torch.Tensor],
        groups: Sequence[int],
        state: Any,
    ) -> bool:
        """Whether these are still the tensors that the plan was made for.

        Asked before every step, so it makes no object per parameter that Python's garbage
        collector would have to look at.
        """
        return (
            _same(params, self.params)
            and groups == self.groups
            and _formats(grads) == self.grads
            and (_same(rules, self.rules) or [_variant(rule) for rule in rules] == self.variants)
            and _same([*state], self.owners)
            and _same([*state.values()], self.owned)
            and _same(_values(self.states), self.kept)
            and _pointers(self.parts) == self.pointers
            and (_pointers(self.gathered) == self.addresses or self._only_moved())
            and _layouts(self.single) == self.layouts
            and (self.capturable or self._counted() == self.expected)
        )

    def _only_moved(self) -> bool:
        """Whether gathered parameters have new memory of their own, all else being as it was.

        That is no reason to plan again: there are those who exchange ``data`` at every step.
        """
        same = _kinds(self.gathered) == self.kinds and all(p.is_contiguous() for p in self.gathered)
        if not same or _overlapping([param.detach() for param in self.params]):
            return False
        self.addresses = _pointers(self.gathered)
        return True

    def enter(self, state: Any) -> None:
        """Make the states of the plan those of the optimizer."""
        state.update(zip(self.params, self.states, strict=True))
        self.owners, self.owned = [*state], [*state.values()]

    def entries(self, rules: Sequence[Rule], grads: list[torch.Tensor]) -> list[Entry]:
        """One entry per batch, for the step to be taken.

        Raises:
            RuntimeError: a parameter has another shape in the memory that it had.
        """
        variants: dict[Any, Rule] = {}
        grads = [*map(real_gradient, grads)] if self.complex else grads
        params = self._real(self.params)

        def rule_of(batch: _Batch) -> Rule:
            member = self.members[batch.places[0]]
            key = member.group, batch.rule
            if key not in variants:
                variants[key] = rules[member.group].of(member.name, member.param.shape)
            return variants[key]

        return [
            batch.entry(
                rule_of(batch),
                self.step_of(batch.places[0]),
                [grads[place] for place in batch.places],
                [params[place] for place in batch.places],
            )
            for batch in self.batches
        ]

    def release(self, params: Sequence[torch.Tensor]) -> None:
        """Give the state of parameters that are not among these memory of its own again.

        A view would keep the whole vector alive.
        """
        staying = {id(param) for param in params}
        for batch in self.batches:
            for place in batch.places if batch.gathers else ():
                member = self.members[place]
                for value in member.slots.values() if id(member.param) not in staying else ():
                    for part in parts(value):
                        part.data = part.clone()

    def finish(self, batch: int) -> None:
        """Put the parameters of a batch back to where they came from."""
        own = self.batches[batch]
        if own.gathers:
            own.param.scatter(self._real([self.params[place] for place in own.places]))

    def _real(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [*map(real, tensors)] if self.complex else tensors

    def step_of(self, place: int) -> Any:
        """How many steps a parameter has taken; not read from its device if that counts."""
        return self.states[place]["step"] if self.capturable else self.expected[place]

    def count(self, taken: torch.Tensor | None = None) -> None:
        """One more step of every parameter, if it was ``taken``."""
        for counts in self.counters:
            counts.add_(1 if taken is None else taken.to(counts.device))
        if not self.capturable:
            self.expected = self._counted()

    def _counted(self) -> list[int]:
        return [*chain.from_iterable(counts.tolist() for counts in self.counters)]


class _Batch:
    """Parameters that go through the kernel as one: a pack as a vector, a single one as it is.

    ``vector``: the kernel sees vectors. ``gathers``: arrays are copied into one and back.
    ``stacked``: what is gathered has the parameters of one shape along a new first axis.
    """

    def __init__(self, placed: Sequence[tuple[int, Entry]], packing: bool) -> None:
        self.places = [place for place, _ in placed]
        entries = [entry for _, entry in placed]
        first = entries[0]
        self.rule = id(first.rule)
        plain = _plain(first.param)
        self.vector = packing and plain and not first.rule.sees_axes
        self.stacked = len(entries) > 1 and not fits(first)
        self.gathers = len(entries) > 1 or (
            self.vector and not all(a.is_contiguous() for a in _arrays(first))
        )
        self.params = [entry.param for entry in entries]
        self.sizes = [param.numel() for param in self.params]
        shape = self.sizes[:1] if self.vector else first.param.shape
        self.shape = (len(entries), *shape) if self.stacked else (-1,)
        self.slots = {
            name: self._rebased([entry.slots[name] for entry in entries])
            if self.gathers
            else _flat(value, self.vector, like=first.param)
            for name, value in first.slots.items()
        }
        if self.gathers:  # kept, since fresh memory costs more than what is done in it
            self.grad = _Gathered(first.grad, self.params)
            self.param = _Gathered(first.param, self.params)

    def _rebased(self, values: Sequence[Any]) -> Any:
        """One tensor for a slot of all parameters, of which their own become views."""
        first = values[0]
        if isinstance(first, (tuple, list)):
            return tuple(self._rebased(group) for group in zip(*values, strict=True))
        sizes = [value.numel() for value in values] if self.stacked else self.sizes
        vectors = [value.detach().reshape(-1) for value in values]
        vector = torch.cat([v.expand(size) for v, size in zip(vectors, sizes, strict=True)])
        for value, own in zip(values, torch.split(vector, sizes), strict=True):
            value.data = own[: value.numel()].view(value.shape)
        if not self.stacked:
            return vector
        shape = first.shape if not self.vector else sizes[:1] if first.ndim else ()
        return vector.view(len(values), *shape)

    def entry(self, rule: Rule, step: Any, grads: list[Any], params: list[Any]) -> Entry:
        """What the kernel is to be given."""
        if not self.gathers:
            grad = _flat(grads[0], self.vector)
            grad = grad.contiguous() if self.vector else grad
            return Entry(rule, step, grad, _flat(self.params[0], self.vector), self.slots)
        grad = self.grad.filled(grads).view(self.shape)
        param = self.param.filled(params).view(self.shape)
        return Entry(rule, step, grad, param, self.slots, self.stacked)


class _Gathered:
    """A vector that tensors are copied into, one after another, and out of."""

    def __init__(self, like: torch.Tensor, shaped: Sequence[torch.Tensor]) -> None:
        self.vector = like.new_empty(sum(tensor.numel() for tensor in shaped))
        pieces = torch.split(self.vector, [tensor.numel() for tensor in shaped])
        self.views = [v.view(own.shape) for v, own in zip(pieces, shaped, strict=True)]
        alike = len({own.shape[1:] for own in shaped}) == 1 and all(own.ndim for own in shaped)
        self.joined = self.vector.view(-1, *shaped[0].shape[1:]) if alike else None
        self.shape = self.joined.shape if self.joined is not None else None

    def filled(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """The vector, with the values of tensors that have these shapes."""
        if self.joined is not None:  # half the time
            torch.cat(tensors, out=self.joined)
            if self.joined.shape != self.shape:
                raise RuntimeError("tensors have other shapes than the vector was made for")
        else:
            torch._foreach_copy_(self.views, tensors)
        return self.vector

    def scatter(self, tensors: list[torch.Tensor]) -> None:
        """The values back into tensors."""
        torch._foreach_copy_(tensors, self.views)


def tried(entries: Sequence[Entry], common: dict[str, Any], known: set[Any]) -> set[Any]:
    """Run the rule on tensors without memory, so that what it refuses is refused before the step.

    Args:
        entries: what the step is to be taken on; those that are alike are tried once.
        common: shared state.
        known: what this returned before.

    Returns:
        What has been tried now, for the next call.
    """
    new = {}
    for entry in entries:
        arrays = {"param": entry.param, "grad": entry.grad, **entry.slots}
        formats = _mapped(lambda array: (tuple(array.shape), array.dtype), arrays)
        key = _variant(entry.rule)[0], entry.stacked, *formats.items()
        if key not in known and _plain(entry.param):
            new[key] = entry
    for entry in new.values():
        with contextlib.suppress(RuntimeError, TypeError):  # a rule that asks for a value
            _run_without_memory(entry, common)
    return {*new}


def _run_without_memory(entry: Entry, common: dict[str, Any]) -> None:
    empty = partial(_mapped, partial(torch.empty_like, device="meta"))
    arrays = {name: empty(getattr(entry, name)) for name in ("grad", "param", "slots")}
    step = entry.step if isinstance(entry.step, int) else 0
    list(run(xp, [entry._replace(step=step, **arrays)], empty(common), vmap=torch.vmap)[0])


def _stackable(common: dict[str, Any]) -> Callable[[Entry], bool]:
    """Whether PyTorch can map an entry's rule over a stack: not so if the rule asks for a value."""
    known: dict[Any, bool] = {}

    def stackable(entry: Entry) -> bool:
        if entry.param.ndim == 0 or not _plain(entry.param):
            return False
        key = id(entry.rule), entry.param.ndim
        if key not in known:
            two = {
                name: _mapped(_two_without_memory, getattr(entry, name))
                for name in ("grad", "param", "slots")
            }
            try:
                _run_without_memory(entry._replace(stacked=True, **two), common)
                known[key] = True
            except Exception:  # whatever vmap says; one after another it will be right, or say so
                known[key] = False
        return known[key]

    return stackable


def _mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """``function`` of a tensor, or of every one of a slot or of named ones."""
    if isinstance(value, dict):
        return {name: map_parts(function, item) for name, item in value.items()}
    return map_parts(function, value)


def _two_without_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty((2, *tensor.shape), device="meta")


def _variant(rule: Rule) -> Any:
    """What of a rule a plan depends on: all but its numbers."""
    return rule.bare, rule.slots().keys(), rule.groups


def _plain(param: torch.Tensor) -> bool:
    """Whether a tensor's elements are where it says: not so for a sharded one, say."""
    return type(param) is torch.Tensor


def _arrays(entry: Entry) -> Iterator[torch.Tensor]:
    yield entry.param
    for value in entry.slots.values():
        yield from parts(value)


def _flat(value: Any, vector: bool, like: torch.Tensor | None = None) -> Any:
    """A tensor as a vector; one that is 0-d beside a parameter that is not stays so."""
    if isinstance(value, (tuple, list)):
        return tuple(_flat(part, vector, like) for part in value)
    single = like is not None and value.ndim == 0 < like.ndim
    return value.reshape(-1) if vector and not single else value


def _same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two lists hold the very same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def _formats(grads: Sequence[torch.Tensor]) -> Any:
    return [grad.dtype for grad in grads], [grad.layout for grad in grads]


def _kinds(tensors: Sequence[torch.Tensor]) -> Any:
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.is_conj()) for tensor in tensors]


def _pointers(tensors: Sequence[torch.Tensor]) -> list[int]:
    return [*map(torch.Tensor.data_ptr, tensors)]


def _layouts(tensors: Sequence[torch.Tensor]) -> Any:
    """Where tensors lie, and how."""
    return [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors]


def _values(states: Sequence[dict[str, Any]]) -> list[Any]:
    """Everything that the states hold."""
    return [*chain.from_iterable(map(dict.values, states))]


def _overlapping(tensors: Sequence[torch.Tensor]) -> set[int]:
    """Ids of the tensors that share memory with another, which a step writes one after another."""
    plain = [tensor for tensor in tensors if _plain(tensor) and tensor.numel()]
    plain.sort(key=lambda tensor: tensor.data_ptr())
    found: set[int] = set()
    widest, end = None, 0
    for tensor in plain:
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        if widest is not None and tensor.data_ptr() < end:
            found |= {id(widest), id(tensor)}
        if tensor.data_ptr() + (last + 1) * tensor.element_size() > end:
            widest, end = tensor, tensor.data_ptr() + (last + 1) * tensor.element_size()
    return found
