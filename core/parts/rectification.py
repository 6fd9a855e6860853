"""RAdam's rectification, by the effective number of gradients in a mean of squares."""

from __future__ import annotations

from typing import Any

from samestep.declaration import hyper, option
from samestep.vocabulary import choose, expm1, log, sqrt

__all__ = ["average_length", "below", "rectified", "rectifier", "threshold"]

threshold = hyper(4.0, "rho from which the divisor is trusted", unit="steps", ge=4)
below = option("momentum", "the step before that", choices=("momentum", "adam", "skip"))


def average_length(xp: Any, beta: Any, t: Any) -> tuple[Any, Any]:
    """``rho = rho_inf - 2 t beta^t / (1 - beta^t)`` after ``t`` steps, and ``rho_inf``.

    Both terms are near ``rho_inf = 2 / (1 - beta) - 1`` at first, and cancel in float32. With
    ``y = -log(beta) / 2`` and ``L(y) = coth(y) - 1 / y``, rho is ``L(y) + t (1 - L(t y))``, which
    does not cancel.
    """
    y = -0.5 * log(xp, beta)
    return _langevin(xp, y) + t * (1 - _langevin(xp, t * y)), 2 / (1 - beta) - 1


def _langevin(xp: Any, y: Any) -> Any:
    """coth(y) - 1/y; as a continued fraction where the difference would cancel."""
    fraction = 25.0
    for odd in range(23, 1, -2):
        fraction = odd + y * y / fraction
    return choose(xp, y < 1, y / fraction, -1 - 2 / expm1(xp, -2 * y) - 1 / y)


def rectifier(xp: Any, beta2: Any, threshold: Any, below: str, t: Any) -> dict[str, Any]:
    """``trusted``: whether rho exceeds the threshold at step ``t``; ``r``: the factor of the step.

    ``r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)`` where it is trusted;
    otherwise r is 1 with ``below="adam"``, else 0.
    """
    rho, rho_inf = average_length(xp, beta2, t)
    trusted = rho > threshold
    divisor = choose(xp, trusted, (rho_inf - 4) * (rho_inf - 2) * rho, 1.0)  # 0 for beta2 = 0.6
    square = (rho - 4) * (rho - 2) * rho_inf / divisor
    before = 1.0 if below == "adam" else 0.0
    return {"trusted": trusted, "r": sqrt(xp, choose(xp, trusted, square, before))}


def rectified(xp: Any, m_hat: Any, adaptive: Any, below: str, s: Any) -> Any:
    """``r`` times the adaptive step; with ``below="momentum"``, m_hat until rho is trusted."""
    if below != "momentum":
        return s.r * adaptive
    return choose(xp, s.trusted, s.r * adaptive, m_hat)
