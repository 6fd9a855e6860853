"""Steps optimizers of MLX, and those written like them, on the CPU, for the parity kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

import mlx.core as xp

from ..parity.subjects import Arrays, Slots, Stepper
from ..parity.subjects import Runner as BaseRunner

__all__ = ["Runner"]


class Runner(BaseRunner):
    """Runs what a class makes with arguments."""

    def __init__(self, target: Any, arguments: Mapping[str, Any], dtype: str) -> None:
        self.target, self.arguments, self.dtype = target, dict(arguments), getattr(xp, dtype)

    def start(self, params: Arrays) -> Stepper:
        """A new optimizer for copies of the parameters."""
        return _Stepper(self, params)


class _Stepper(Stepper):
    def __init__(self, runner: Runner, params: Arrays) -> None:
        self.dtype = runner.dtype
        with xp.stream(xp.cpu):
            self.values = self._native(params)
            self.optimizer = runner.target(**runner.arguments)
            self.optimizer.init(self.values)

    def _native(self, arrays: Arrays) -> dict[str, Any]:
        return {path: xp.array(numpy.asarray(v), dtype=self.dtype) for path, v in arrays.items()}

    def step(self, grads: Arrays) -> None:
        with xp.stream(xp.cpu):
            self.values = self.optimizer.apply_gradients(self._native(grads), self.values)
            xp.eval(self.values, self.optimizer.state)

    def params(self) -> dict[str, numpy.ndarray]:
        return {path: _array(value) for path, value in self.values.items()}

    def slots(self) -> Slots:
        found: Slots = {}
        for path in self.values:
            state = self.optimizer.state.get(path, {})
            for name, value in state.items() if isinstance(state, dict) else ():
                if isinstance(value, xp.array):
                    found.setdefault(name, {})[path] = _array(value)
        return found


def _array(value: Any) -> numpy.ndarray:
    return numpy.array(value, dtype=numpy.float64)
