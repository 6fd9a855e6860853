"""Reference for LAMB."""

from __future__ import annotations

import math

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class LAMB(Adaptive):
    """Adam's direction plus decay, rescaled per parameter to the norm of that parameter.

    Source: You et al., arXiv 1904.00962, Algorithm 2, with phi the clipping to `scale_clip` (the
    identity by default) and a ratio of 1 where phi or the direction's norm is zero.
    """

    INSIDE = ("in_update",)

    def change(self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None) -> Array:
        """Return lr ||p|| u / ||u||."""
        self.average(g, m, v)
        m_hat = m / self.debias(self.betas[0])
        u = quotient(m_hat, self.denominator(v, v_max, self.betas[1])) + self.weight_decay * p
        low, high = self.scale_clip
        scale = min(max(math.sqrt(np.sum(p**2)), low), high)
        size = math.sqrt(np.sum(u**2))
        return self.lr * (scale / size if scale > 0 and size > 0 else 1.0) * u
