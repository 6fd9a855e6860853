"""Steps optimizers of Keras 3, on whatever backend Keras has; JAX's where nothing is chosen.

The backend of NumPy rounds float64 to float32 on the way, and is not chosen here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy

from samestep.arrays import map_parts
from samestep.checkpoints.correspondence import About
from samestep.checkpoints.tensor import Tensor
from samestep.parity.subjects.slots import apart, of_native
from samestep.parity.subjects.subject import Arrays, Slots, Stepper
from samestep.parity.subjects.subject import Runner as BaseRunner

from .natives import KERAS, kept, tensor

__all__ = ["Runner"]

if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
    os.environ["KERAS_BACKEND"] = next(
        name for name in ("jax", "torch", "numpy") if find_spec(name)
    )


class Runner(BaseRunner):
    """Runs an optimizer class of Keras."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        self.target, self.arguments, self.dtype = target, dict(arguments), dtype

    def start(self, params: Arrays) -> Stepper:
        """A new optimizer, built for variables with copies of the parameters."""
        return _Stepper(self.target, self.arguments, params, self.dtype)


class _Stepper(Stepper):
    def __init__(self, target: Any, arguments: dict[str, Any], params: Arrays, dtype: str) -> None:
        self.keras, self.dtype = sys.modules["keras"], dtype
        self.scheduled = {name: value for name, value in arguments.items() if callable(value)}
        self.taken = 0
        with self._precisely():
            now = {name: value(0) for name, value in self.scheduled.items()}
            if not callable(target):
                target = partial(type(target).from_config, target.get_config())
            self.optimizer = target(**{**arguments, **now})
            self.variables = {
                path: self.keras.Variable(numpy.array(value), dtype=dtype)
                for path, value in params.items()
            }
            self.optimizer.build([*self.variables.values()])

    def _precisely(self) -> AbstractContextManager[Any]:
        """Float64 is kept, and the learning rate is held in it."""
        jax = sys.modules.get("jax") if self.keras.backend.backend() == "jax" else None
        wide: Callable[[], AbstractContextManager[Any]]
        wide = nullcontext if jax is None else lambda: jax.enable_x64(True)
        return _Floatx(self.keras, self.dtype, wide())

    def step(self, grads: Arrays) -> None:
        with self._precisely():
            for name, value in self.scheduled.items():
                setattr(self.optimizer, name, value(self.taken))
            native = [
                self.keras.ops.convert_to_tensor(numpy.array(grads[path]), dtype=self.dtype)
                for path in self.variables
            ]
            self.optimizer.apply(native, [*self.variables.values()])
        self.taken += 1

    def params(self) -> dict[str, numpy.ndarray]:
        return {path: _array(self.keras, item) for path, item in self.variables.items()}

    def slots(self) -> Slots:
        found: Slots = {}
        cls = type(self.optimizer)
        native = KERAS.get(cls.__name__) if cls.__module__.startswith("keras.") else None
        for at, path in enumerate(self.variables):
            slots: dict[str, Any] = kept(self.optimizer, at)
            if native is not None:
                slots = of_native(
                    native,
                    {name: tensor(value) for name, value in slots.items()},
                    About({}, self.dtype, self.taken),
                )
            for slot, value in slots.items():
                for name, array in apart(slot, map_parts(self._host, value)):
                    found.setdefault(name, {})[path] = array
        return found

    def _host(self, value: Any) -> numpy.ndarray:
        if isinstance(value, Tensor):
            return numpy.asarray(value.values(), dtype=numpy.float64)
        return _array(self.keras, value)


def _array(keras: Any, variable: Any) -> numpy.ndarray:
    return numpy.array(keras.ops.convert_to_numpy(variable.value), dtype=numpy.float64)


class _Floatx(AbstractContextManager["_Floatx"]):
    """Keras's default dtype, and float64 in JAX, for a while."""

    def __init__(self, keras: Any, dtype: str, wide: AbstractContextManager[Any]) -> None:
        self.config, self.dtype, self.wide = keras.config, dtype, wide

    def __enter__(self) -> _Floatx:
        self.before = self.config.floatx()
        self.config.set_floatx(self.dtype)
        self.wide.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.wide.__exit__(*error)
        self.config.set_floatx(self.before)
