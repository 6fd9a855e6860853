"""Parameters that go through a kernel together, and the memory that they are gathered in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from samestep.arrays import parts
from samestep.packing import fits
from samestep.rule import Rule
from samestep.step import Entry

__all__ = ["Batch", "is_plain"]


class Batch:
    """Parameters that go through the kernel together: a pack as a vector, a single one unchanged.

    ``vector``: the kernel sees vectors. ``gathers``: arrays are copied into one and back.
    ``stacked``: the gathered parameters have one shape, and lie along a new first axis.
    """

    def __init__(self, placed: Sequence[tuple[int, Entry]], packing: bool) -> None:
        self.places = [place for place, _ in placed]
        entries = [entry for _, entry in placed]
        first = entries[0]
        self.rule = id(first.rule)
        plain = is_plain(first.param)
        self.kept = first.kept
        shaped = first.rule.sees_axes or bool(first.kept.batch)
        self.vector = packing and plain and not shaped
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
        self.whole = _flat(first.param, self.vector)
        if self.gathers:  # kept, since allocating the memory costs more than the work done in it
            self.grad = _Gathered(first.grad, self.params)
            self.param = _Gathered(first.param, self.params)

    def _rebased(self, values: Sequence[Any]) -> Any:
        """One tensor with a slot of all parameters; their own slots become views of it."""
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

    def entry(
        self, rule: Rule, step: Any, grads: Sequence[torch.Tensor], params: Sequence[torch.Tensor]
    ) -> Entry:
        """The arguments of the kernel, from the gradients and parameters of the whole plan."""
        if not self.gathers:
            grad = grads[self.places[0]]
            if self.vector:
                grad = grad.reshape(-1).contiguous()
            return Entry(rule, step, grad, self.whole, self.slots, self.kept)
        grad = self.grad.filled([*map(grads.__getitem__, self.places)]).view(self.shape)
        param = self.param.filled([*map(params.__getitem__, self.places)]).view(self.shape)
        return Entry(rule, step, grad, param, self.slots, self.kept, self.stacked)


class _Gathered:
    """A vector that tensors are copied into one after another, and back out of."""

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


def is_plain(param: torch.Tensor) -> bool:
    """Whether a tensor holds its own elements; a sharded tensor, for example, does not."""
    return type(param) is torch.Tensor


def _arrays(entry: Entry) -> Iterator[torch.Tensor]:
    yield entry.param
    for value in entry.slots.values():
        yield from parts(value)


def _flat(value: Any, vector: bool, like: torch.Tensor | None = None) -> Any:
    """A tensor as a vector; a 0-d slot of a parameter with axes stays 0-d."""
    if isinstance(value, (tuple, list)):
        return tuple(_flat(part, vector, like) for part in value)
    single = like is not None and value.ndim == 0 < like.ndim
    return value.reshape(-1) if vector and not single else value
