"""Schedules: hyperparameters that change from step to step, as pure functions of the step.

    rule = samestep.AdamW(lr=CosineDecay(1e-3, 10_000))

The step is the 0-based index of the next step, as in optax and
``jax.example_libraries.optimizers``: the first update reads ``schedule(0)``. For a Python number
the value is a Python float, computed in float64. For an array of any framework, traced or not, the
value is an array of that framework, computed without a branch on values. An integer array gives the
framework's default floating dtype; a floating array gives its own dtype.

A value is exactly ``start`` at step 0 and exactly ``end`` from the last step on. A schedule is an
immutable value: two schedules with the same arguments are equal, and ``repr`` of a schedule is the
call that makes it.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import array_api_compat
import numpy

from .arrays import is_array

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

Array = Any

HOST = SimpleNamespace(
    exp=math.exp,
    expm1=math.expm1,
    log1p=math.log1p,
    sin=math.sin,
    where=lambda condition, yes, no: yes if condition else no,
)
"""The operations used here on Python numbers, under the names of an array namespace."""


class Schedule(ABC):
    """A value that depends on the step only. A subclass computes it in ``at``."""

    @abstractmethod
    def at(self, xp: Any, step: Any) -> Any:
        """The value, with the operations of ``xp``: ``HOST`` for numbers, else a namespace."""

    def __call__(self, step: Any) -> Any:
        """The value for the 0-based ``step``: a float for a number, an array for an array.

        Raises:
            TypeError: the step is neither a number nor an array.
        """
        if isinstance(step, numbers.Integral):
            return float(self.at(HOST, int(step)))
        if isinstance(step, numbers.Real):
            return float(self.at(HOST, float(step)))
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
    if callable(value):
        schedule: Callable[[Any], Any] = value
        return schedule
    if _is_number(value):
        return Constant(value)
    if is_array(value):
        return lambda step: value
    raise TypeError(
        f"make_schedule({value!r}): a schedule is made of a number or of a callable of the step, "
        f"not of {type(value).__name__}"
    )


# Arguments.


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, numpy.bool_))


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return _is_finite(value) and value % 1 == 0


NUMBER = ("a finite number", _is_finite)
POSITIVE = ("a finite number > 0", lambda value: _is_finite(value) and value > 0)
NOT_NEGATIVE = ("a finite number >= 0", lambda value: _is_finite(value) and value >= 0)
DECAY = ("a number in [0, 1)", lambda value: _is_finite(value) and 0 <= value < 1)
STEPS = ("a whole number of steps > 0", lambda value: _is_whole(value) and value > 0)
SOME_STEPS = ("a whole number of steps >= 0", lambda value: _is_whole(value) and value >= 0)
NUMBERS = (
    "a sequence of finite numbers",
    lambda values: isinstance(values, (tuple, list)) and all(map(_is_finite, values)),
)
BOUNDARIES = (
    "a sequence of whole numbers of steps >= 0, each larger than the one before",
    lambda values: (
        isinstance(values, (tuple, list))
        and all(map(SOME_STEPS[1], values))
        and all(a < b for a, b in pairwise(values))
    ),
)
FLAG = ("True or False", lambda value: isinstance(value, bool))


def _refused(schedule: Schedule, name: str, allowed: str) -> ValueError:
    value = getattr(schedule, name)
    return ValueError(f"{type(schedule).__name__}({name}={value!r}): {name} must be {allowed}")


def _checked(schedule: Schedule, **kinds: tuple[str, Callable[[Any], bool]]) -> None:
    """Raise unless every argument is of its kind; store the arguments as float, int or tuple."""
    for name, (allowed, accepts) in kinds.items():
        value = getattr(schedule, name)
        if not accepts(value):
            raise _refused(schedule, name, allowed)
        kept: Any = value
        if isinstance(value, (tuple, list)):
            kept = tuple(int(v) if "steps" in allowed else float(v) for v in value)
        elif not isinstance(value, bool):
            kept = int(value) if "steps" in allowed else float(value)
        object.__setattr__(schedule, name, kept)


# Arithmetic.


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


def _ratio(xp: Any, step: Any, steps: int, staircase: bool) -> Any:
    """``step / steps``; ``staircase`` rounds it down, in integers and so exactly."""
    return _real(xp, step // steps) if staircase else _real(xp, step) / steps


def _power(xp: Any, base: float, exponent: Any) -> Any:
    """``base ** exponent``, with the logarithm of the base in float64 even for an array."""
    return base**exponent if xp is HOST else xp.exp(exponent * math.log(base))


def _ramp(
    xp: Any,
    step: Any,
    start: float,
    end: float,
    steps: int,
    between: Callable[[Any, Any], Any],
) -> Any:
    """``start`` at step 0, ``end`` from ``steps`` on, and between them ``between(left, done)``.

    ``left`` and ``done`` are the shares of the steps ahead and behind. Both are quotients of whole
    numbers: ``1 - done`` would cancel near the end, and ``1 - left`` near the start.
    """
    inside, span = (step > 0) & (step < steps), max(steps, 1)
    left = xp.where(inside, _real(xp, steps - step) / span, 0.5)
    done = xp.where(inside, _real(xp, step) / span, 0.5)
    value = between(left, done)
    return xp.where(step < steps, xp.where(step > 0, value, start), end)


# The schedules.


@dataclass(frozen=True)
class Constant(Schedule):
    """``value`` at every step, in the unit of the hyperparameter.

    ``jax.example_libraries`` returns the number even for a traced step; this returns an array.
    """

    value: float

    def __post_init__(self) -> None:
        _checked(self, value=NUMBER)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return _filled(xp, step, self.value)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """``start * decay_rate ** (step / decay_steps)``; the quotient rounded down with ``staircase``.

    Args:
        start: value at step 0, in the unit of the hyperparameter.
        decay_steps: steps in which the value falls to ``decay_rate`` times itself.
        decay_rate: factor per ``decay_steps``; above 1 the value grows.
        staircase: whether the value falls in stairs, at multiples of ``decay_steps``.

    ``jax.example_libraries`` has no staircase; Keras and optax do. optax can begin later and stop
    at an end value. In optax, ``decay_rate = 0`` means a constant; here it is an error. MLX's
    ``exponential_decay(init, decay_rate)`` has ``decay_steps = 1``.
    """

    start: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        _checked(self, start=NUMBER, decay_steps=STEPS, decay_rate=POSITIVE, staircase=FLAG)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        periods = _ratio(xp, step, self.decay_steps, self.staircase)
        return self.start * _power(xp, self.decay_rate, periods)


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """``start / (1 + decay_rate * step / decay_steps)``; ``staircase`` rounds the quotient down.

    Args:
        start: value at step 0, in the unit of the hyperparameter.
        decay_steps: the unit of time, in steps.
        decay_rate: growth of the denominator per ``decay_steps``, >= 0.
        staircase: whether the value falls in stairs, at multiples of ``decay_steps``.

    Keras and ``jax.example_libraries`` agree; optax, torch and MLX have no such schedule.
    """

    start: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        _checked(self, start=NUMBER, decay_steps=STEPS, decay_rate=NOT_NEGATIVE, staircase=FLAG)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        periods = _ratio(xp, step, self.decay_steps, self.staircase)
        return self.start / (1 + self.decay_rate * periods)


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """``end + (start - end) * (1 - step / decay_steps) ** power``, then ``end``.

    Args:
        start: value at step 0, in the unit of the hyperparameter.
        decay_steps: steps until ``end`` is reached.
        end: value from ``decay_steps`` on.
        power: exponent, > 0; 1 is a straight line.

    ``jax.example_libraries`` has no default for ``end`` and calls it ``final_step_size``. In Keras
    ``end`` is 0.0001 by default and the decay can start again (``cycle``). optax's
    ``polynomial_schedule`` has another order of arguments. torch's ``PolynomialLR`` always ends at
    0.
    """

    start: float
    decay_steps: int
    end: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        _checked(self, start=NUMBER, decay_steps=STEPS, end=NUMBER, power=POSITIVE)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""

        def between(left: Any, done: Any) -> Any:
            risen = -xp.expm1(self.power * xp.log1p(-done))  # 1 - left ** power
            return left**self.power * self.start + risen * self.end

        return _ramp(xp, step, self.start, self.end, self.decay_steps, between)


@dataclass(frozen=True)
class PiecewiseConstant(Schedule):
    """``values[k]``, where ``k`` is the number of boundaries before the step.

    Args:
        boundaries: increasing steps.
        values: one more than boundaries, in the unit of the hyperparameter.
        inclusive: whether the value changes at the boundary step; else it changes one step later.

    The libraries differ by one step. Take boundaries (2,). By default the second value starts at
    step 3 (``step > boundary``), as in ``jax.example_libraries`` and Keras. With ``inclusive`` it
    starts at step 2 (``step >= boundary``), as in optax and torch's ``MultiStepLR``. optax and
    torch take factors that multiply the value; here they are values.
    """

    boundaries: tuple[int, ...]
    values: tuple[float, ...]
    inclusive: bool = False

    def __post_init__(self) -> None:
        _checked(self, boundaries=BOUNDARIES, values=NUMBERS, inclusive=FLAG)
        if len(self.values) != len(self.boundaries) + 1:
            raise _refused(
                self, "values", f"{len(self.boundaries) + 1} numbers, one more than boundaries"
            )

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        value = _filled(xp, step, self.values[0])
        for boundary, following in zip(self.boundaries, self.values[1:], strict=True):
            passed = step >= boundary if self.inclusive else step > boundary
            value = xp.where(passed, following, value)
        return value


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """``end + (start - end) * (1 + cos(pi * step / decay_steps)) / 2``, then ``end``.

    Args:
        start: value at step 0, in the unit of the hyperparameter.
        decay_steps: steps until ``end`` is reached: half a period.
        end: value from ``decay_steps`` on.

    Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5, without restarts.
    Agrees with MLX's ``cosine_decay``. In optax and Keras ``alpha`` is ``end / start``. torch's
    ``CosineAnnealingLR`` rises again after ``T_max``. The value is computed from squared sines,
    which do not cancel near the end.
    """

    start: float
    decay_steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _checked(self, start=NUMBER, decay_steps=STEPS, end=NUMBER)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""

        def between(left: Any, done: Any) -> Any:
            fallen, risen = xp.sin(math.pi / 2 * left), xp.sin(math.pi / 2 * done)
            return fallen * fallen * self.start + risen * risen * self.end

        return _ramp(xp, step, self.start, self.end, self.decay_steps, between)


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from ``start`` at step 0 to ``end`` at ``steps``, then ``end``.

    Args:
        start: value at step 0, in the unit of the hyperparameter.
        end: value from ``steps`` on.
        steps: length of the line; with 0 the value is ``end`` at every step.

    Use it for a warm-up of the learning rate, and for alpha of AdEMAMix. AdEMAMix's own
    ``alpha_scheduler`` gives NaN for a length of 0, its default. Agrees with optax's and MLX's
    ``linear_schedule``. Apple's torch AdEMAMix counts steps from 1, so its value is one step ahead.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _checked(self, start=NUMBER, end=NUMBER, steps=SOME_STEPS)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""

        def between(left: Any, done: Any) -> Any:
            return left * self.start + done * self.end

        return _ramp(xp, step, self.start, self.end, self.steps, between)


@dataclass(frozen=True)
class HalfLife(Schedule):
    """A decay per step (a beta) whose half-life grows in a straight line, then ``end``.

        f(beta) = log(0.5) / log(beta) - 1
        beta    = f^-1((1 - step / steps) f(start) + (step / steps) f(end))
        f^-1(x) = 0.5 ** (1 / (x + 1))

    Args:
        start: decay per step at step 0, in [0, 1).
        end: decay per step from ``steps`` on, in [0, 1).
        steps: length of the growth; with 0 the value is ``end`` at every step.

    Use it for beta3 of AdEMAMix. Half way from 0.9 to 0.9999 the value is 0.9998, not 0.94995.

    Source: Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer", arXiv 2409.03137, section 3
        and appendix A.1.
    Agrees with: ``beta3_scheduler`` of apple/ml-ademamix and of xlstm_jax, whose names say linear.
        Both give NaN for a length of 0. A ``start`` of 0 has the half-life 0 here; Apple adds 1e-8
        to every beta instead. Apple's torch version counts steps from 1, so it is one step ahead.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _checked(self, start=DECAY, end=DECAY, steps=SOME_STEPS)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        if self.start == self.end:
            return _filled(xp, step, self.end)
        first, last = _half_life(self.start), _half_life(self.end)

        def between(left: Any, done: Any) -> Any:
            return xp.exp(math.log(0.5) / (left * first + done * last))

        return _ramp(xp, step, self.start, self.end, self.steps, between)


def _half_life(beta: float) -> float:
    """The number of steps in which a weight falls to one half: ``f(beta) + 1``."""
    return math.log(0.5) / math.log(beta) if beta > 0 else 0.0


@dataclass(frozen=True)
class Join(Schedule):
    """One schedule after another; each counts its steps from its own beginning.

        Join((Linear(0.0, 1e-3, 500), CosineDecay(1e-3, 9_500)), (500,))

    Args:
        schedules: callables of the step, or numbers.
        boundaries: the steps at which the second and later schedules begin; increasing, one fewer
            than schedules.

    A later schedule begins at its boundary step, with step 0, as in optax's ``join_schedules`` and
    torch's ``SequentialLR``. For an array, every schedule is evaluated; one that has not begun is
    evaluated at its step 0.
    """

    schedules: tuple[Any, ...]
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.schedules, (tuple, list)) or not self.schedules:
            raise _refused(self, "schedules", "a sequence of schedules or numbers, at least one")
        object.__setattr__(self, "schedules", tuple(map(make_schedule, self.schedules)))
        _checked(self, boundaries=BOUNDARIES)
        if len(self.boundaries) != len(self.schedules) - 1:
            wanted = len(self.schedules) - 1
            steps = "1 step" if wanted == 1 else f"{wanted} steps"
            raise _refused(self, "boundaries", f"{steps}, one fewer than schedules")

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

    Args:
        peak: value at ``warmup_steps``, in the unit of the hyperparameter.
        warmup_steps: length of the first part, >= 0.
        steps: length of both parts, as in optax's ``warmup_cosine_decay_schedule``; Keras's
            ``CosineDecay`` counts the second part only.
        start: value at step 0.
        end: value from ``steps`` on.

    Raises:
        ValueError: an argument out of range.
    """
    kinds = {"peak": NUMBER, "warmup_steps": SOME_STEPS, "steps": STEPS, "start": NUMBER}
    given = {"peak": peak, "warmup_steps": warmup_steps, "steps": steps, "start": start, "end": end}
    for name, value in given.items():
        allowed, accepts = kinds.get(name, NUMBER)
        if not accepts(value):
            raise ValueError(f"warmup_cosine({name}={value!r}): {name} must be {allowed}")
    if steps <= warmup_steps:
        raise ValueError(
            f"warmup_cosine(warmup_steps={warmup_steps!r}, steps={steps!r}): steps counts both "
            "parts; it must be > warmup_steps"
        )
    warmup = Linear(start, peak, warmup_steps)
    return Join((warmup, CosineDecay(peak, steps - warmup_steps, end)), (warmup_steps,))
