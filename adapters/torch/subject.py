"""Steps optimizers of torch, and those written like them, for the parity kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy

import torch

from ..parity.subjects import Arrays, Slots, Stepper
from ..parity.subjects import Runner as BaseRunner

__all__ = ["Runner"]


class Runner(BaseRunner):
    """Runs a class that takes parameters and keywords; a keyword may be a function of the step."""

    def __init__(self, target: Any, arguments: Mapping[str, Any], dtype: str) -> None:
        self.target, self.arguments, self.dtype = target, dict(arguments), getattr(torch, dtype)

    def start(self, params: Arrays) -> Stepper:
        """A new optimizer on copies of the parameters."""
        return _Stepper(self, params)


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Step counts and scalars that are kept as tensors have torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _Stepper(Stepper):
    def __init__(self, runner: Runner, params: Arrays) -> None:
        self.dtype, self.taken = runner.dtype, 0
        self.tensors = {
            path: torch.tensor(value, dtype=self.dtype, requires_grad=True)
            for path, value in params.items()
        }
        items = runner.arguments.items()
        self.scheduled = {name: value for name, value in items if callable(value)}
        now = {name: value(0) for name, value in self.scheduled.items()}
        with _default(self.dtype):
            self.optimizer = runner.target([*self.tensors.values()], **{**runner.arguments, **now})

    def step(self, grads: Arrays) -> None:
        for path, tensor in self.tensors.items():
            tensor.grad = torch.tensor(grads[path], dtype=self.dtype)
        for group in self.optimizer.param_groups:
            group |= {name: value(self.taken) for name, value in self.scheduled.items()}
        with _default(self.dtype):
            self.optimizer.step()
        self.taken += 1

    def params(self) -> dict[str, numpy.ndarray]:
        return {path: _array(tensor) for path, tensor in self.tensors.items()}

    def slots(self) -> Slots:
        found: Slots = {}
        for path, tensor in self.tensors.items():
            for name, value in self.optimizer.state.get(tensor, {}).items():
                if isinstance(value, torch.Tensor) and value.shape == tensor.shape:
                    found.setdefault(str(name), {})[path] = _array(value)
        return found


def _array(tensor: torch.Tensor) -> numpy.ndarray:
    return numpy.array(tensor.detach().double().numpy())
