"""Parameters that go through a kernel together, and the memory that they are gathered in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from samestep.arrays import map_parts, parts
from samestep.packing import fits
from samestep.rule import Rule
from samestep.segments import SEGMENTS
from samestep.step import Entry

from .kernels import is_plain

__all__ = ["Batch"]

Tensors = Sequence[torch.Tensor]


class _Where(NamedTuple):
    """An array of a slot: its place among the values of all states, and the shape it is seen in."""

    place: int
    shape: Sequence[int] | None = None
    strides: Sequence[int] = ()

    def among(self, values: Tensors) -> torch.Tensor:
        """The array; ``None`` is the shape that it has."""
        value = values[self.place]
        return value if self.shape is None else value.as_strided(self.shape, self.strides)


class Batch:
    """Parameters that go through the kernel together: a pack in one array, a single one unchanged.

    A batch holds no parameter, gradient or state; every step gives them. ``gathers``: gradients and
    parameters are copied into ``grad`` and ``param``, and parameters back; see ``Gathering``. Each
    slot of theirs lies in one array. ``stacked``: they have one shape, and lie along a new first
    axis. ``segments``: where each is in a vector of which the rule reads more than an element.
    """

    shape: Sequence[int]
    grad: torch.Tensor
    param: torch.Tensor

    def __init__(
        self, placed: Sequence[tuple[int, Entry]], where: dict[str, Any], flat: float | None
    ) -> None:
        """Move the state of gathered parameters together.

        Args:
            placed: the entries, each with its place among all parameters.
            where: the place of each slot of the first one among the values of all states; of a slot
                of several arrays, the place of each.
            flat: from how many elements on the kernel wants a vector; ``None`` for never.
        """
        self.places = [place for place, _ in placed]
        entries = [entry for _, entry in placed]
        first, params = entries[0], [entry.param for entry in entries]
        self.rule = id(first.rule)
        self.sizes = [param.numel() for param in params]
        self.kept, self.placement, self.copies = first.kept, first.placement, first.copies
        shaped = first.rule.sees_axes or bool(first.kept.batch)
        self.vector = flat is not None and is_plain(params[0]) and not shaped
        alike = len({param.shape for param in params}) == 1
        self.stacked = len(entries) > 1 and alike and not fits(first)
        self.segments = None if alike or fits(first) else _segments(self.sizes, params[0].device)
        self.gathers = len(entries) > 1 or (
            self.vector and not all(a.is_contiguous() for a in _arrays(first))
        )
        self.flat = self.vector and params[0].ndim != 1 and self.sizes[0] > (flat or 0)
        if self.gathers:
            own = self.sizes[:1] if self.vector else params[0].shape
            self.shape = (len(entries), *own) if self.stacked else (-1,)
        ndim = params[0].ndim if self.flat else None
        found = {
            name: map_parts(self._rebased, place, *(entry.slots[name] for entry in entries))
            if self.gathers
            else map_parts(partial(_seen, ndim), place, first.slots[name])
            for name, place in where.items()
        }
        single = [(name, one) for name, one in found.items() if isinstance(one, _Where)]
        self.whole = [(name, one.place) for name, one in single if one.shape is None]
        self.seen = [
            (name, one.place, one.shape, one.strides)
            for name, one in single
            if one.shape is not None
        ]
        self.several = [(name, each) for name, each in found.items() if type(each) is tuple]

    def _rebased(self, place: int, *values: torch.Tensor) -> _Where:
        """Move a slot of all parameters into one tensor, of which their own slots become views."""
        first, sizes = values[0], [value.numel() for value in values]
        if len(values) == 1 and not first.ndim:
            return _Where(place)
        vector = torch.cat([value.detach().reshape(-1) for value in values])
        for value, own in zip(values, torch.split(vector, sizes), strict=True):
            value.data = own.view(value.shape)
        shape: Any = vector.shape
        if self.stacked:
            own_shape = first.shape if not self.vector else sizes[:1] if first.ndim else ()
            shape = len(values), *own_shape
        elif self.segments is not None and not first.ndim:
            shape = len(values), 1
        return _Where(place, shape, torch.empty(shape, device="meta").stride())

    def entry(
        self, rule: Rule, step: Any, grads: Tensors, params: Tensors, values: Tensors
    ) -> Entry:
        """The arguments of the kernel.

        Args:
            rule: the rule, with its numbers.
            step: the number of steps taken.
            grads: the gradients of all parameters.
            params: all parameters.
            values: the values of all states, one after another.

        Raises:
            RuntimeError: a tensor has another shape than it had.
        """
        slots: dict[str, Any] = {}
        for name, place in self.whole:
            slots[name] = values[place]
        for name, place, shape, strides in self.seen:
            slots[name] = values[place].as_strided(shape, strides)
        for name, several in self.several:
            slots[name] = tuple([where.among(values) for where in several])
        if self.segments is not None:
            slots[SEGMENTS] = self.segments
        if self.gathers:
            more = self.kept, self.stacked, self.placement, self.copies
            return Entry(rule, step, self.grad, self.param, slots, *more)
        grad, param = grads[self.places[0]], params[self.places[0]]
        more = self.kept, False, self.placement, self.copies
        if self.vector and not param.is_contiguous():
            raise RuntimeError("a parameter has other strides than the vector was made for")
        if self.flat:
            vector = grad.reshape(-1).contiguous()
            return Entry(rule, step, vector, param.view(-1), slots, *more)
        grad = grad.contiguous() if self.vector else grad
        return Entry(rule, step, grad, param, slots, *more)


def _segments(sizes: list[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Where parameters are in a vector; see ``segments.SEGMENTS``."""
    places = torch.tensor([*accumulate(sizes, initial=0)], device=device)
    owners = torch.repeat_interleave(places.diff(), output_size=sum(sizes))
    return owners, places.unsqueeze(1)  # of int64, which int32 becomes in every use as an index


def _seen(ndim: int | None, place: int, like: torch.Tensor) -> _Where:
    """An array of a slot of a single parameter: as it is, or as a vector if the parameter is.

    A 0-d slot of a parameter with axes stays 0-d.
    """
    if ndim is None or like.ndim == 0 < ndim:
        return _Where(place)
    return _Where(place, (like.numel(),), (1,))


def _arrays(entry: Entry) -> Iterator[torch.Tensor]:
    yield entry.param
    for value in entry.slots.values():
        yield from parts(value)
