"""The memory of a process that runs the suite, and of a step of PyTorch.

The process stays small: compilers' caches are emptied when they have grown.
Frameworks keep every program that they have compiled, and the suite has thousands of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["bound", "held", "resident"]

STATM = Path("/proc/self/statm")
PAGE = 4096
GROWTH = 400 * 2**20
"""Bytes by which the process may grow before the caches are emptied."""

_last = {"resident": 0}


def resident() -> int:
    """The bytes of memory that this process occupies; 0 where the system does not say."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * PAGE if STATM.exists() else 0


def bound() -> None:
    """Empty the compilers' caches if the process has grown since the last time."""
    if resident() < _last["resident"] + GROWTH:
        return
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()
    if kernels := sys.modules.get("samestep.torch.kernels"):
        kernels.forget()
    if mlx := sys.modules.get("mlx.core"):
        mlx.clear_cache()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    _last["resident"] = resident()


@contextlib.contextmanager
def held(known: Iterable[Any]) -> Iterator[dict[str, int]]:
    """The ``most`` bytes that tensors of PyTorch hold at once, of those that are made inside.

    Args:
        known: tensors that are there before.
    """
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC0415
    from torch.utils._pytree import tree_leaves  # noqa: PLC0415

    there = {tensor.untyped_storage()._cdata for tensor in known}
    found = {"now": 0, "most": 0}

    def gone(storage: int, size: int) -> None:
        there.discard(storage)
        found["now"] -= size

    class Holding(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                storage = getattr(tensor, "untyped_storage", lambda: None)()
                if storage is not None and storage._cdata not in there:
                    there.add(storage._cdata)
                    found["now"] += storage.nbytes()
                    weakref.finalize(storage, gone, storage._cdata, storage.nbytes())
            found["most"] = max(found.values())
            return result

    with Holding():  # type: ignore[no-untyped-call]
        yield found
