"""Roots that no standard of arrays has, from operations that are rounded alike everywhere."""

from __future__ import annotations

from typing import Any

from samestep.vocabulary import sqrt

__all__ = ["cube_root"]


def cube_root(xp: Any, x: Any) -> Any:
    """The cube root of an array that is not negative, to 2 ULP; 0 of 0.

    The first guess is ``x^(1/4 + 1/16 + ... + 1/4096)``, off by 6 % for 1e-300. Halley's iteration
    triples its digits, and ``y^3 / x`` neither overflows nor vanishes.
    """
    gone = x == 0
    x = xp.where(gone, 1.0, x)
    y, power = 1.0, x
    numerator = 1.5 * xp.ones_like(x)  # torch takes 1.5 / x for a product with 1 / x
    for _ in range(6):
        power = sqrt(xp, sqrt(xp, power))
        y = y * power
    for _ in range(3):
        y = y - y * (0.5 - numerator / (2 * (y * y * y / x) + 1))
    return xp.where(gone, 0.0, y)
