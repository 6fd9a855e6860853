"""How many gradients an average of squares is worth: what RAdam rectifies by."""

from __future__ import annotations

from typing import Any

from samestep.vocabulary import choose, expm1, log

__all__ = ["average_length"]


def average_length(xp: Any, beta: Any, t: Any) -> tuple[Any, Any]:
    """``rho = rho_inf - 2 t beta^t / (1 - beta^t)`` after ``t`` steps, and ``rho_inf``.

    Both terms are near ``rho_inf = 2 / (1 - beta) - 1`` at first, and float32 keeps no digit of
    their difference. With ``y = -log(beta) / 2`` and ``L(y) = coth(y) - 1 / y``, rho is
    ``L(y) + t (1 - L(t y))``, which loses none.
    """
    y = -0.5 * log(xp, beta)
    return _langevin(xp, y) + t * (1 - _langevin(xp, t * y)), 2 / (1 - beta) - 1


def _langevin(xp: Any, y: Any) -> Any:
    """coth(y) - 1/y; as a continued fraction where the difference would cancel."""
    fraction = 25.0
    for odd in range(23, 1, -2):
        fraction = odd + y * y / fraction
    return choose(xp, y < 1, y / fraction, -1 - 2 / expm1(xp, -2 * y) - 1 / y)
