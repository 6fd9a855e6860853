"""Steps transformations of optax, and transformations written like them, for the parity kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy
import optax  # type: ignore[import-untyped]

import jax
from samestep.parity.subjects.slots import apart, called
from samestep.parity.subjects.subject import Arrays, Slots, Stepper
from samestep.parity.subjects.subject import Runner as BaseRunner

from .natives.tables import KEPT

__all__ = ["Runner", "precisely"]


@contextmanager
def precisely(dtype: str) -> Iterator[None]:
    """Let JAX hold float64 where that is the dtype."""
    with jax.enable_x64(dtype == "float64"):
        yield


class Runner(BaseRunner):
    """Runs a transformation, or the result of a function; one step is one kernel."""

    def __init__(
        self, target: Any, arguments: Mapping[str, Any], dtype: str, rule: str = ""
    ) -> None:
        self.dtype, self.rule = dtype, rule
        with precisely(dtype):
            made = target if hasattr(target, "update") else target(**arguments)
        self.transformation = made

        def one(grads: Any, state: Any, params: Any) -> Any:
            updates, state = made.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.step = jax.jit(one)

    def start(self, params: Arrays) -> Stepper:
        """Copies of the parameters, and the first state."""
        return _Stepper(self, params)


class _Stepper(Stepper):
    def __init__(self, runner: Runner, params: Arrays) -> None:
        self.runner = runner
        with precisely(runner.dtype):
            self.values = self._native(params)
            self.state = runner.transformation.init(self.values)

    def _native(self, arrays: Arrays) -> dict[str, jax.Array]:
        return {path: jax.numpy.array(v, self.runner.dtype) for path, v in arrays.items()}

    def step(self, grads: Arrays) -> None:
        with precisely(self.runner.dtype):
            self.values, self.state = self.runner.step(self._native(grads), self.state, self.values)

    def params(self) -> dict[str, numpy.ndarray]:
        return _arrays(self.values)

    def slots(self) -> Slots:
        found: Slots = {}
        for kind, field, tree in _fields(self.state):
            alike = isinstance(tree, dict) and tree.keys() == self.values.keys()
            if not alike or not all(map(_is_slot, tree.values())):
                continue
            name, sign = _named(self.runner.rule, kind, field)
            own: Slots = {}
            for path, value in tree.items():
                for part, array in apart(name, value):
                    own.setdefault(part, {})[path] = sign * array
            found = own | found
        return found


def _is_slot(value: Any) -> bool:
    parts = value if isinstance(value, (tuple, list)) else (value,)
    return all(isinstance(part, jax.Array) for part in parts)


def _named(rule: str, kind: str, field: str) -> tuple[str, int]:
    """Our name of a field of a state, and its sign there."""
    tables = [KEPT[rule]] if rule in KEPT else [*KEPT.values()]
    meant = {
        (slot, kept.sign)
        for table in tables
        for slot, kept in table.items()
        if kind in kept.states and kept.field == field
    }
    name, sign = meant.pop() if len(meant) == 1 else (field, 1)
    return called(name, sign < 0), sign  # the update that is added to a parameter includes lr


def _arrays(tree: Mapping[str, Any]) -> dict[str, numpy.ndarray]:
    return {path: numpy.array(value, dtype=numpy.float64) for path, value in tree.items()}


def _fields(state: Any) -> Iterator[tuple[str, str, Any]]:
    """The named fields anywhere in a state, and the classes of the states that have them."""
    if hasattr(state, "_fields"):
        for name in state._fields:
            value, kind = getattr(state, name), type(state).__name__
            if isinstance(value, dict):
                yield kind, name, value
                yield from ((kind, str(inside), tree) for inside, tree in value.items())
            else:
                yield from _fields(value)
    elif isinstance(state, (tuple, list)):
        for value in state:
            yield from _fields(value)
