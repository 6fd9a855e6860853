"""Collectives of ``torch.distributed`` between the processes that have pieces of the parameters.

A process whose parameters with a gradient are not those of the others would wait for ever, or for
what it takes for something else. So the first message of every step begins with a number that
stands for the parameters, and is as long as that of the step before. Only where a number differs
do all processes say what they have, and then all of them go on, or all of them raise.

Where there is no such message, or there are several meshes, whose processes are not the same ones,
a step begins with the question whether anything has changed, which goes from mesh to mesh.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from samestep.differing import differing
from samestep.placement import Mesh
from torch import distributed

__all__ = ["Exchange", "Pretended", "number_of", "ranks_of"]

LARGEST = 0xFFFFFF
"""The largest number that is sent, which float32 has exactly."""

Tensors = Sequence[torch.Tensor]
Facts = dict[Mesh, tuple[str, ...]]


class Exchange:
    """The processes of all meshes of an optimizer.

    Args:
        who: the rule, in messages.
        checks: whether the first message of each step is looked at, for which a device is waited
            for; processes compare what they step in their first step in any case.
    """

    def __init__(self, who: str, checks: bool = True) -> None:
        self.who, self.checks = who, checks
        self._groups: dict[Any, _Group] = {}
        self._facts: Facts = {}
        self._numbers: dict[Mesh, int] | None = None  # by what all processes have agreed on
        self._with: dict[Mesh, int] = {}  # by what they step it with
        self._words: Callable[[Mesh], tuple[str, ...]] = lambda _: ()
        self._known: _Message | None = None
        self._asks, self._first = False, False
        self._again: list[Mesh] = []  # asked last, too: some of their processes have more meshes
        self.wide: Mesh | None = None  # it has all others in it
        self.opens = True
        """Whether this process has sent nothing in this step."""

    def begin(
        self, facts: Facts, numbers: dict[Mesh, int], words: Callable[[Mesh], tuple[str, ...]]
    ) -> None:
        """Say what is stepped: by mesh, each parameter with a gradient in words.

        Args:
            facts: the parameters.
            numbers: a number that stands for the numbers with which they are stepped.
            words: says these.

        Raises:
            ValueError: other processes step otherwise, or have failed; all raise it.
        """
        self._with, self._words = numbers, words
        if facts is not self._facts or self._numbers is None:
            own = {mesh: number_of(said) for mesh, said in facts.items()}
        else:
            own = self._numbers
        self._facts, changed = facts, own != self._numbers
        if self._numbers is None or (self.checks and self._told(changed)):
            self._agree()
        self._numbers, self._first = own, self.checks and not self._asks

    def failed(self, error: Exception, meshes: Sequence[Mesh]) -> None:
        """Tell processes that wait for a first message that there will be none."""
        if not self.opens or (self._numbers is not None and not self.checks):
            return
        self._facts = dict.fromkeys(meshes, ())
        if self._numbers is not None:
            self._told(True)
        with contextlib.suppress(ValueError):
            self._agree(str(error))

    def _told(self, changed: bool) -> bool:
        """Whether all processes have to say what they step; a change here is told to the others."""
        if self._known is not None:  # they look at the first message
            if changed:
                self._known.repeat(self.group(self._known.mesh))
            return changed
        self.opens = False
        for mesh in (*self._facts, *self._again):
            changed = self.group(mesh).differ(-1 if changed else self._number_of(mesh))
        return changed

    @property
    def home(self) -> Mesh | None:
        """The mesh whose processes agree on sums over all parameters, where there are several."""
        return None if self.wide in self._again else self.wide

    def group(self, mesh: Mesh) -> _Group:
        """The processes of a mesh."""
        if mesh.key not in self._groups:
            self._groups[mesh.key] = _group_of(mesh)
        return self._groups[mesh.key]

    def _agree(self, error: str | None = None) -> None:
        """Compare what all processes step, mesh by mesh.

        Where a process has several, a second round tells the failure of one mesh in the others.
        """
        self._numbers, self._known, self.opens = None, None, False
        count, again, rounds = len(self._facts), dict[Mesh, None](), 0
        while rounds < 1 + (count > 1 or bool(again)):
            rounds += 1
            for mesh, own in self._facts.items():
                group = self.group(mesh)
                said: list[Any] = [None] * len(group.order)
                mine = count, error, own, self._words(mesh) if error is None else ()
                distributed.all_gather_object(said, mine, group=group.handle)
                if any(each[0] != count for each in said):
                    again[mesh] = None
                words = [tuple(said[at][1:]) for at in group.order]
                if error is None and any(each != (None, *words[0][1:]) for each in words):
                    error = differing(self.who, words)
        if error is not None:
            raise ValueError(error)
        self._asks, self._again = rounds > 1, [*again]

    def gathered(self, mesh: Mesh, vector: torch.Tensor) -> torch.Tensor:
        """The vectors of all processes, as rows in the order of the mesh."""
        group, self.opens = self.group(mesh), False
        if not self._first:
            return group.gathered(vector)
        number = self._number_of(mesh)
        table = group.gathered(torch.cat([vector.new_full((1,), number), vector]))
        form = mesh, "gathered", (vector.shape[0],), vector.dtype, vector.device
        self._looked_at(table[:, 0], number, _Message(*form))
        return table[:, 1:]

    def swapped(self, mesh: Mesh, parts: Tensors, lengths: Sequence[int]) -> list[torch.Tensor]:
        """The parts that all processes have for this one, of these lengths."""
        group, self.opens = self.group(mesh), False
        if not self._first:
            return group.swapped(parts, lengths)
        number = self._number_of(mesh)
        head = parts[0].new_full((1,), number)
        found = group.swapped([torch.cat([head, p]) for p in parts], [n + 1 for n in lengths])
        sizes = tuple(part.shape[0] for part in parts), tuple(lengths)
        form = mesh, "swapped", sizes, parts[0].dtype, parts[0].device
        self._looked_at(torch.cat([part[:1] for part in found]), number, _Message(*form))
        return [part[1:] for part in found]

    def _number_of(self, mesh: Mesh) -> int:
        assert self._numbers is not None
        return (self._numbers[mesh] + self._with[mesh]) & LARGEST

    def _looked_at(self, numbers: torch.Tensor, own: int, message: _Message) -> None:
        """Go on if all processes step the same; if not, all say what they have, and raise."""
        self._first = False
        if any(number != own for number in numbers.tolist()):
            self._agree()
            raise ValueError(f"{self.who}: processes of a mesh do not step the same")
        self._asks = self._known not in (None, message)  # not every step has the same message
        self._known = None if self._asks else message


def number_of(words: tuple[Any, ...]) -> int:
    """A number that stands for words."""
    return zlib.crc32(repr(words).encode())


class _Message(NamedTuple):
    """The first message of a step, which all processes expect again in the next one."""

    mesh: Mesh
    kind: str
    sizes: Any
    dtype: torch.dtype
    device: torch.device

    def repeat(self, group: _Group) -> None:
        """Send one as long, with a number that stands for nothing."""

        def empty(length: int) -> torch.Tensor:
            message = torch.zeros(1 + length, dtype=self.dtype, device=self.device)
            message[0] = -1
            return message

        if self.kind == "gathered":
            group.gathered(empty(*self.sizes))
        else:
            sent, lengths = self.sizes
            group.swapped([*map(empty, sent)], [length + 1 for length in lengths])


class _Group(NamedTuple):
    """A process group, and the places of a mesh's processes in it."""

    handle: Any
    order: list[int]
    device: str | None

    def gathered(self, vector: torch.Tensor) -> torch.Tensor:
        """The vectors of all processes as rows."""
        own = self._there(vector)
        found = own.new_empty(len(self.order) * own.shape[0])
        distributed.all_gather_single(found, own, group=self.handle)
        table = found.view(len(self.order), -1)
        table = table if self.order == [*range(len(self.order))] else table[self.order]
        return table.to(vector.device)

    def swapped(self, parts: Tensors, lengths: Sequence[int]) -> list[torch.Tensor]:
        """The parts that all processes have for this one."""
        places = [self.order.index(place) for place in range(len(self.order))]
        own = self._there(torch.cat([parts[at] for at in places]))
        sizes = [lengths[at] for at in places]
        found = own.new_empty(sum(sizes))
        sent = [parts[at].shape[0] for at in places]
        distributed.all_to_all_single(found, own, sizes, sent, group=self.handle)
        pieces = torch.split(found.to(parts[0].device), sizes)
        return [pieces[at] for at in self.order]

    def differ(self, number: int) -> bool:
        """Whether the processes have different numbers, or one has none, which is -1."""
        device = distributed.distributed_c10d._get_object_coll_device(self.handle)
        found = {*self.gathered(torch.full((1,), float(number), device=device))[:, 0].tolist()}
        return len(found) > 1 or found == {-1}

    def _there(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on a device that the group can reach."""
        return tensor.contiguous() if self.device is None else tensor.to(self.device)


def _group_of(mesh: Mesh) -> _Group:
    """The process group of a mesh, whose key is a ``DeviceMesh`` or a process group."""
    key: Any = mesh.key
    if isinstance(key, distributed.ProcessGroup):
        return _Group(key, [*range(key.size())], None)
    ranks = ranks_of(mesh)
    if key.ndim == 1:
        handle = key.get_group()
    elif sorted(ranks) == [*range(distributed.get_world_size())]:
        handle = distributed.group.WORLD
    else:
        handle = distributed.new_group(sorted(ranks), use_local_synchronization=True)
    order = [distributed.get_group_rank(handle, rank) for rank in ranks]
    return _Group(handle, order, key.device_type if key.device_type != "cpu" else None)


def ranks_of(mesh: Mesh) -> list[int]:
    """The processes of a mesh, by their ranks in the world."""
    key: Any = mesh.key
    if isinstance(key, distributed.ProcessGroup):
        return distributed.get_process_group_ranks(key)
    ranks: list[int] = key.mesh.flatten().tolist()
    return ranks


class Pretended:
    """Processes that answer with tensors without memory."""

    @staticmethod
    def gathered(mesh: Mesh, vector: torch.Tensor) -> torch.Tensor:
        """A tensor as large as the vectors of all processes."""
        return vector.new_empty((math.prod(mesh.sizes), *vector.shape))

    @staticmethod
    def swapped(mesh: Mesh, parts: Tensors, lengths: Sequence[int]) -> list[torch.Tensor]:
        """Tensors of these lengths."""
        return [parts[0].new_empty((length,)) for length in lengths]
