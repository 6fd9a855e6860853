"""Steps optimizers of MLX, and optimizers written like them, on the CPU, for the parity kit."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy

import mlx.core as xp
from samestep.arrays import map_parts
from samestep.checkpoints.correspondence import About
from samestep.parity.subjects.slots import apart, names_by_rule, of_native
from samestep.parity.subjects.subject import Arrays, Slots, Stepper
from samestep.parity.subjects.subject import Runner as BaseRunner

from .natives import MLX

__all__ = ["Runner"]


class Runner(BaseRunner):
    """Runs an optimizer that a class makes with arguments, or copies of an existing optimizer."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        self.rule, self.target, self.arguments, self.dtype = rule, target, dict(arguments), dtype

    def start(self, params: Arrays) -> Stepper:
        """A new optimizer for copies of the parameters."""
        return _Stepper(self, params)


class _Stepper(Stepper):
    def __init__(self, runner: Runner, params: Arrays) -> None:
        self.dtype, self.rule, self.taken = runner.dtype, runner.rule, 0
        with xp.stream(xp.cpu):
            self.values = self._native(params)
            made = not callable(runner.target)
            make = partial(deepcopy, runner.target) if made else runner.target
            self.optimizer = make(**runner.arguments)
            self.optimizer.init(self.values)

    def _native(self, arrays: Arrays) -> dict[str, Any]:
        return {
            path: xp.array(numpy.array(v), dtype=getattr(xp, self.dtype))
            for path, v in arrays.items()
        }

    def step(self, grads: Arrays) -> None:
        with xp.stream(xp.cpu):
            self.values = self.optimizer.apply_gradients(self._native(grads), self.values)
            xp.eval(self.values, self.optimizer.state)
        self.taken += 1

    def params(self) -> dict[str, numpy.ndarray]:
        return {path: _array(value) for path, value in self.values.items()}

    def slots(self) -> Slots:
        found: Slots = {}
        for path in self.values:
            state = self.optimizer.state.get(path, {})
            for slot, value in self._named(state if isinstance(state, dict) else {}).items():
                for name, array in apart(slot, map_parts(_array, value)):
                    found.setdefault(name, {})[path] = array
        return found

    def _named(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a parameter, under our names where they are known."""
        cls = type(self.optimizer)
        native = MLX.get(cls.__name__) if cls.__module__.startswith("mlx.") else None
        if native is not None:
            numbers = {n: v for n, v in vars(self.optimizer).items() if not n.startswith("_")}
            return of_native(native, state, About(numbers, self.dtype, self.taken))
        if cls.__module__.startswith("samestep"):
            return dict(state)
        names = names_by_rule([MLX], self.rule, xp.ones(()))
        return {names.get(n, n): v for n, v in state.items() if isinstance(v, xp.array)}


def _array(value: Any) -> numpy.ndarray:
    return numpy.array(value, dtype=numpy.float64)
