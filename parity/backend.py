"""Backends: where a rule can run, for the parity kit, the suite and the demonstration.

A backend module lists its backends in ``BACKENDS``, and an entry point of the group
``samestep.backends`` names the module. A library may have several backends, one per way of
execution (eager, compiled). A backend takes and gives NumPy arrays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Literal

import numpy

from samestep.arrays import parts
from samestep.checkpoints import Checkpoint, checkpoint, restore
from samestep.counts import split
from samestep.rule import Rule, State

from .trajectory import as_recorded

__all__ = [
    "BACKENDS",
    "NUMPY",
    "Backend",
    "Missing",
    "NumPy",
    "NumPyReadOnly",
    "Run",
    "Snapshot",
    "backends",
    "from_state",
]

Arrays = Mapping[str, numpy.ndarray]
Snapshot = dict[tuple[str, str], numpy.ndarray]
"""Parameters and state in float64 by ``(slot, path)``: ``("param", "w")``, ``("m", "w")``,
``("mu.0", "w")`` for the parts of a slot, and ``("d", "")`` for shared state."""


class Run(ABC):
    """An optimizer of some backend at work on parameters given by path."""

    @abstractmethod
    def step(self, grads: Arrays) -> None:
        """Take one step; parameters without a gradient stay as they are."""

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Native arrays by path."""

    @abstractmethod
    def slots(self) -> dict[str, dict[str, Any]]:
        """Native arrays, or tuples of them, by slot and path."""

    def shared(self) -> dict[str, Any]:
        """Native 0-d arrays kept for all parameters together."""
        return {}

    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """Parameters and state as they are now."""

    @abstractmethod
    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint."""


class Backend(ABC):
    """One way of executing rules."""

    name: ClassVar[str]
    library: ClassVar[str]
    """Import name of the library it needs."""
    dtypes: tuple[str, ...] = ("float32", "float64")
    slow: ClassVar[bool] = False
    """Whether a step goes through a compiler, or costs a millisecond per operation."""
    differenced: ClassVar[bool] = False
    """Whether a step returns differences, so that adding them rounds a second time."""
    exact_on_cpu: ClassVar[Literal["bit", "sqrt", "bound"]] = "bit"
    """How near element rules are to NumPy on a CPU: equal to the last bit; equal except for a
    square root that is not correctly rounded; or within the bound, because a compiler contracts
    operations or scalars are traced."""
    bits_of: ClassVar[str | None] = None
    """Name of the backend of the library whose bits element rules have here."""

    @property
    def on_cpu(self) -> bool:
        """Whether its arrays are on a CPU."""
        return True

    @property
    def exact(self) -> str:
        """How near element rules are to NumPy; no equal bits have been measured but on CPUs.

        Compilers of other devices divide approximately and contract operations.
        """
        return self.exact_on_cpu if self.on_cpu else "bound"

    @abstractmethod
    def array(self, values: numpy.ndarray, dtype: str) -> Any:
        """A native array."""

    @abstractmethod
    def numpy(self, array: Any) -> numpy.ndarray:
        """A native array's values; float64 holds every narrower dtype exactly."""

    @abstractmethod
    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        """An optimizer for copies of ``params``, cast to ``dtype``."""

    def value_and_grad(
        self, loss: Callable[..., Any], params: dict[str, Any], *data: Any
    ) -> tuple[float, dict[str, Any]]:
        """``loss(xp, params, *data)`` and its gradient by the library's own differentiation."""
        raise NotImplementedError(f"{self.name} has no automatic differentiation")

    def snapshot(self, run: Run) -> Snapshot:
        """The parameters and the state of a run."""
        taken = {("param", path): self.numpy(array) for path, array in run.params().items()}
        for slot, by_path in run.slots().items():
            for path, value in by_path.items():
                if isinstance(value, (tuple, list)):
                    taken |= {(f"{slot}.{i}", path): self.numpy(v) for i, v in enumerate(value)}
                elif value is not None:  # a route's other rules have slots of their own
                    taken[slot, path] = self.numpy(value)
        return taken | {(name, ""): self.numpy(v) for name, v in run.shared().items()}


class Missing:
    """A backend module that cannot be imported, and why."""

    def __init__(self, name: str, reason: ImportError) -> None:
        self.name, self.reason = name, reason


def backends() -> dict[str, Backend | Missing]:
    """Every backend that is installed, by name; ``Missing`` where its library is not."""
    found: dict[str, Backend | Missing] = {}
    for entry in sorted(entry_points(group="samestep.backends"), key=_order):
        try:
            found |= {backend.name: backend for backend in entry.load().BACKENDS}
        except ImportError as error:
            found[entry.name] = Missing(entry.name, error)
    return found


def _order(entry: EntryPoint) -> tuple[bool, str]:
    return entry.name != "numpy", entry.name


class _RuleRun(Run):
    """A run of ``rule.update`` itself, on arrays that need no adapter."""

    def __init__(self, rule: Rule, params: dict[str, Any], array: Callable[[Any], Any]) -> None:
        self.rule, self._params, self._array = as_recorded(rule), params, array
        self.state: State = self.rule.init(params)

    def step(self, grads: Arrays) -> None:
        native = {path: self._array(grad) for path, grad in grads.items()}
        self._params, self.state = self.rule.update(native, self._params, self.state)

    def params(self) -> dict[str, Any]:
        return self._params

    def slots(self) -> dict[str, dict[str, Any]]:
        return self.state.slots

    def shared(self) -> dict[str, Any]:
        return split(self.state.shared)[0]

    def checkpoint(self) -> Checkpoint:
        return checkpoint(self.rule, self._params, self.state)

    def restore(self, saved: Checkpoint) -> None:
        self._params, self.state = restore(self.rule, saved, self._params)


def from_state(rule: Rule, params: Arrays, array: Callable[[numpy.ndarray], Any]) -> Run:
    """A run that calls ``rule.update`` on arrays made by ``array``."""
    return _RuleRun(rule, {path: array(values) for path, values in params.items()}, array)


class NumPy(Backend):
    """Plain NumPy: the reference that the others are compared with."""

    name = "numpy"
    library = "numpy"

    def array(self, values: numpy.ndarray, dtype: str) -> Any:
        return numpy.array(values, dtype=dtype)

    def numpy(self, array: Any) -> numpy.ndarray:
        return numpy.array(array, dtype=numpy.float64)

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        return from_state(rule, params, lambda values: self.array(values, dtype))


class NumPyReadOnly(NumPy):
    """NumPy with every input marked read-only, so that writing into one is an error."""

    name = "numpy (read-only)"

    def array(self, values: numpy.ndarray, dtype: str) -> Any:
        array = super().array(values, dtype)
        array.flags.writeable = False
        return array

    def start(self, rule: Rule, params: Arrays, dtype: str) -> Run:
        return _Locked(
            rule,
            {p: self.array(v, dtype) for p, v in params.items()},
            lambda values: self.array(values, dtype),
        )


class _Locked(_RuleRun):
    def step(self, grads: Arrays) -> None:
        super().step(grads)
        for by_path in ({"param": self._params} | self.state.slots).values():
            for value in filter(lambda value: value is not None, by_path.values()):
                for array in parts(value):
                    array.flags.writeable = False


NUMPY = NumPy()
BACKENDS: list[Backend] = [NUMPY, NumPyReadOnly()]
