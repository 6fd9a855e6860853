"""How many kernels an operation of PyTorch launches on an accelerator, from PyTorch's sources.

An operation is one launch, and a view none. An operation on lists is

- on ``cuda`` as many launches as ``MultiTensorApply.cuh`` makes of blocks of 65,536 elements: a
  launch has at most so many tensors and so many blocks, depending on the number of lists. Builds
  for CUDA 13 have larger tables;
- on ``xpu`` one launch;
- on ``mps``, or where tensors differ in dtype or strides, one launch per tensor.

A concatenation is one launch per 128 arrays on ``cuda``, per 64 on ``xpu``, per array on ``mps``.
Sums of segments are two on ``cuda``: the lengths of the segments, and the sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

__all__ = ["CUDA_12", "CUDA_13", "launches", "of_lists"]

BLOCK = 65_536
"""Elements of a block."""


class Table(NamedTuple):
    """What a launch for lists of tensors holds at most, on CUDA."""

    tensors: tuple[int, ...]
    """By the number of lists."""
    blocks: int


CUDA_12 = Table((110, 64, 48, 36, 30), 320)
CUDA_13 = Table((770, 448, 336, 252, 210), 2240)
WITH_NUMBERS = {110: 96, 770: 672}
"""Of the tensors of a launch, those that fit in where each has a number of its own."""

JOINED = {"cuda": 128, "xpu": 64, "mps": 1}
"""Arrays that one launch concatenates."""

FREE = {
    "_reshape_alias", "_unsafe_view", "detach", "empty", "empty_like", "empty_strided",
    "lift_fresh", "new_empty", "new_empty_strided", "set_", "sym_size",
}  # fmt: skip
"""Operations that launch nothing, in addition to views."""

Tensors = Sequence[torch.Tensor]


def launches(func: Any, args: Sequence[Any], kind: str, table: Table = CUDA_12) -> int:
    """The number of kernels that an operation launches on a device of a kind."""
    name = func.overloadpacket.__name__
    if func.is_view or name in FREE:
        return 0
    if name in ("cat", "stack"):
        arrays: int = sum(array.numel() > 0 for array in args[0])
        return math.ceil(arrays / JOINED[kind])
    if name == "segment_reduce":
        return 2
    lists = [arg for arg in args if isinstance(arg, (list, tuple)) and _are_tensors(arg)]
    if name.startswith("_foreach_") and lists:
        made = 0 if name.endswith("_") else 1  # a list of results
        numbers = any(isinstance(arg, (list, tuple)) and not _are_tensors(arg) for arg in args)
        most = table.tensors[len(lists) + made - 1]
        most = WITH_NUMBERS.get(most, most) if numbers else most
        return of_lists(lists, most, kind, table.blocks, name == "_foreach_copy_")
    return 1


def of_lists(
    lists: Sequence[Tensors], most: int, kind: str, most_blocks: int, casts: bool = False
) -> int:
    """The launches for lists of tensors, of at most so many tensors and blocks each."""
    sizes = [tensor.numel() for tensor in lists[0] if tensor.numel()]
    if kind == "mps" or not all(_alike(each, casts) for each in zip(*lists, strict=True)):
        return len(sizes)
    if kind == "xpu":
        return min(1, len(sizes))
    count = tensors = blocks = 0
    for size in sizes:
        tensors += 1
        needed = math.ceil(size / BLOCK)
        for block in range(1, needed + 1):
            blocks += 1
            if blocks == most_blocks or (tensors == most and block == needed):
                count += 1
                blocks, tensors = 0, int(block < needed)
    return count + (blocks > 0)


def _are_tensors(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(isinstance(value, torch.Tensor) for value in values)


def _alike(tensors: Tensors, casts: bool) -> bool:
    first = tensors[0]
    return all(
        t.device == first.device
        and t.shape == first.shape
        and t.stride() == first.stride()
        and (casts or t.dtype == first.dtype)
        for t in tensors
    )
