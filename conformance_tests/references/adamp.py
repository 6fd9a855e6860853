"""Reference for AdamP."""

from __future__ import annotations

import math

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class AdamP(Adaptive):
    """Adam without the part of its direction along the parameter, where scale does not matter.

    Sources: Heo et al., arXiv 2006.08217, Algorithm 2, and clovaai/AdamP, adamp/adamp.py
    (`projection="channel"`): a parameter of at least two dimensions whose gradient is nearly
    orthogonal to it, channel by channel or else as a whole, loses the radial part of its
    direction, and its decay is scaled by `wd_ratio`. Channels are the output axis (first with
    layout "oi", last with "io"). `projection="signed"` is frgfm/Holocron,
    holocron/optim/adamp.py: always as a whole, the cosine with its sign, the decay never scaled.
    The code decays the parameter before the step, which is decay inside the direction.
    """

    INSIDE, SEES_OLD = ("in_update",), True
    projection = "channel"

    def change(self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None) -> Array:
        """Return lr times the projected direction, and the decay."""
        beta1, beta2 = self.betas
        self.average(g, m, v)
        m_hat = (beta1 * m + (1 - beta1) * g if self.nesterov else m) / self.debias(beta1)
        u, decay = self.projected(p, g, quotient(m_hat, self.denominator(v, v_max, beta2)))
        return np.asarray(self.lr * (u + decay * p))

    def projected(self, p: Array, g: Array, u: Array) -> tuple[Array, float]:
        """Return the direction without its radial part, where that is to go, and the decay."""
        if p.size == 0:
            return u, self.weight_decay
        if self.projection == "signed":
            cosine = self.cosine(p.ravel(), g.ravel(), 1e-8)
            if cosine < self.delta / math.sqrt(p.size):
                u = self.without_radial_part(p.ravel(), u.ravel()).reshape(p.shape)
            return u, self.weight_decay
        if p.ndim < 2:
            return u, self.weight_decay
        axis = -1 if self.layout == "io" else 0
        moved = np.moveaxis(p, axis, 0)
        for rows in (moved.shape[0], 1):
            p_rows = moved.reshape(rows, -1)
            g_rows = np.moveaxis(g, axis, 0).reshape(rows, -1)
            u_rows = np.moveaxis(u, axis, 0).reshape(rows, -1)
            pairs = zip(p_rows, g_rows, strict=True)
            largest = max(abs(self.cosine(p_row, g_row, self.eps)) for p_row, g_row in pairs)
            if largest < self.delta / math.sqrt(p_rows.shape[1]):
                kept = [self.without_radial_part(a, b) for a, b in zip(p_rows, u_rows, strict=True)]
                u = np.moveaxis(np.array(kept).reshape(moved.shape), 0, axis)
                return u, self.weight_decay * self.wd_ratio
        return u, self.weight_decay

    @staticmethod
    def cosine(x: Array, y: Array, eps: float) -> float:
        """Return the cosine of the angle between two vectors, as torch does: norms at least eps."""
        x_norm, y_norm = math.sqrt(np.sum(x**2)), math.sqrt(np.sum(y**2))
        if x_norm == 0 or y_norm == 0:
            return 0.0
        return float(np.sum(x * y)) / (max(x_norm, eps) * max(y_norm, eps))

    def without_radial_part(self, p: Array, u: Array) -> Array:
        """Return u less its part along p."""
        unit = quotient(p, np.asarray(math.sqrt(np.sum(p**2)) + self.eps))
        return np.asarray(u - np.sum(unit * u) * unit)
