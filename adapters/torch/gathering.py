"""The memory that the gradients and parameters of a step are gathered in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from samestep.step import Entry

from .batch import Batch
from .kernels import is_plain

__all__ = ["Gathering", "gatherings"]

APART = ("cpu",)
"""The kinds of devices where each batch is gathered by itself, and its vector is in the cache."""
ALIGNED = 16
"""Elements: the place of every vector is a multiple, as compiled kernels want it."""

Form = tuple[Sequence[int], list[torch.Size]]
"""The shape of a vector or stack, and those of the tensors in it."""


def gatherings(batches: Sequence[Batch], entries: Sequence[Entry]) -> list[Gathering]:
    """The gatherings of all batches, by their last ones; on the CPU each batch has its own."""
    found: dict[Any, list[Batch]] = {}
    for batch in batches:
        if batch.gathers:
            first = entries[batch.places[0]]
            alone = id(batch) if first.param.device.type in APART else None
            kind = first.param.device, first.param.dtype, first.grad.dtype, is_plain(first.param)
            found.setdefault((alone, kind), []).append(batch)
    order = [id(batch) for batch in batches]
    made = [Gathering(group, entries) for group in found.values()]
    return sorted(made, key=lambda gathering: order.index(id(gathering.last)))


class Gathering:
    """The vectors and stacks of batches, into which tensors are copied, and out of which.

    The memory is kept, since allocating it costs more than the work done in it. ``last``: the batch
    after which parameters are put back.
    """

    def __init__(self, batches: Sequence[Batch], entries: Sequence[Entry]) -> None:
        places = [place for batch in batches for place in batch.places]
        self.own, self.last = _chosen(places), batches[-1]
        first = entries[places[0]]
        forms = [
            (batch.shape, [entries[place].param.shape for place in batch.places])
            for batch in batches
        ]
        self.grad, self.param = _Gathered(first.grad, forms), _Gathered(first.param, forms)
        for batch, grad, param in zip(batches, self.grad.vectors, self.param.vectors, strict=True):
            batch.grad, batch.param = grad, param


class _Gathered:
    """Vectors in one piece of memory, that tensors are copied into, and back out of."""

    def __init__(self, like: torch.Tensor, forms: Sequence[Form]) -> None:
        self.shapes = [shape for _, shapes in forms for shape in shapes]
        sizes = [sum(shape.numel() for shape in shapes) for _, shapes in forms]
        lengths = [*(-(-size // ALIGNED) * ALIGNED for size in sizes[:-1]), sizes[-1]]
        memory = like.new_empty(sum(lengths))
        self.vectors: list[torch.Tensor] = []
        self.views: list[torch.Tensor] = []
        self.fillers: list[tuple[int, torch.Tensor]] = []
        parts = torch.split(memory, lengths)
        for (form, shapes), size, part in zip(forms, sizes, parts, strict=True):
            self.vectors.append(part[:size].view(form))
            pieces = torch.split(part[:size], [shape.numel() for shape in shapes])
            self.views += [v.view(own) for v, own in zip(pieces, shapes, strict=True)]
            if size < part.shape[0]:
                place = len(self.views) + len(self.fillers)
                self.fillers.append((place, like.new_empty(part.shape[0] - size)))
        alike = len({own[1:] for own in self.shapes}) == 1 and all(map(len, self.shapes))
        alike = alike and len(forms) == 1 and memory.numel() > 0
        self.stack = memory.view(-1, *self.shapes[0][1:]) if alike else None
        self.shape = self.stack.shape if self.stack is not None else None
        self.cuda = memory if like.device.type == "cuda" and is_plain(like) else None

    def fill(self, tensors: list[torch.Tensor]) -> None:
        """Copy tensors that have these shapes.

        Raises:
            RuntimeError: one has another shape.
        """
        if self.stack is not None:  # half the time
            torch.cat(tensors, out=self.stack)
            same = self.stack.shape == self.shape
        else:
            same = [tensor.shape for tensor in tensors] == self.shapes
            if same and self.cuda is not None:  # one kernel per 128 tensors, and not per 64
                pieces = [tensor.reshape(-1) for tensor in tensors]
                for place, filler in self.fillers:
                    pieces.insert(place, filler)
                torch.cat(pieces, out=self.cuda)
            elif same:
                torch._foreach_copy_(self.views, tensors)
        if not same:
            raise RuntimeError("tensors have other shapes than the vector was made for")


def _chosen(places: list[int]) -> Callable[[Sequence[Any]], list[Any]]:
    """What is at these places of a sequence; where they follow one another, a slice of it."""
    if places == [*range(places[0], places[-1] + 1)]:
        return itemgetter(slice(places[0], places[-1] + 1))
    return lambda values: [values[place] for place in places]
