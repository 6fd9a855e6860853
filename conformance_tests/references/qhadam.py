"""Reference for QHAdam."""

from __future__ import annotations

from ._adaptive import Adaptive
from ._reference import Array, quotient


class QHAdam(Adaptive):
    """Adam with quasi-hyperbolic terms in place of both of its corrected means.

    Source: Ma & Yarats, arXiv 1810.06801: theta - alpha ((1 - nu1) g + nu1 m_hat) /
    (sqrt((1 - nu2) g^2 + nu2 v_hat) + eps).
    """

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr times that quotient."""
        self.average(g, m, v)
        (nu1, nu2), debias = self.nus, self.debias(self.betas[1])
        above = (1 - nu1) * g + nu1 * m / self.debias(self.betas[0])
        below = self.root((1 - nu2) * g**2 + nu2 * v / debias, debias, self.eps_root)
        return self.lr * quotient(above, below)
