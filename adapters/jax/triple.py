"""Steps triples ``(init, update, get_params)``, as in ``jax.example_libraries.optimizers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

import jax
from samestep.parity.subjects.subject import Arrays, Slots, Stepper
from samestep.parity.subjects.subject import Runner as BaseRunner

from .subject import precisely

__all__ = ["Runner"]


class Runner(BaseRunner):
    """Runs a triple, or the result of a function; one step is one kernel."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        self.dtype = dtype
        with precisely(dtype):
            made = target if isinstance(target, tuple) else target(**arguments)
        self.init, self.update, self.get_params = made
        self.compiled = jax.jit(self.update)

    def start(self, params: Arrays) -> Stepper:
        """Copies of the parameters, and the first state."""
        return _Stepper(self, params)


class _Stepper(Stepper):
    def __init__(self, runner: Runner, params: Arrays) -> None:
        self.runner, self.taken = runner, 0
        with precisely(runner.dtype):
            self.state = runner.init(self._native(params))
        arrays = all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(self.state))
        self.update = runner.compiled if arrays else runner.update  # sm3 keeps shapes as well

    def _native(self, arrays: Arrays) -> dict[str, jax.Array]:
        return {path: jax.numpy.array(v, self.runner.dtype) for path, v in arrays.items()}

    def step(self, grads: Arrays) -> None:
        with precisely(self.runner.dtype):
            self.state = self.update(self.taken, self._native(grads), self.state)
        self.taken += 1

    def params(self) -> dict[str, numpy.ndarray]:
        with precisely(self.runner.dtype):
            values = self.runner.get_params(self.state)
        return {path: numpy.array(value, dtype=numpy.float64) for path, value in values.items()}

    def slots(self) -> Slots:
        """Nothing: the state of a triple has no names."""
        return {}
