"""PyTorch as backends: each execution of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import array_api_compat.torch as xp
import numpy

import torch
from samestep.checkpoints import Checkpoint
from samestep.execution import Execution
from samestep.parity.backend import Arrays, Backend, Run
from samestep.rule import Rule

from . import bind
from .entries import slots_in

__all__ = ["BACKENDS", "Torch", "TorchCompile", "TorchPacked"]


class _OptimizerRun(Run):
    def __init__(self, backend: Torch, rule: Rule, params: Arrays, dtype: str) -> None:
        self.backend, self.dtype = backend, dtype
        self._params = {path: backend.array(values, dtype) for path, values in params.items()}
        self.optimizer = bind(rule, self._params.items(), execution=backend.execution)
        self.optimizer.init_state()

    def step(self, grads: Arrays) -> None:
        for path, param in self._params.items():
            grad = grads.get(path)
            param.grad = None if grad is None else self.backend.array(grad, self.dtype)
        self.optimizer.step()

    def params(self) -> dict[str, Any]:
        return self._params

    def slots(self) -> dict[str, dict[str, Any]]:
        found = {path: slots_in(self.optimizer.state[p]) for path, p in self._params.items()}
        return {
            slot: {path: slots.get(slot) for path, slots in found.items()}
            for slot in self.optimizer.rule.slots()
        }

    def shared(self) -> dict[str, Any]:
        group = self.optimizer.param_groups[0]
        return {name: group[name] for name in self.optimizer.rule.shared()}

    def checkpoint(self) -> Checkpoint:
        return self.optimizer.checkpoint(self._params)

    def restore(self, saved: Checkpoint) -> None:
        self.optimizer.restore(saved, self._params)


class Torch(Backend):
    """PyTorch, one operation after another. One CPU square root in six is off by 1 ULP."""

    name = "torch"
    library = "torch"
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16")
    exact_on_cpu: ClassVar[Literal["bit", "sqrt", "bound"]] = "sqrt"
    execution: ClassVar[Execution] = "reference"
    device = "cpu"

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    def array(self, values: numpy.ndarray, dtype: str) -> torch.Tensor:
        return torch.tensor(numpy.asarray(values), dtype=getattr(torch, dtype), device=self.device)

    def numpy(self, array: Any) -> numpy.ndarray:
        values: numpy.ndarray = array.detach().cpu().to(torch.float64).numpy()
        return values.copy()

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        return _OptimizerRun(self, rule, params, dtype)

    def value_and_grad(
        self, loss: Callable[..., Any], params: dict[str, Any], *data: Any
    ) -> tuple[float, dict[str, Any]]:
        leaves = {path: param.detach().requires_grad_() for path, param in params.items()}
        value = loss(xp, leaves, *data)
        grads = torch.autograd.grad(value, list(leaves.values()))
        return float(value.detach()), dict(zip(leaves, grads, strict=True))


class TorchPacked(Torch):
    """PyTorch, with small parameters gathered and large parameters in pieces."""

    name = "torch (packed)"
    bits_of = "torch"
    execution = "packed"


class TorchCompile(Torch):
    """PyTorch, packed, and compiled by torch.compile."""

    name = "torch.compile"
    exact_on_cpu = "bit"
    slow = True
    execution = "compiled"


_ACCELERATOR = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


class TorchElsewhere(Torch):
    """PyTorch on an accelerator, packed."""

    execution: ClassVar[Execution] = "packed"
    device = _ACCELERATOR.type if _ACCELERATOR is not None else "cuda"
    name = f"torch ({device})"
    dtypes: tuple[str, ...] = ("float32", "bfloat16") if device == "mps" else Torch.dtypes


class TorchElsewhereCompile(TorchElsewhere):
    """PyTorch on an accelerator, compiled."""

    name = f"torch.compile ({TorchElsewhere.device})"
    slow = True
    execution = "compiled"


BACKENDS: list[Backend] = [Torch(), TorchPacked(), TorchCompile()]
if _ACCELERATOR is not None:
    BACKENDS += [TorchElsewhere(), TorchElsewhereCompile()]
