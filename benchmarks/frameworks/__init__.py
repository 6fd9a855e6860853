"""Steps and plain copies in each framework, as calls that return when the work is finished.

These steppers exist for timing. ``samestep.parity.subjects`` steps optimizers too, but it converts
gradients from NumPy in every step. A call here does nothing except the step of a training loop.
Every step has its own parameters, gradients and state, because some optimizers write into the
gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any

import numpy

from samestep.benchmarks.models import Shape
from samestep.rule import Rule

__all__ = ["Framework", "Step", "arrays", "block", "framework", "lengths"]

Step = Callable[[], object]
COPIED = 1 << 28
"""Bytes read or written at once by a copy, at most; caches hold less."""
AUTO = "auto"


class Framework(ABC):
    """One framework: steps of its optimizers, and copies."""

    adapter: Any
    device: str
    """``cpu`` or ``gpu``; any other accelerator counts as ``gpu``."""
    first_parameters = False
    """Whether an optimizer is made from parameters."""
    compiles = False
    """Whether the framework's compiler is given the whole step, training loop and all."""

    @property
    def executions(self) -> tuple[str, ...]:
        """The adapter's ways of executing a step that differ here.

        ``auto`` is one of the others; where the whole step is compiled it is all that counts.
        """
        if self.compiles:
            return (AUTO,)
        return tuple(name for name in self.adapter.EXECUTIONS if name != AUTO)

    def ours(self, rule: Rule, execution: str, shapes: Sequence[Shape], dtype: str) -> Step:
        """A step of the adapter's optimizer."""

        def make(given: Any) -> Any:
            arguments = (rule, given) if self.first_parameters else (rule,)
            return self.adapter.bind(*arguments, execution=execution)

        return self.step(make, shapes, dtype)

    @abstractmethod
    def step(self, make: Callable[[Any], Any], shapes: Sequence[Shape], dtype: str) -> Step:
        """A step of the optimizer made from parameters, or from the library's module."""

    @abstractmethod
    def copy(self, size: int) -> Step:
        """Read and write ``size`` bytes in all."""

    def held(self) -> int:
        """Bytes of the accelerator's memory in use; 0 where nobody counts."""
        return 0

    def room(self) -> int | None:
        """Bytes of the accelerator's memory that are free; ``None`` where nobody counts."""
        return None

    def peak(self, step: Step) -> int | None:
        """Take a step; bytes of the accelerator's memory in use at most meanwhile, if counted."""
        step()
        return None

    def emptied(self) -> None:  # noqa: B027  (nothing to do where memory is not kept)
        """Give memory back that nothing uses."""

    def uncached(self) -> AbstractContextManager[None]:
        """A context in which everything is compiled again."""
        return nullcontext()


@cache
def framework(name: str) -> Framework:
    """The framework of that name, imported."""
    made: Framework = import_module(f"{__name__}.{name}").FRAMEWORK()
    return made


def arrays(shapes: Sequence[Shape], seed: int) -> Iterator[numpy.ndarray]:
    """Normally distributed float32 arrays, repeating themselves."""
    repeated = block(seed)
    return (numpy.resize(repeated, shape) for shape in shapes)


def block(seed: int) -> numpy.ndarray:
    """What ``arrays`` repeat, for a framework that repeats it on its device."""
    return numpy.random.default_rng(seed).standard_normal(1 << 16, dtype=numpy.float32)


def lengths(size: int) -> list[int]:
    """Lengths of float32 arrays. Copying all of them reads and writes ``size`` bytes in all."""
    total, most = size // 8, COPIED // 4
    return [most] * (total // most) + [total % most] * (total % most > 0)
