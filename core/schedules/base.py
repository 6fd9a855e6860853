"""What a schedule is, and what becomes one."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import array_api_compat
import numpy

from samestep.arrays import is_array

from .arguments import KINDS, Kind, is_number, kept

__all__ = ["HOST", "Constant", "Monotone", "Schedule", "filled", "make_schedule", "real"]

HOST = SimpleNamespace(**vars(math), where=lambda condition, yes, no: yes if condition else no)
"""The operations used here on Python numbers, under the names of an array namespace."""

FAR = 2**53
"""A step after the last of any schedule."""


class Schedule(ABC):
    """A value that depends on the step only. A subclass computes it in ``at``.

    Arguments of one name mean the same in every schedule.

    Args:
        start: value at step 0, in the unit of the hyperparameter.
        end: value from the last step on.
        steps, decay_steps: steps until ``end`` is reached; with ``steps=0`` it is reached at once.
    """

    _kinds: ClassVar[dict[str, Kind]] = {}
    """Kinds of arguments that differ from ``KINDS``."""

    def __post_init__(self) -> None:
        kinds, who = {**KINDS, **self._kinds}, type(self).__name__
        for name in [name for name in vars(self) if name in kinds]:
            object.__setattr__(self, name, kept(who, name, getattr(self, name), kinds[name]))

    @property
    def peak(self) -> float | None:
        """The largest value; ``None`` if it is not known."""
        return self.largest(FAR)

    def largest(self, steps: int) -> float | None:
        """The largest value in the first ``steps`` steps; ``None`` if it is not known."""
        return None

    @abstractmethod
    def at(self, xp: Any, step: Any) -> Any:
        """The value, with the operations of ``xp``: ``HOST`` for numbers, else a namespace."""

    def __call__(self, step: Any) -> Any:
        """The value for the 0-based ``step``: a float for a number, an array for an array.

        Raises:
            TypeError: the step is neither a number nor an array.
        """
        if isinstance(step, numbers.Real):
            number = int(step) if isinstance(step, numbers.Integral) else float(step)
            return float(self.at(HOST, number))
        if not hasattr(step, "dtype"):
            raise TypeError(
                f"{type(self).__name__}: the step is {step!r}; it must be a number or an array"
            )
        xp = array_api_compat.array_namespace(step)
        return real(xp, self.at(xp, step))


class Monotone(Schedule):
    """A schedule that only rises or only falls."""

    def largest(self, steps: int) -> float:
        """See ``Schedule``."""
        return float(max(self(0), self(steps - 1)))


@dataclass(frozen=True)
class Constant(Monotone):
    """``value`` at every step, in the unit of the hyperparameter."""

    value: float

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return filled(xp, step, self.value)


def make_schedule(value: Any) -> Callable[[Any], Any]:
    """A schedule made of a value: a callable of the step is returned unchanged.

    A number becomes a ``Constant``. A 0-d array becomes a function that returns it at every step.

    Raises:
        TypeError: ``value`` is not a callable, a number or an array.
    """
    if is_number(value):
        return Constant(value)
    if is_array(value):
        return lambda step: value
    if callable(value):
        return cast(Callable[[Any], Any], value)
    raise TypeError(
        f"make_schedule({value!r}): a schedule is made of a number or of a callable of the step, "
        f"not of {type(value).__name__}"
    )


def real(xp: Any, x: Any) -> Any:
    """``x`` as a float, or as an array of a floating dtype."""
    if xp is HOST:
        return float(x)
    if isinstance(x, numpy.generic):  # NumPy turns 0-d results into scalars
        x = numpy.asarray(x)
    return x if xp.isdtype(x.dtype, "real floating") else xp.astype(x, xp.asarray(0.5).dtype)


def filled(xp: Any, step: Any, value: Any) -> Any:
    """``value``, as an array if the step is an array."""
    return value if xp is HOST else xp.zeros_like(real(xp, step)) + value
