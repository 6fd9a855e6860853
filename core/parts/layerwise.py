"""Steps rescaled to the norm of their parameter."""

from __future__ import annotations

import math
from typing import Any

from samestep.declaration import hyper
from samestep.vocabulary import decayed_direction, decayed_parameter, norm, trust_ratio

__all__ = ["rescaled", "scale_clip"]

scale_clip = hyper(
    (0.0, math.inf), "bounds of the parameter's norm", unit="parameter", ge=0, ordered=True
)


def rescaled(rule: Any, xp: Any, direction: Any, param: Any, s: Any) -> Any:
    """The direction with its decay, rescaled to the parameter's norm, clipped to ``scale_clip``.

    Where one of the two norms is zero, its length is unchanged.
    """
    direction = decayed_direction(rule.decay, direction, param, s)
    size = norm(xp, decayed_parameter(param, s))
    size = xp.clip(size, s.scale_clip[0], s.scale_clip[1])
    return trust_ratio(xp, size, norm(xp, direction)) * direction
