"""Reference for NovoGrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class NovoGrad(Adaptive):
    """Momentum of gradients, each divided by a mean of the norms of its parameter's gradients.

    Source: Ginsburg et al., arXiv 1905.11286, Algorithm 1: v_1 = ||g_1||^2, and
    m_1 = g_1 / sqrt(v_1) + d w, with eps beside the root in every step.
    """

    INSIDE = ("in_update",)
    bias_correction = False

    def slots(self, p: Array) -> dict[str, Any]:
        """The momentum, and one number for the parameter."""
        return {"m": np.zeros_like(p), "v": np.zeros(())}

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr m."""
        beta1, beta2 = self.betas
        square = np.sum(g**2)
        v[...] = square if self.t == 1 else beta2 * v + (1 - beta2) * square
        unit = quotient(g, self.denominator(v, None, beta2))
        m[...] = beta1 * m + (unit + self.weight_decay * p)
        return np.asarray(self.lr * m)
