"""Schedules: hyperparameters that change from step to step, as pure functions of the step.

    rule = samestep.AdamW(lr=CosineDecay(1e-3, 10_000))

The step is the 0-based index of the next step, as in optax: the first update reads
``schedule(0)``. A Python number gives a float, computed in float64. An array of any framework,
traced or not, gives an array of that framework, without a branch on values: in its own dtype, or in
the default floating dtype for integers.

A value is exactly ``start`` at step 0 and exactly ``end`` from the last step on. Schedules with the
same arguments are equal, and ``repr`` of a schedule is the call that makes it.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import array_api_compat
import numpy

from .arrays import is_array
from .schedule_arguments import DECAY, KINDS, NOT_NEGATIVE, STEPS, Kind, is_number, kept, refuse

__all__ = [
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "HalfLife",
    "InverseTimeDecay",
    "Join",
    "Linear",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Schedule",
    "make_schedule",
    "warmup_cosine",
]

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
    def peak(self) -> float:
        """The largest value, of a schedule that only rises or only falls."""
        return float(max(self(0), self(FAR)))

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
        return _real(xp, self.at(xp, step))


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


# Shapes that several schedules share.


def _real(xp: Any, x: Any) -> Any:
    """``x`` as a float, or as an array of a floating dtype."""
    if xp is HOST:
        return float(x)
    if isinstance(x, numpy.generic):  # NumPy turns 0-d results into scalars
        x = numpy.asarray(x)
    return x if xp.isdtype(x.dtype, "real floating") else xp.astype(x, xp.asarray(0.5).dtype)


def _filled(xp: Any, step: Any, value: Any) -> Any:
    """``value``, as an array if the step is an array."""
    return value if xp is HOST else xp.zeros_like(_real(xp, step)) + value


class _Ramp(Schedule):
    """``start`` at step 0, ``end`` from the last step on, and ``_between`` in the steps between."""

    _between: Callable[..., Any]  # of the namespace and of the shares of steps ahead and behind
    start: float
    end: float

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        steps = next(value for name, value in vars(self).items() if "steps" in name)
        inside, span = (step > 0) & (step < steps), max(steps, 1)
        # Quotients of whole numbers: 1 - done would cancel near the end, 1 - left near the start.
        left = xp.where(inside, _real(xp, steps - step) / span, 0.5)
        done = xp.where(inside, _real(xp, step) / span, 0.5)
        value = self._between(xp, left, done)
        return xp.where(step < steps, xp.where(step > 0, value, self.start), self.end)


@dataclass(frozen=True)
class _Fall(_Ramp):
    """A ramp whose arguments are in the order of decays."""

    start: float
    decay_steps: int
    end: float = 0.0


@dataclass(frozen=True)
class _Periodic(Schedule):
    """A decay whose unit of time is ``decay_steps``."""

    start: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def _periods(self, xp: Any, step: Any) -> Any:
        """``step / decay_steps``; ``staircase`` rounds it down, in integers and so exactly."""
        if self.staircase:
            return _real(xp, step // self.decay_steps)
        return _real(xp, step) / self.decay_steps


# The schedules.


@dataclass(frozen=True)
class Constant(Schedule):
    """``value`` at every step, in the unit of the hyperparameter."""

    value: float

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return _filled(xp, step, self.value)


class ExponentialDecay(_Periodic):
    """``start * decay_rate ** (step / decay_steps)``; see ``Schedule``.

    ``decay_rate``, > 0, is the factor per ``decay_steps``. ``staircase`` rounds the quotient down.

    ``jax.example_libraries`` has no staircase; Keras and optax do. optax can begin later and stop
    at an end value, and takes ``decay_rate = 0`` for a constant. MLX's has ``decay_steps = 1``.
    """

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        periods, rate = self._periods(xp, step), self.decay_rate
        # The logarithm is taken in float64, for arrays too.
        return self.start * (rate**periods if xp is HOST else xp.exp(periods * math.log(rate)))


class InverseTimeDecay(_Periodic):
    """``start / (1 + decay_rate * step / decay_steps)``; see ``Schedule``.

    ``decay_rate``, >= 0, is the growth of the denominator per ``decay_steps``. ``staircase`` rounds
    the quotient down.

    Keras and ``jax.example_libraries`` agree; optax, torch and MLX have no such schedule.
    """

    _kinds: ClassVar = {"decay_rate": NOT_NEGATIVE}

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return self.start / (1 + self.decay_rate * self._periods(xp, step))


@dataclass(frozen=True)
class PolynomialDecay(_Fall):
    """``end + (start - end) * (1 - step / decay_steps) ** power``, then ``end``; see ``Schedule``.

    ``power`` is > 0; 1 is a straight line. In Keras ``end`` is 0.0001 by default and the decay can
    start again (``cycle``). optax's ``polynomial_schedule`` has another order of arguments. torch's
    ``PolynomialLR`` always ends at 0. ``jax.example_libraries`` has no default for ``end``.
    """

    power: float = 1.0

    def _between(self, xp: Any, left: Any, done: Any) -> Any:
        risen = -xp.expm1(self.power * xp.log1p(-done))  # 1 - left ** power
        return left**self.power * self.start + risen * self.end


@dataclass(frozen=True)
class PiecewiseConstant(Schedule):
    """``values[k]``, where ``k`` is the number of boundaries before the step.

    Args:
        boundaries: increasing steps.
        values: one more than boundaries, in the unit of the hyperparameter.
        inclusive: whether the value changes at the boundary step; else it changes one step later.

    With the boundary 2 the second value starts at step 3 (``step > boundary``), as in
    ``jax.example_libraries`` and Keras. With ``inclusive`` it starts at step 2
    (``step >= boundary``), as in optax and torch's ``MultiStepLR``, which take factors, not values.
    """

    boundaries: tuple[int, ...]
    values: tuple[float, ...]
    inclusive: bool = False

    @property
    def peak(self) -> float:
        """The largest value."""
        return max(self.values)

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = len(self.boundaries) + 1
        words, fits = f"{wanted} numbers, one more than boundaries", len(self.values) == wanted
        refuse("PiecewiseConstant", "values", self.values, words, fits)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        value = _filled(xp, step, self.values[0])
        for boundary, following in zip(self.boundaries, self.values[1:], strict=True):
            passed = step >= boundary if self.inclusive else step > boundary
            value = xp.where(passed, following, value)
        return value


class CosineDecay(_Fall):
    """``end + (start - end) * (1 + cos(pi * step / decay_steps)) / 2``; see ``Schedule``.

    Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5, without restarts.
    Agrees with MLX's ``cosine_decay``. In optax and Keras ``alpha`` is ``end / start``. torch's
    ``CosineAnnealingLR`` rises again after ``T_max``.
    """

    def _between(self, xp: Any, left: Any, done: Any) -> Any:
        # Squared sines do not cancel near the end.
        fallen, risen = xp.sin(math.pi / 2 * left), xp.sin(math.pi / 2 * done)
        return fallen * fallen * self.start + risen * risen * self.end


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line from ``start`` at step 0 to ``end`` at ``steps``; see ``Schedule``.

    Use it for a warm-up of the learning rate, and for alpha of AdEMAMix, whose own
    ``alpha_scheduler`` gives NaN for 0 steps, its default. Agrees with optax's and MLX's
    ``linear_schedule``. Apple's torch AdEMAMix counts steps from 1, so its value is one step ahead.
    """

    start: float
    end: float
    steps: int

    def _between(self, xp: Any, left: Any, done: Any) -> Any:
        return left * self.start + done * self.end


class HalfLife(Linear):
    """A decay per step (a beta) whose half-life grows in a straight line; see ``Schedule``.

        f(beta) = log(0.5) / log(beta) - 1
        beta    = f^-1((1 - step / steps) f(start) + (step / steps) f(end))

    ``start`` and ``end`` are in [0, 1). Use it for beta3 of AdEMAMix. Half way from 0.9 to 0.9999
    the value is 0.9998, not 0.94995.

    Source: Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer", arXiv 2409.03137, section 3
        and appendix A.1.
    Agrees with: ``beta3_scheduler`` of apple/ml-ademamix and of xlstm_jax, whose names say linear.
        Both give NaN for 0 steps. A ``start`` of 0 has the half-life 0 here; Apple adds 1e-8 to
        every beta instead. Apple's torch version counts steps from 1, so it is one step ahead.
    """

    _kinds: ClassVar = {"start": DECAY, "end": DECAY}

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return _filled(xp, step, self.end) if self.start == self.end else super().at(xp, step)

    def _between(self, xp: Any, left: Any, done: Any) -> Any:
        # The steps in which a weight falls to one half: f(beta) + 1.
        first, last = (math.log(0.5) / math.log(b) if b else 0.0 for b in (self.start, self.end))
        return xp.exp(math.log(0.5) / (left * first + done * last))


@dataclass(frozen=True)
class Join(Schedule):
    """One schedule after another; each counts its steps from its own beginning.

        Join((Linear(0.0, 1e-3, 500), CosineDecay(1e-3, 9_500)), (500,))

    Args:
        schedules: callables of the step, or numbers.
        boundaries: the steps at which the second and later schedules begin, with step 0, as in
            optax's ``join_schedules`` and torch's ``SequentialLR``; one fewer than schedules.

    For an array, every schedule is evaluated: a later one at its step 0 until it begins.
    """

    schedules: tuple[Any, ...]
    boundaries: tuple[int, ...]

    @property
    def peak(self) -> float:
        """The largest peak of the schedules."""
        return float(max(schedule.peak for schedule in self.schedules))

    def __post_init__(self) -> None:
        given, words = self.schedules, "a sequence of schedules or numbers, at least one"
        refuse("Join", "schedules", given, words, isinstance(given, (tuple, list)) and bool(given))
        object.__setattr__(self, "schedules", tuple(map(make_schedule, given)))
        super().__post_init__()
        wanted = len(given) - 1
        words = f"{wanted} step{'s' * (wanted != 1)}, one fewer than schedules"
        refuse("Join", "boundaries", self.boundaries, words, len(self.boundaries) == wanted)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        if xp is HOST:
            place = bisect_right(self.boundaries, step)
            return self.schedules[place](step - (0, *self.boundaries)[place])
        value = _filled(xp, step, self.schedules[0](step))
        for boundary, following in zip(self.boundaries, self.schedules[1:], strict=True):
            since = xp.where(step > boundary, step - boundary, 0)
            value = xp.where(step >= boundary, following(since), value)
        return value


def warmup_cosine(
    peak: float, warmup_steps: int, steps: int, *, start: float = 0.0, end: float = 0.0
) -> Join:
    """A straight line from ``start`` to ``peak`` in ``warmup_steps``, then a cosine to ``end``.

    ``steps`` counts both parts, as in optax's ``warmup_cosine_decay_schedule``; Keras's
    ``CosineDecay`` counts the second part only. See also ``Schedule``.

    Raises:
        ValueError: an argument out of range.
    """
    given = {"peak": peak, "warmup_steps": warmup_steps, "steps": steps, "start": start, "end": end}
    for name, value in given.items():
        kept("warmup_cosine", name, value, STEPS if name == "steps" else KINDS[name])
    if steps <= warmup_steps:
        raise ValueError(
            f"warmup_cosine(warmup_steps={warmup_steps!r}, steps={steps!r}): steps counts both "
            "parts; it must be > warmup_steps"
        )
    warmup = Linear(start, peak, warmup_steps)
    return Join((warmup, CosineDecay(peak, steps - warmup_steps, end)), (warmup_steps,))
