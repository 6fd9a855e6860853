"""Steps optimizers of torch, and optimizers written like them, for the parity kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy

import torch
from samestep.arrays import map_parts
from samestep.checkpoints.correspondence import About
from samestep.parity.subjects.slots import apart, names_by_rule, of_native
from samestep.parity.subjects.subject import Arrays, Slots, Stepper
from samestep.parity.subjects.subject import Runner as BaseRunner

from .entries import slots_in
from .libraries import LIBRARIES

__all__ = ["Runner"]


class Runner(BaseRunner):
    """Runs a class that takes parameters and keywords; a keyword may be a function of the step."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        self.target, self.arguments, self.dtype = target, dict(arguments), getattr(torch, dtype)
        self.rule = rule

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
        self.dtype, self.rule, self.taken = runner.dtype, runner.rule, 0
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
            for slot, value in self._kept(tensor).items():
                for name, array in apart(slot, value):
                    found.setdefault(name, {})[path] = array
        return found

    def _kept(self, tensor: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter, under our names where they are known."""
        cls, state = type(self.optimizer), self.optimizer.state.get(tensor, {})
        package = cls.__module__.partition(".")[0]
        if package == "samestep":
            own = slots_in(state).items()
            return {name: map_parts(_array, value) for name, value in own if name != "step"}
        library = LIBRARIES.get(package)
        native = library.table.get(cls.__name__) if library else None
        if library is None or native is None:
            kept = {str(n): v for n, v in state.items() if getattr(v, "shape", ()) == tensor.shape}
            names = _names(self.rule)
            return {names.get(n, n): _array(v) for n, v in kept.items() if torch.is_tensor(v)}
        group = self.optimizer.param_groups[0]
        opened = library.opened("it", state)
        about = About(group, str(self.dtype).removeprefix("torch."), self.taken)
        slots = of_native(native, opened, about)
        return {name: map_parts(_array, value) for name, value in slots.items()}


@cache
def _names(rule: str) -> dict[str, str]:
    tables = [library.table for library in LIBRARIES.values()]
    return names_by_rule(tables, rule, torch.ones(()))


def _array(tensor: torch.Tensor) -> numpy.ndarray:
    return numpy.array(tensor.detach().double().numpy())
