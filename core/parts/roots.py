"""Roots that no standard of arrays has, from operations that are rounded alike everywhere."""

from __future__ import annotations

from typing import Any

from samestep.vocabulary import sqrt

__all__ = ["cube_root"]

ITERATIONS = 4
"""Enough from a first guess that is 2.5 times too large or too small, as that of 1e-300 is."""


def cube_root(xp: Any, x: Any) -> Any:
    """The cube root of an array that is not negative, to 2 ULP; 0 of 0.

    The first guess is ``x^(1/4 + 1/16 + 1/64 + 1/256)``. Halley's iteration triples its digits, and
    ``y^3 / x`` neither overflows nor vanishes.
    """
    gone = x == 0
    x = xp.where(gone, 1.0, x)
    y, power = 1.0, x
    for _ in range(4):
        power = sqrt(xp, sqrt(xp, power))
        y = y * power
    for _ in range(ITERATIONS):
        ratio = y * y * y / x
        y = y - y * ((ratio - 1) / (2 * ratio + 1))
    return xp.where(gone, 0.0, y)
