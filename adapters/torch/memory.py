"""The memory of tensors: which tensors reach into the same, and which other processes see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from samestep.arrays import parts
from samestep.step import Entry

from .kernels import is_fake, is_plain

if TYPE_CHECKING:
    from .plan import Member

__all__ = [
    "address",
    "in_shared_memory",
    "is_shared",
    "overlapping",
    "overlaps",
    "overlaps_itself",
    "refuse_common",
    "refuse_strided",
    "release",
]


def address(tensor: torch.Tensor) -> int:
    """Where the memory of a tensor begins; of a fake one, a place that no other tensor has."""
    if not is_fake(tensor):
        return int(tensor.data_ptr())
    base: int = tensor.untyped_storage()._cdata << 48  # storages without memory are not far apart
    return base + int(tensor.storage_offset()) * tensor.element_size()


def in_shared_memory(tensor: torch.Tensor) -> bool:
    """Whether other processes see what is written into a tensor."""
    shared: bool = tensor.device.type == "cpu" and tensor.is_shared()  # type: ignore[no-untyped-call]
    return shared


def overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether several elements of a strided tensor are in one place."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.numel() > 1 + sum((n - 1) * step for n, step in sizes)


def overlapping(tensors: Sequence[torch.Tensor]) -> set[int]:
    """Ids of the tensors that share memory with another tensor; a step writes them in turn."""
    return {id(tensors[place]) for pair in overlaps(tensors) for place in pair}


def overlaps(tensors: Sequence[torch.Tensor]) -> Iterator[tuple[int, int]]:
    """The places of pairs of tensors that reach into the same memory."""
    own = (is_plain(t) and t.numel() and t.device.type != "meta" for t in tensors)
    places = [at for at, has_memory in enumerate(own) if has_memory]
    places.sort(key=lambda at: address(tensors[at]))
    widest, end = None, 0
    for at in places:
        tensor = tensors[at]
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        lowest = address(tensor)
        if widest is not None and lowest < end:
            yield widest, at
        if lowest + (last + 1) * tensor.element_size() > end:
            widest, end = at, lowest + (last + 1) * tensor.element_size()


def release(left: Iterable[tuple[torch.Tensor, int]]) -> None:
    """Copy state that is still in the memory of an earlier plan's packs into memory of its own.

    A view would keep a whole vector alive. The next plan has moved what it gathers. What is in
    shared memory stays there.
    """
    for part, known in left:
        whole = part.untyped_storage().nbytes() == part.nbytes
        moved = address(part) != known or not part.ndim
        if not (moved or whole) and is_plain(part) and not in_shared_memory(part):
            part.data = part.clone()


def is_shared(entry: Entry) -> bool:
    """Whether other processes see the state of a parameter."""
    return any(in_shared_memory(part) for value in entry.slots.values() for part in parts(value))


def refuse_common(members: Sequence[Member], entries: Sequence[Entry]) -> None:
    """Raise if a part of a state is in the memory of a parameter or of another part."""
    named, slots = [], []
    for member, entry in zip(members, entries, strict=True):
        named.append((f"parameter {member.name!r}", entry.param))
        for slot, value in entry.slots.items():
            slots += [(f"the slot {slot} of {member.name!r}", part) for part in parts(value)]
    known = [*slots, *named]
    for pair in overlaps([array for _, array in known]):
        (who, part), (where, other) = (known[place] for place in sorted(pair))
        plain = part.is_contiguous() and other.is_contiguous()
        if min(pair) < len(slots) and (plain or address(part) == address(other)):
            raise ValueError(
                f"{entries[0].rule.name}: {who} is in the memory of {where}; give it a tensor of "
                "its own, such as a clone"
            )


def refuse_strided(members: Sequence[Member], entries: Sequence[Entry]) -> None:
    """Raise if a state in shared memory would have to be moved."""
    for member, entry in zip(members, entries, strict=True):
        arrays = [entry.param, *(part for value in entry.slots.values() for part in parts(value))]
        if not all(array.is_contiguous() for array in arrays) and is_shared(entry):
            raise ValueError(
                f"{entry.rule.name}: the state of {member.name!r} is in shared memory, and it or "
                "the parameter is not contiguous; execution='reference' steps it where it is"
            )
