"""Steps in torch, on the GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._inductor.utils import fresh_cache

import samestep.torch
from samestep.benchmarks.models import Shape
from samestep.torch import kernels

from . import Framework, Step, arrays, lengths

__all__ = ["FRAMEWORK"]

RELEASED = 31 << 20
"""Bytes taken and given back before anything is timed, as a backward pass does. After that the C
library keeps what temporaries of either side give back, and asks the system for fresh pages no
more."""


class Torch(Framework):
    """torch."""

    adapter = samestep.torch
    device = "gpu" if torch.cuda.is_available() else "cpu"
    first_parameters = True
    place = "cuda" if torch.cuda.is_available() else "cpu"

    def step(self, make: Callable[[Any], Any], shapes: Sequence[Shape], dtype: str) -> Step:
        """``step()`` of a ``torch.optim.Optimizer``."""
        torch.empty(RELEASED, dtype=torch.uint8)
        placed = {"dtype": getattr(torch, dtype), "device": self.place}
        tensors = []
        for param, grad in zip(arrays(shapes, 0), arrays(shapes, 1), strict=True):
            tensors.append(torch.tensor(param, **placed).requires_grad_())
            tensors[-1].grad = torch.tensor(grad, **placed)
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
            torch.cuda.synchronize()

        return step

    @contextmanager
    def uncached(self) -> Iterator[None]:
        """Nothing that Dynamo, Inductor and the adapter remember, in memory or in files."""
        torch.compiler.reset()
        kernels.forget()
        with fresh_cache():
            yield


FRAMEWORK = Torch
