"""Reference for RaLars."""

from __future__ import annotations

import math

import numpy as np

from ._adaptive import Adaptive, rectification, rectified
from ._reference import Array


class RaLars(Adaptive):
    """RAdam's direction plus decay, rescaled per parameter to the norm of that parameter.

    Source: frgfm/Holocron, holocron/optim/ralars.py, which joins Liu et al., arXiv 1908.03265, with
    the ratio of You et al., arXiv 1904.00962. `force_adaptive_momentum` takes Adam's direction
    where RAdam has plain momentum.
    """

    INSIDE, force_adaptive_momentum = ("in_update",), False

    def change(self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None) -> Array:
        """Return lr ||p|| u / ||u||."""
        beta1, beta2 = self.betas
        self.average(g, m, v)
        root = self.denominator(v, v_max, beta2)
        r = rectification(beta2, self.t, self.threshold)
        below = "adam" if self.force_adaptive_momentum else "momentum"
        u = rectified(m / self.debias(beta1), root, r, below) + self.weight_decay * p
        low, high = self.scale_clip
        scale = min(max(math.sqrt(np.sum(p**2)), low), high)
        size = math.sqrt(np.sum(u**2))
        return np.asarray(self.lr * (scale / size if scale > 0 and size > 0 else 1.0) * u)
