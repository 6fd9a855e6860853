"""JAX as backends: the rule on arrays, the optax transformation, and that under jax.jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp
from samestep.checkpoints import Checkpoint
from samestep.counts import split
from samestep.parity.backend import Arrays, Backend, Run, from_state
from samestep.parity.trajectory import as_recorded
from samestep.rule import Rule, State

from . import bind

__all__ = ["BACKENDS", "Jax", "JaxJit", "Optax"]


class Jax(Backend):
    """JAX eager: ``rule.update`` on jax arrays."""

    name = "jax"
    slow = True
    library = "jax"
    dtypes = ("float32", "float64", "bfloat16")

    @property
    def on_cpu(self) -> bool:
        return jax.default_backend() == "cpu"

    def array(self, values: numpy.ndarray, dtype: str) -> jax.Array:
        with jax.enable_x64(dtype == "float64"):
            return xp.asarray(values, dtype=dtype)

    def numpy(self, array: Any) -> numpy.ndarray:
        return numpy.asarray(array).astype(numpy.float64)

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        with jax.enable_x64(dtype == "float64"):
            return _Wide(from_state(rule, params, lambda v: self.array(v, dtype)), dtype)

    def value_and_grad(
        self, loss: Callable[..., Any], params: dict[str, Any], *data: Any
    ) -> tuple[float, dict[str, Any]]:
        value, grads = jax.value_and_grad(lambda p: loss(xp, p, *data))(params)
        return float(value), grads


class _Wide(Run):
    """A run in float64 mode where the dtype asks for it."""

    def __init__(self, run: Run, dtype: str) -> None:
        self.run, self.dtype = run, dtype

    def step(self, grads: Arrays) -> None:
        with jax.enable_x64(self.dtype == "float64"):
            self.run.step(grads)

    def params(self) -> dict[str, Any]:
        return self.run.params()

    def slots(self) -> dict[str, dict[str, Any]]:
        return self.run.slots()

    def shared(self) -> dict[str, Any]:
        return self.run.shared()

    def checkpoint(self) -> Checkpoint:
        return self.run.checkpoint()

    def restore(self, saved: Checkpoint) -> None:
        with jax.enable_x64(self.dtype == "float64"):
            self.run.restore(saved)


class _TransformationRun(Run):
    def __init__(self, backend: Optax, rule: Rule, params: Arrays, dtype: str) -> None:
        self.array: Callable[[Any], Any] = lambda values: backend.array(values, dtype)
        self.transformation = transformation = bind(as_recorded(rule))

        def update(grads: Any, state: Any, params: Any) -> Any:
            updates, state = transformation.update(grads, state, params)
            moved = {path: update for path, update in updates.items() if update is not None}
            stepped = optax.apply_updates({path: params[path] for path in moved}, moved)
            return {**params, **stepped}, state

        self.update = jax.jit(update) if backend.compiles else update
        self._params: dict[str, Any] = {path: self.array(v) for path, v in params.items()}
        self.state: State = transformation.init(self._params)

    def step(self, grads: Arrays) -> None:
        native = {path: self.array(grads[path]) if path in grads else None for path in self._params}
        self._params, self.state = self.update(native, self.state, self._params)

    def params(self) -> dict[str, Any]:
        return self._params

    def slots(self) -> dict[str, dict[str, Any]]:
        return self.state.slots

    def shared(self) -> dict[str, Any]:
        return split(self.state.shared)[0]

    def checkpoint(self) -> Checkpoint:
        return self.transformation.checkpoint(self._params, self.state)

    def restore(self, saved: Checkpoint) -> None:
        self._params, self.state = self.transformation.restore(saved, self._params)


class Optax(Jax):
    """The optax transformation, eager, with ``optax.apply_updates``."""

    name = "optax"
    exact_on_cpu = "bound"
    differenced = True
    compiles = False

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        with jax.enable_x64(dtype == "float64"):
            return _Wide(_TransformationRun(self, rule, params, dtype), dtype)


class JaxJit(Optax):
    """The optax transformation under ``jax.jit``: traced scalars, contracted operations."""

    name = "jax.jit"
    compiles = True


BACKENDS: list[Backend] = [Jax(), Optax(), JaxJit()]
