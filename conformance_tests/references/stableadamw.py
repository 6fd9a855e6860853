"""Reference for StableAdamW."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class StableAdamW(Adaptive):
    """AdamW whose step size is divided by RMS_t = sqrt(mean(g^2 / max(u, eps^2))) where above 1.

    Source: Wortsman et al., arXiv 2304.13013, Algorithm 2. The decay has the same step size.
    """

    INSIDE = ("in_update",)

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return eta_t m_hat / (sqrt(v_hat) + eps), and eta_t times the decay."""
        self.average(g, m, v)
        beta1, beta2 = self.betas
        u = v / self.debias(beta2)
        least = self.eps if self.eps_at == "inside" else self.eps**2  # a square there
        squares = quotient(g**2, np.maximum(u, least))
        ratio = float(np.sqrt(np.mean(squares))) if g.size else 0.0
        adam = quotient(m / self.debias(beta1), self.denominator(v, None, beta2))
        return self.lr / max(1.0, ratio) * (adam + self.weight_decay * p)
