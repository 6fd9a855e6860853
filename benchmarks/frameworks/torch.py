"""Steps in torch, on the accelerator where there is one: CUDA, ROCm, Metal, XPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._inductor.utils import fresh_cache

import samestep.torch
from samestep.benchmarks.models import Shape
from samestep.torch import kernels

from . import Framework, Step, block, lengths

__all__ = ["FRAMEWORK"]

RELEASED = 31 << 20
"""Bytes taken and given back before anything is timed, as a backward pass does. After that the C
library keeps what temporaries of either side give back, and asks the system for fresh pages no
more."""


class Torch(Framework):
    """torch."""

    adapter = samestep.torch
    device = "gpu" if torch.accelerator.is_available() else "cpu"
    first_parameters = True
    place = str(torch.accelerator.current_accelerator() or "cpu") if device == "gpu" else "cpu"

    def step(self, make: Callable[[Any], Any], shapes: Sequence[Shape], dtype: str) -> Step:
        """``step()`` of a ``torch.optim.Optimizer``."""
        torch.empty(RELEASED, dtype=torch.uint8)
        param, grad = (torch.tensor(block(seed), device=self.place) for seed in (0, 1))
        tensors = []
        for shape in shapes:
            tensors.append(_repeated(param, shape, dtype).requires_grad_())
            tensors[-1].grad = _repeated(grad, shape, dtype)
        return self._finished(make(tensors).step)

    def copy(self, size: int) -> Step:
        """``copy_`` between two tensors."""
        parts = lengths(size)
        source, target = (torch.ones(max(parts), device=self.place) for _ in range(2))

        def copy() -> None:
            for part in parts:
                target[:part].copy_(source[:part])

        return self._finished(copy)

    def _finished(self, call: Step) -> Step:
        if self.device == "cpu":
            return call

        def step() -> None:
            call()
            torch.accelerator.synchronize()

        return step

    def held(self) -> int:
        """Bytes that live tensors take."""
        return torch.cuda.memory_allocated() if self.place == "cuda" else 0

    def room(self) -> int | None:
        """Bytes that are free, what the allocator keeps counted in; of Metal's advised limit."""
        if self.place == "cuda":
            kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
            return torch.cuda.mem_get_info()[0] + kept
        if self.place == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return None

    def peak(self, step: Step) -> int | None:
        """Take a step, and ask the allocator of CUDA."""
        if self.place == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() if self.place == "cuda" else None

    def emptied(self) -> None:
        """Give memory back that the allocator keeps."""
        if self.place == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def uncached(self) -> Iterator[None]:
        """Nothing that Dynamo, Inductor and the adapter remember, in memory or in files."""
        torch.compiler.reset()
        kernels.forget()
        with fresh_cache():
            yield


def _repeated(block: torch.Tensor, shape: Shape, dtype: str) -> torch.Tensor:
    """A new tensor of that shape, filled with the block again and again."""
    size = math.prod(shape)
    long = block.repeat(-(-size // block.numel()))[:size]
    return long.to(getattr(torch, dtype), copy=True).reshape(shape)


FRAMEWORK = Torch
