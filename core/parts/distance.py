"""The estimate of D-Adaptation and Prodigy: the distance of the parameters from a solution."""

from __future__ import annotations

import math
from typing import Any

from samestep.declaration import ZEROS, Initial, hyper, shared, slot
from samestep.vocabulary import choose, initial_parameter

from . import moments
from .moments import raised

__all__ = ["adapted", "estimated", "step_size"]

lr = hyper(1.0, "multiple of the estimated step size", unit="1", ge=0)

betas = moments.betas.replaced(whole=True)
beta3 = hyper(None, "decay of s; None is sqrt(beta2)", unit="1/step", ge=0, lt=1, whole=True)
d0 = hyper(1e-6, "first estimate of d", unit="parameter", gt=0, typical=1e-3, whole=True)
d_coef = hyper(1.0, "multiple of the estimate", unit="1", gt=0, whole=True)
growth_rate = hyper(math.inf, "largest factor of d per step", unit="1", ge=1, whole=True)

SMALL = Initial(ZEROS.make, dtype="range")
"""Zeros of a slot whose values have ``d0`` as a factor, or its square: 0 in float16."""

p0 = slot("parameter as it was at init", init=initial_parameter, fixed=True)
d = shared("estimated step size", start="d0")
d_max = shared("largest estimate so far", start="d0")
numerator = shared("decaying sum of weighted grad (p0 - param)", start=0.0)


def adapted(xp: Any, numerator: Any, length: Any, shared: Any, s: Any) -> dict[str, Any]:
    """The new shared state of D-Adaptation, and ``d_used``, as ``estimated`` has it.

    ``d = max(d, numerator / length)``, at most ``growth_rate`` times the old d.
    """
    moved, d_hat = _found(xp, numerator, length)
    d = xp.maximum(shared.d, _limited(xp, d_hat, shared.d, s))
    return _kept(xp, moved, {"d": d, "numerator": numerator}, shared)


def estimated(xp: Any, numerator: Any, length: Any, shared: Any, s: Any) -> dict[str, Any]:
    """The new shared state, and ``d_used``: the d of this step, 0 before the first gradient.

    ``d = max(d, d_coef numerator / length)``, at most ``growth_rate`` times the old d. While
    ``length`` is 0, nothing changes.
    """
    moved, d_hat = _found(xp, s.d_coef * numerator, length)
    d_max = xp.maximum(shared.d_max, d_hat)
    d = xp.where(shared.d == s.d0, xp.maximum(shared.d, d_hat), shared.d)
    new = {"d": _limited(xp, d_max, d, s), "d_max": d_max, "numerator": numerator}
    return _kept(xp, moved, new, shared)


def _found(xp: Any, numerator: Any, length: Any) -> tuple[Any, Any]:
    """Whether there was a gradient, and the quotient that estimates d."""
    moved = length != 0
    above, below = raised(xp, numerator, xp.where(moved, length, 1.0))
    return moved, above / below


def _limited(xp: Any, estimate: Any, d: Any, s: Any) -> Any:
    """An estimate of d, at most ``growth_rate`` times d; a factor inf has no finite derivative."""
    free = s.growth_rate == math.inf
    most = choose(xp, free, 1.0, s.growth_rate) * d
    return choose(xp, free, estimate, xp.minimum(estimate, most))


def _kept(xp: Any, moved: Any, new: dict[str, Any], shared: Any) -> dict[str, Any]:
    """The new shared state, unchanged before the first gradient, and ``d_used``."""
    kept = {name: xp.where(moved, value, getattr(shared, name)) for name, value in new.items()}
    return kept | {"d_used": xp.where(moved, shared.d, 0 * shared.d)}


def step_size(rule: Any, state: Any, s: Any) -> Any:
    """The step size that was found for this step; 0 while there is none."""
    return s.lr * state.d_used
