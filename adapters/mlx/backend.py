"""MLX as backends: eager, compiled kernels, and a compiled training step with captured state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy

import mlx.core as xp
from samestep.checkpoints import Checkpoint
from samestep.counts import split
from samestep.execution import Execution
from samestep.parity.backend import Arrays, Backend, Run
from samestep.rule import Rule

from . import bind

__all__ = ["BACKENDS", "MLX", "MLXCaptured", "MLXCompile"]


class _OptimizerRun(Run):
    def __init__(self, backend: MLX, rule: Rule, params: Arrays, dtype: str) -> None:
        self.array: Callable[[Any], Any] = lambda values: backend.array(values, dtype)
        self._params = {path: self.array(values) for path, values in params.items()}
        self.optimizer = bind(rule, execution=backend.execution)
        self.optimizer.init(self._params)
        self.update: Any = self.optimizer.apply_gradients
        if backend.captures:
            state = self.optimizer.state
            self.update = xp.compile(self.update, inputs=state, outputs=state)

    def step(self, grads: Arrays) -> None:
        native = {path: self.array(grad) for path, grad in grads.items()}
        self._params = {**self._params, **self.update(native, self._params)}
        xp.eval(self._params, self.optimizer.state)

    def params(self) -> dict[str, Any]:
        return self._params

    def slots(self) -> dict[str, dict[str, Any]]:
        state = self.optimizer.state
        return {
            slot: {path: state[path].get(slot) for path in self._params}
            for slot in self.optimizer.rule.slots()
        }

    def shared(self) -> dict[str, Any]:
        return split(self.optimizer.state.get("shared_state", {}))[0]

    def checkpoint(self) -> Checkpoint:
        return self.optimizer.checkpoint(self._params)

    def restore(self, saved: Checkpoint) -> None:
        self._params = self.optimizer.restore(saved, self._params)


class MLX(Backend):
    """MLX, one operation after another (lazily)."""

    name = "mlx"
    library = "mlx"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    execution: ClassVar[Execution] = "reference"
    captures = False

    def __init__(self) -> None:
        if self.on_cpu:  # Metal has no float64
            self.dtypes = ("float32", "float64", "bfloat16")

    @property
    def on_cpu(self) -> bool:
        return bool(xp.default_device() == xp.Device(xp.cpu))

    def array(self, values: numpy.ndarray, dtype: str) -> xp.array:
        return xp.array(numpy.asarray(values), getattr(xp, dtype))

    def numpy(self, array: Any) -> numpy.ndarray:
        wide = array if array.dtype == xp.float64 else array.astype(xp.float32)
        return numpy.array(wide).astype(numpy.float64)

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        return _OptimizerRun(self, rule, params, dtype)

    def value_and_grad(
        self, loss: Callable[..., Any], params: dict[str, Any], *data: Any
    ) -> tuple[float, dict[str, Any]]:
        value, grads = xp.value_and_grad(lambda p: loss(xp, p, *data))(params)
        return float(value.item()), grads


class MLXCompile(MLX):
    """MLX, small parameters gathered, the step of each vector compiled by mx.compile."""

    name = "mx.compile"
    slow = True
    execution = "compiled"


class MLXCaptured(MLX):
    """MLX, the whole step compiled with its state captured: scalars are traced in float32."""

    name = "mx.compile (state)"
    slow = True
    exact_on_cpu = "bound"
    captures = True


BACKENDS: list[Backend] = [MLX(), MLXCompile(), MLXCaptured()]
