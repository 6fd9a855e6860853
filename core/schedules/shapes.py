"""The schedules, a class each."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from .arguments import DECAY, NOT_NEGATIVE, refuse
from .base import HOST, Monotone, Schedule, filled, make_schedule, real

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "HalfLife",
    "InverseSquareRoot",
    "InverseTimeDecay",
    "Join",
    "Linear",
    "OneMinusSquareRoot",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Scaled",
]


class _Ramp(Monotone):
    """``start`` at step 0, ``end`` from the last step on, and ``_between`` in the steps between."""

    _between: Callable[..., Any]  # of the namespace and of the shares of steps ahead and behind
    start: float
    end: float

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        steps = next(value for name, value in vars(self).items() if "steps" in name)
        inside, span = (step > 0) & (step < steps), max(steps, 1)
        # Quotients of whole numbers: 1 - done would cancel near the end, 1 - left near the start.
        left = xp.where(inside, real(xp, steps - step) / span, 0.5)
        done = xp.where(inside, real(xp, step) / span, 0.5)
        value = self._between(xp, left, done)
        return xp.where(step < steps, xp.where(step > 0, value, self.start), self.end)


@dataclass(frozen=True)
class _Fall(_Ramp):
    """A ramp whose arguments are in the order of decays."""

    start: float
    decay_steps: int
    end: float = 0.0


@dataclass(frozen=True)
class _Periodic(Monotone):
    """A decay whose unit of time is ``decay_steps``."""

    start: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def _periods(self, xp: Any, step: Any) -> Any:
        """``step / decay_steps``; ``staircase`` rounds it down, in integers and so exactly."""
        if self.staircase:
            return real(xp, step // self.decay_steps)
        return real(xp, step) / self.decay_steps


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

    def largest(self, steps: int) -> float:
        """See ``Schedule``."""
        begun = sum(b + (not self.inclusive) < steps for b in self.boundaries)
        return max(self.values[: begun + 1])

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = len(self.boundaries) + 1
        words, fits = f"{wanted} numbers, one more than boundaries", len(self.values) == wanted
        refuse("PiecewiseConstant", "values", self.values, words, fits)

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        value = filled(xp, step, self.values[0])
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


class OneMinusSquareRoot(_Fall):
    """``end + (start - end) * (1 - sqrt(step / decay_steps))``; see ``Schedule``.

    Source: Hagele et al., "Scaling laws and compute-optimal training beyond fixed training
        durations", arXiv 2405.18392, where it is the last part of a schedule.
    Agrees with: the cooldown ``"1-sqrt"`` of HuggingFace's ``get_wsd_schedule``.
    """

    def _between(self, xp: Any, left: Any, done: Any) -> Any:
        root = xp.sqrt(done)
        return left / (1 + root) * self.start + root * self.end  # 1 - root would cancel


@dataclass(frozen=True)
class InverseSquareRoot(Monotone):
    """``start / sqrt(1 + step / decay_steps)``; see ``Schedule``.

    After ``decay_steps`` steps it is ``start / sqrt(2)``. ``warmup_inverse_sqrt`` has it after a
    warm-up, as people mean it.
    """

    start: float
    decay_steps: int

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return self.start / xp.sqrt(1 + real(xp, step) / self.decay_steps)


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
        return filled(xp, step, self.end) if self.start == self.end else super().at(xp, step)

    def _between(self, xp: Any, left: Any, done: Any) -> Any:
        # The steps in which a weight falls to one half: f(beta) + 1.
        first, last = (math.log(0.5) / math.log(b) if b else 0.0 for b in (self.start, self.end))
        return xp.exp(math.log(0.5) / (left * first + done * last))


@dataclass(frozen=True)
class Scaled(Schedule):
    """``schedule`` times ``factor``, > 0, as for layers that learn slowly; see ``Schedule``."""

    schedule: Any
    factor: float

    def largest(self, steps: int) -> float | None:
        """See ``Schedule``."""
        found = _largest(self.schedule, steps)
        return None if found is None else self.factor * found

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", make_schedule(self.schedule))
        super().__post_init__()

    def at(self, xp: Any, step: Any) -> Any:
        """See ``Schedule``."""
        return self.factor * self.schedule(step)


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

    def largest(self, steps: int) -> float | None:
        """See ``Schedule``; of each of the schedules, it is of the steps in which it is used."""
        ends = (*(end for end in self.boundaries if end < steps), steps)
        begins = (0, *ends)
        found = [
            _largest(schedule, end - begin)
            for schedule, begin, end in zip(self.schedules, begins, ends, strict=False)
            if end > begin
        ]
        known = [value for value in found if value is not None]
        return max(known) if len(known) == len(found) else None

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
        value = filled(xp, step, self.schedules[0](step))
        for boundary, following in zip(self.boundaries, self.schedules[1:], strict=True):
            since = xp.where(step > boundary, step - boundary, 0)
            value = xp.where(step >= boundary, following(since), value)
        return value


def _largest(schedule: Any, steps: int) -> float | None:
    return schedule.largest(steps) if isinstance(schedule, Schedule) else None
