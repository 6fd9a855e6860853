"""MARS's gradient, from which some of the noise is taken.

    c = grad + gamma beta / (1 - beta) (grad - prev),  and then prev = grad
    c = c / max(1, ||c|| / clip_norm)

prev is the gradient of the step before: the exact form would be that of the same batch there.
"""

from __future__ import annotations

from typing import Any

from samestep.declaration import hyper, slot
from samestep.vocabulary import at_least, norm

__all__ = ["reduced", "strength"]

Array = Any

gamma = hyper(0.025, "strength of the correction", unit="1", ge=0)
clip_norm = hyper(1.0, "largest norm of c", unit="gradient", gt=0, infinite=True)

prev = slot("gradient of the step before")


def strength(rule: Any, beta: Any) -> Any:
    """The coefficient ``ahead`` of the difference, for a mean that decays by ``beta``."""
    return rule.gamma * beta / (1 - beta)


def reduced(xp: Any, grad: Array, state: Any, s: Any) -> Array:
    """The gradient c."""
    c = grad + s.ahead * (grad - state.prev)
    return c / at_least(xp, norm(xp, c) / s.clip_norm, 1.0)
