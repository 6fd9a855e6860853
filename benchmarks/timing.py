"""Taking turns, so that other load on the machine affects all sides equally."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

__all__ = ["Spread", "alternate", "median", "paired", "timed"]

Clock = Callable[[], float]
LONGEST = 20.0
"""Seconds after which no round begins, if there have been ``FEWEST``."""
FEWEST = 3


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float


def timed(step: Callable[[], object], clock: Clock = perf_counter) -> float:
    """The seconds that a call takes."""
    start = clock()
    step()
    return clock() - start


def alternate(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Clock = perf_counter,
    longest: float = LONGEST,
) -> dict[str, list[float]]:
    """Seconds of every step of every side, which take turns in the order given: A B C A B C ..."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    spent, collecting = 0.0, gc.isenabled()
    gc.disable()
    try:
        for done in range(rounds):
            if done >= FEWEST and spent > longest:
                break
            for name, step in sides.items():
                taken[name].append(timed(step, clock))
                spent += taken[name][-1]
    finally:
        if collecting:
            gc.enable()
    return taken


def median(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return 1e3 * statistics.median(seconds)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratio of each step to the other side's of the same round: its median and quartiles."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    if len(ratios) == 1:
        return Spread(ratios[0], ratios[0], ratios[0])
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Spread(middle, low, high)
