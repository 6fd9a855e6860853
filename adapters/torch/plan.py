"""The tensors that a step changes, and which of them go through the kernel together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

import array_api_compat.torch as xp

import torch
from samestep.arrays import map_parts, parts
from samestep.kept import kept_by, rule_of
from samestep.packing import packs
from samestep.rule import Rule
from samestep.step import Entry, run

from .batch import Batch, is_plain
from .kernels import real, real_gradient

__all__ = ["Member", "Plan", "tried"]


_pointer = torch.Tensor.data_ptr


class Member(NamedTuple):
    """A parameter that has a gradient, with its group and its state."""

    group: int
    name: str
    param: torch.Tensor
    state: dict[str, Any]
    slots: dict[str, Any]


class Plan:
    """The parameters that have a gradient, in packs.

    A plan holds as long as parameters, groups and state are the same tensors. This is checked
    before every step, since any of them may be replaced. The state of small parameters is moved
    into one tensor per slot and pack, and ``optimizer.state`` then holds views of it. Only
    gradients and parameters are gathered in every step.
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
        self.states = [member.state for member in members]
        self.grads = grads
        self.objects: list[Any] = []
        self.facts: list[Any] = []
        self.capturable = capturable
        self.expected = [int(state["step"]) for state in self.states]
        self.counters = self._counters()
        entries = [
            Entry(
                own := rule_of(rules[member.group], member.name, member.param),
                step,
                real_gradient(grad),
                param := real(member.param.detach()),
                member.slots,
                kept_by(own, param.ndim),
            )
            for member, grad, step in zip(members, grads, self.expected, strict=True)
        ]
        apart = _overlapping([entry.param for entry in entries])
        places = packs(
            entries,
            limit=limit,
            alike=lambda entry: (
                entry.param.device,
                is_plain(entry.param),
                id(entry.param) if id(entry.param) in apart else None,
            ),
            stacks=_stackable(common),
        )
        self.batches = [
            Batch([(place, entries[place]) for place in pack], limit > 0) for pack in places
        ]
        single = [b.places[0] for b in self.batches if not b.gathers]
        self.single = [self.params[place] for place in single]
        self.used: Any = None
        self.gathered = [self.params[p] for b in self.batches if b.gathers for p in b.places]
        self.addresses = [*map(_pointer, self.gathered)]
        self.kinds = _kinds(self.gathered)
        self.parts = [part for m in members for v in m.slots.values() for part in parts(v)]

    def _counters(self) -> list[torch.Tensor]:
        """The step counts of all parameters, on the host or on each device of the parameters.

        The ``step`` of every state becomes an element of a count.
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

        Everything is compared before every step, since other code may replace any of it without a
        call: a group's parameters, ``.data``, ``.grad``, an entry of ``state``, a count. The
        comparison makes no object per parameter that Python's garbage collector has to track.
        """
        objects, facts = self._seen(params, grads, state)
        return (
            len(objects) == len(self.objects)
            and all(map(is_, objects, self.objects))
            and groups == self.groups
            and facts == self.facts
            and ([*map(_pointer, self.gathered)] == self.addresses or self._only_moved())
            and (
                self.capturable
                or [*chain.from_iterable(map(torch.Tensor.tolist, self.counters))] == self.expected
            )
            and (rules is self.rules or [_variant(rule) for rule in rules] == self.variants)
        )

    def _seen(
        self, params: Sequence[Any], grads: Sequence[torch.Tensor], state: Any
    ) -> tuple[list[Any], list[Any]]:
        """Objects that must stay the same, and facts that must stay equal, for a plan to hold.

        The objects are parameters, their states and all entries of the states. The facts are the
        formats of gradients, the addresses of slots, and address, shape and strides of parameters
        that are not gathered.
        """
        objects = [*params, *state, *state.values()]
        objects += chain.from_iterable(map(dict.values, self.states))
        facts: list[Any] = [*map(_pointer, self.parts)]
        for grad in grads:
            facts += grad.dtype, grad.layout
        for tensor in self.single:
            facts += tensor.data_ptr(), tensor.shape, tensor.stride()
        return objects, facts

    def _only_moved(self) -> bool:
        """Whether gathered parameters have only moved to new memory of their own.

        This needs no new plan: some training loops exchange ``data`` at every step.
        """
        same = _kinds(self.gathered) == self.kinds and all(p.is_contiguous() for p in self.gathered)
        if not same or _overlapping([param.detach() for param in self.params]):
            return False
        self.addresses = [*map(_pointer, self.gathered)]
        return True

    def enter(self, state: Any) -> None:
        """Store the states of the plan in the optimizer."""
        state.update(zip(self.params, self.states, strict=True))
        self.objects, self.facts = self._seen(self.params, self.grads, state)
        self.grads = ()

    def entries(self, rules: Sequence[Rule], grads: list[torch.Tensor]) -> list[Entry]:
        """One entry per batch, for the next step.

        Raises:
            RuntimeError: a parameter has another shape in the memory that it had.
        """
        if rules is not self.used:
            self.used, self.of_batches = rules, self._rules_of_batches(rules)
        grads = [*map(real_gradient, grads)] if self.complex else grads
        params = [*map(real, self.params)] if self.complex else self.params
        found = []
        for batch, rule in zip(self.batches, self.of_batches, strict=True):
            place = batch.places[0]
            step = self.states[place]["step"] if self.capturable else self.expected[place]
            found.append(batch.entry(rule, step, grads, params))
        return found

    def _rules_of_batches(self, rules: Sequence[Rule]) -> list[Rule]:
        variants: dict[Any, Rule] = {}
        found = []
        for batch in self.batches:
            member = self.members[batch.places[0]]
            key = member.group, batch.rule
            if key not in variants:
                variants[key] = rule_of(rules[member.group], member.name, member.param)
            found.append(variants[key])
        return found

    def release(self, params: Sequence[torch.Tensor]) -> None:
        """Copy the state of all other parameters into memory of its own.

        A view would keep the whole vector alive.
        """
        staying = {id(param) for param in params}
        for batch in self.batches:
            for place in batch.places if batch.gathers else ():
                member = self.members[place]
                for value in member.slots.values() if id(member.param) not in staying else ():
                    for part in parts(value):
                        part.data = part.clone()

    def finish(self, results: Iterable[Any], taken: torch.Tensor | None = None) -> None:
        """Compute the results, put gathered parameters back, and count the step.

        Args:
            results: an iterator that computes the result of one batch after another.
            taken: whether the step is taken, where that is known on the device only.
        """
        for batch, _ in zip(self.batches, results, strict=True):
            if batch.gathers:
                own = [*map(self.params.__getitem__, batch.places)]
                into = [*map(real, own)] if self.complex else own
                torch._foreach_copy_(into, batch.param.views)
        for counts in self.counters:
            counts.add_(1 if taken is None else taken.to(counts.device))
        if not self.capturable:
            self.expected = [*map(int(taken is None or taken).__add__, self.expected)]


def tried(entries: Sequence[Entry], common: dict[str, Any], known: set[Any]) -> set[Any]:
    """Run the rule on tensors without memory, so that it raises before the step changes anything.

    Args:
        entries: the entries of the step; of several equal ones, one is tried.
        common: shared state.
        known: what this returned before.

    Returns:
        What has been tried now, for the next call.
    """
    new = {}
    for entry in entries:
        arrays = {"param": entry.param, "grad": entry.grad, **entry.slots}
        formats = _mapped(lambda array: (tuple(array.shape), array.dtype), arrays)
        key = _variant(entry.rule)[0], entry.kept, entry.stacked, *formats.items()
        if key not in known and is_plain(entry.param):
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
    """Whether PyTorch can map an entry's rule over a stack; it cannot if the rule reads a value."""
    known: dict[Any, bool] = {}

    def stackable(entry: Entry) -> bool:
        if entry.param.ndim == 0 or not is_plain(entry.param):
            return False
        key = id(entry.rule), entry.kept, entry.param.ndim
        if key not in known:
            two = {
                name: _mapped(_two_without_memory, getattr(entry, name))
                for name in ("grad", "param", "slots")
            }
            try:
                _run_without_memory(entry._replace(stacked=True, **two), common)
                known[key] = True
            except (
                Exception
            ):  # any error of vmap; without a stack the rule works, or raises its own
                known[key] = False
        return known[key]

    return stackable


def _mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """``function`` of a tensor, of every part of a slot, or of every tensor of a dict."""
    if isinstance(value, dict):
        return {name: map_parts(function, item) for name, item in value.items()}
    return map_parts(function, value)


def _two_without_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty((2, *tensor.shape), device="meta")


def _variant(rule: Rule) -> Any:
    """The properties of a rule that a plan depends on: everything except its numbers."""
    return rule.bare, rule.slots().keys(), rule.groups


def _kinds(tensors: Sequence[torch.Tensor]) -> Any:
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.is_conj()) for tensor in tensors]


def _overlapping(tensors: Sequence[torch.Tensor]) -> set[int]:
    """Ids of the tensors that share memory with another tensor; a step writes them in turn."""
    plain = [tensor for tensor in tensors if is_plain(tensor) and tensor.numel()]
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
