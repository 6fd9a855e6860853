"""Schedules that people know by name, made of others."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Literal

from .arguments import KINDS, STEPS, kept, refuse
from .base import Schedule
from .shapes import (
    CosineDecay,
    InverseSquareRoot,
    Join,
    Linear,
    OneMinusSquareRoot,
    PolynomialDecay,
)

__all__ = ["one_cycle", "warmup_cosine", "warmup_inverse_sqrt", "warmup_stable_decay"]


DECAYS = {"linear": PolynomialDecay, "cosine": CosineDecay, "1-sqrt": OneMinusSquareRoot}


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
    _check("warmup_cosine", given)
    if steps <= warmup_steps:
        raise ValueError(
            f"warmup_cosine(warmup_steps={warmup_steps!r}, steps={steps!r}): steps counts both "
            "parts; it must be > warmup_steps"
        )
    warmup = Linear(start, peak, warmup_steps)
    return Join((warmup, CosineDecay(peak, steps - warmup_steps, end)), (warmup_steps,))


def warmup_stable_decay(
    peak: float,
    warmup_steps: int,
    decay_steps: int,
    steps: int,
    *,
    decay: Literal["linear", "cosine", "1-sqrt"] = "linear",
    start: float = 0.0,
    end: float = 0.0,
) -> Join:
    """A line from ``start`` to ``peak``, then ``peak``, then a decay to ``end`` (WSD).

    With ``decay="linear"`` it is a trapezoid. The rate stays at ``peak`` for what ``warmup_steps``
    and ``decay_steps`` leave of ``steps``, which counts all three parts. See also ``Schedule``.

    Source: Hu et al., "MiniCPM", arXiv 2404.06395; ``"1-sqrt"``: arXiv 2405.18392.
    Agrees with: HuggingFace's ``get_wsd_schedule``.

    Raises:
        ValueError: an argument out of range.
    """
    given = {"peak": peak, "warmup_steps": warmup_steps, "decay_steps": decay_steps, "steps": steps}
    _check("warmup_stable_decay", {**given, "start": start, "end": end})
    names = ", ".join(map(repr, DECAYS))
    refuse("warmup_stable_decay", "decay", decay, f"one of {names}", decay in DECAYS)
    stable = steps - warmup_steps - decay_steps
    if stable < 0:
        raise ValueError(
            f"warmup_stable_decay(warmup_steps={warmup_steps!r}, decay_steps={decay_steps!r}, "
            f"steps={steps!r}): steps counts all parts; it must be >= {warmup_steps + decay_steps}"
        )
    warmup, last = Linear(start, peak, warmup_steps), DECAYS[decay](peak, decay_steps, end)
    return _joined((warmup, warmup_steps), (peak, stable), (last, decay_steps))


def warmup_inverse_sqrt(peak: float, warmup_steps: int, *, start: float = 0.0) -> Join:
    """A line from ``start`` to ``peak`` in ``warmup_steps``, > 0, then the inverse of a root.

    From then on it is ``peak * sqrt(warmup_steps / step)``. See also ``Schedule``.

    Source: Vaswani et al., "Attention is all you need", arXiv 1706.03762, section 5.3, whose
        ``peak`` is ``1 / sqrt(d_model warmup_steps)`` and whose steps begin at 1.
    Agrees with: HuggingFace's ``get_inverse_sqrt_schedule``.

    Raises:
        ValueError: an argument out of range.
    """
    given = {"peak": peak, "warmup_steps": warmup_steps, "start": start}
    _check("warmup_inverse_sqrt", given, positive="warmup_steps")
    warmup = Linear(start, peak, warmup_steps)
    return Join((warmup, InverseSquareRoot(peak, warmup_steps)), (warmup_steps,))


def one_cycle(
    peak: float,
    steps: int,
    *,
    rise: float = 0.3,
    start: float | None = None,
    end: float | None = None,
) -> Join:
    """A cosine from ``start`` to ``peak``, then one to ``end``, of ``steps`` steps in all.

    The first has the share ``rise`` of the steps, rounded down. ``start`` is ``peak / 25`` if None,
    and ``end`` is ``start / 10_000``. See also ``Schedule``.

    Source: Smith and Topin, "Super-convergence", arXiv 1708.07120, with cosines.
    Agrees with: optax's ``cosine_onecycle_schedule``.
    Differs from: torch's ``OneCycleLR``, in which the peak is at ``rise * total_steps - 1``, seldom
        a whole step, and the end at ``total_steps - 1``.

    Raises:
        ValueError: an argument out of range.
    """
    start = peak / 25 if start is None else start
    end = start / 10_000 if end is None else end
    given = {"peak": peak, "steps": steps, "rise": rise, "start": start, "end": end}
    _check("one_cycle", given)
    risen = int(rise * steps)
    up, down = CosineDecay(start, max(risen, 1), peak), CosineDecay(peak, steps - risen, end)
    return _joined((up, risen), (down, steps - risen))


def _joined(*parts: tuple[Schedule | float, int]) -> Join:
    """Schedules one after another, each for so many steps; the last for ever."""
    *before, last = [(schedule, steps) for schedule, steps in parts if steps]
    ends = tuple(accumulate(steps for _, steps in before))
    return Join((*(schedule for schedule, _ in before), last[0]), ends)


def _check(who: str, given: dict[str, Any], positive: str = "steps") -> None:
    for name, value in given.items():
        kept(who, name, value, STEPS if name == positive else KINDS[name])
