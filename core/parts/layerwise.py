"""Steps rescaled, parameter by parameter, to the size of the parameter."""

from __future__ import annotations

import math
from typing import Any

from samestep.declaration import hyper
from samestep.rule import Rule
from samestep.vocabulary import decayed_direction, decayed_parameter, norm, trust_ratio

__all__ = ["Layerwise"]


class Layerwise(Rule, register=False):
    """A rule whose direction is made as long as the parameter, clipped to ``scale_clip``."""

    needs = "tensor"
    decays_inside = True

    weight_decay = Rule.weight_decay
    scale_clip = hyper(
        (0.0, math.inf), "bounds of the parameter's norm", unit="parameter", ge=0, ordered=True
    )
    decay = Rule.decay.replaced(default="in_update")

    def rescaled(self, xp: Any, direction: Any, param: Any, s: Any) -> Any:
        """The direction with its decay, times the trust ratio (1 where a norm is zero)."""
        direction = decayed_direction(self.decay, direction, param, s)
        size = norm(xp, decayed_parameter(param, s))
        size = xp.clip(size, s.scale_clip[0], s.scale_clip[1])
        return trust_ratio(xp, size, norm(xp, direction)) * direction
