"""Reference for Yogi."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class Yogi(Adaptive):
    """Adam whose second moment moves by the squared gradient's size, not by its distance.

    Source: Zaheer et al., "Adaptive Methods for Nonconvex Optimization" (NeurIPS 2018),
    Algorithm 2, with decoupled decay. The paper starts v from 1e-6 and corrects no bias;
    google-deepmind/optax, `yogi`, starts m from that value as well and corrects.
    """

    bias_correction, initial_m = False, 0.0

    def slots(self, p: Array) -> dict[str, Array]:
        """The averages, with the values that they start from."""
        return {"m": np.full_like(p, self.initial_m), "v": np.full_like(p, self.initial_v)}

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr m_hat / (sqrt(v_hat) + eps)."""
        beta1, beta2 = self.betas
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = v - (1 - beta2) * np.sign(v - g**2) * g**2
        return self.lr * quotient(m / self.debias(beta1), self.denominator(v, None, beta2))
