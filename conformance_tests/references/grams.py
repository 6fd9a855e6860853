"""Reference for Grams."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class Grams(Adaptive):
    """The length of each element of Adam's step, and the sign of its gradient.

    Source: Cao et al., arXiv 2412.17107, with decoupled decay.
    """

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr sign(g) |m_hat / (sqrt(v_hat) + eps)|."""
        self.average(g, m, v)
        beta1, beta2 = self.betas
        adam = quotient(m / self.debias(beta1), self.denominator(v, None, beta2))
        return np.asarray(self.lr * np.sign(g) * np.abs(adam))
