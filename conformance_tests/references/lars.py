"""Reference for LARS."""

from __future__ import annotations

import math

import numpy as np

from ._momentum import Momentum
from ._reference import Array


class LARS(Momentum):
    """Momentum of gradients rescaled per parameter to the norm of that parameter.

    Source: You et al., arXiv 1708.03888, Algorithm 1, with `eps` in the ratio's denominator, the
    parameter's norm clipped to `scale_clip` and a ratio of 1, without the coefficient, where the
    parameter's norm or the denominator is zero. `ratio_at="outside"` is frgfm/Holocron,
    holocron/optim/lars.py: the momentum is that of the unscaled gradients, decay included.
    Coupled decay, which google-deepmind/optax has, is a decay of the gradients given here.
    """

    INSIDE, ratio_at, lr_at = ("in_update",), "inside", "inside"

    def change(self, p: Array, g: Array, m: Array | None = None) -> Array:
        """Return what momentum makes of the rescaled gradient."""
        low, high = self.scale_clip
        p_norm, g_norm = math.sqrt(np.sum(p**2)), math.sqrt(np.sum(g**2))
        scale = min(max(p_norm, low), high)
        below = g_norm + self.weight_decay * p_norm + self.eps
        ratio = self.trust_coefficient * scale / below if scale > 0 and below > 0 else 1.0
        total = np.asarray(g + self.weight_decay * p)
        if self.ratio_at == "inside":
            return self.displacement(np.asarray(ratio * total), m, self.lr)
        return ratio * self.displacement(total, m, self.lr)
