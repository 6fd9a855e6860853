"""Steps in MLX: both sides compiled over their state, and evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as xp
import mlx.optimizers

import samestep.mlx
from samestep.benchmarks.models import Shape

from . import Framework, Step, arrays, lengths

__all__ = ["FRAMEWORK"]


class MLX(Framework):
    """MLX, on its default device."""

    adapter = samestep.mlx
    device = "cpu" if xp.default_device() == xp.Device(xp.cpu) else "gpu"
    compiles = True

    def step(self, make: Callable[[Any], Any], shapes: Sequence[Shape], dtype: str) -> Step:
        """The parameters after a step of an ``mlx.optimizers.Optimizer``, evaluated."""
        optimizer, native = make(mlx.optimizers), getattr(xp, dtype)
        params, grads = (
            {str(i): xp.array(array, native) for i, array in enumerate(arrays(shapes, seed))}
            for seed in (0, 1)
        )
        optimizer.init(params)
        state = optimizer.state
        xp.eval(params, grads, state)
        compiled = xp.compile(optimizer.apply_gradients, inputs=state, outputs=state)

        def step() -> None:
            nonlocal params
            params = compiled(grads, params)
            xp.eval(params, state)

        return step

    def copy(self, size: int) -> Step:
        """Zero added: MLX leaves out a copy."""
        parts = lengths(size)
        source = xp.ones(max(parts))
        xp.eval(source)

        def copy() -> None:
            for part in parts:
                xp.eval(source[:part] + 0.0)

        return copy

    def held(self) -> int:
        """Bytes that live arrays take."""
        return int(xp.get_active_memory()) if self.device == "gpu" else 0

    def room(self) -> int | None:
        """Bytes that are free of the working set that Metal recommends."""
        if self.device == "cpu":
            return None
        about = getattr(xp, "device_info", None) or xp.metal.device_info
        return int(about()["max_recommended_working_set_size"]) - self.held()

    def peak(self, step: Step) -> int | None:
        """Take a step, and ask MLX."""
        xp.reset_peak_memory()
        step()
        return int(xp.get_peak_memory()) if self.device == "gpu" else None

    def emptied(self) -> None:
        """Give memory back that MLX keeps."""
        xp.clear_cache()


FRAMEWORK = MLX
