"""Reference for LaProp."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class LaProp(Adaptive):
    """A mean of gradients each of which was divided by the root of the mean square of then.

    Source: Ziyin et al., arXiv 2002.04839, with decoupled decay.
    """

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr m_hat, where m gathers g / (sqrt(v_hat) + eps)."""
        beta1, beta2 = self.betas
        v[...] = beta2 * v + (1 - beta2) * g**2
        m[...] = beta1 * m + (1 - beta1) * quotient(g, self.denominator(v, None, beta2))
        return np.asarray(self.lr * m / self.debias(beta1))
