"""Reference for Adan."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class Adan(Adaptive):
    """Adaptive Nesterov momentum: means of the gradient and of its change from step to step.

    Source: sail-sg/Adan, adan.py (without its optional clipping), and Xie et al.,
    arXiv 2208.06677, Algorithm 1. The betas are those of the code, one minus the paper's, and
    the bias corrections are those of the code; the paper has none. `decay="decoupled"` is
    the code's `no_prox=True`.

    `start="gradient"` is the paper's: after the first step m is the first gradient, n its square
    and v zero. `difference_weight="1-beta2"` is google-deepmind/optax 0.2.8, in both places where
    the difference is weighted. `keep_previous=False` is frgfm/Holocron, holocron/optim/adan.py,
    which never writes the previous gradient: the difference is the gradient itself.
    """

    difference_weight, keep_previous = "beta2", True

    def slots(self, p: Array) -> dict[str, Array]:
        """The averages and the gradient before, zero."""
        names = ("m", "v", "n", "prev", "n_max") if self.amsgrad else ("m", "v", "n", "prev")
        return {name: np.zeros_like(p) for name in names}

    def change(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        n: Array,
        prev: Array,
        n_max: Array | None = None,
    ) -> Array:
        """Return lr (m_hat + beta2 v_hat) / (sqrt(n_hat) + eps)."""
        beta1, beta2, beta3 = self.betas
        weight = beta2 if self.difference_weight == "beta2" else 1 - beta2
        if self.t == 1 and self.keep_previous:
            prev[...] = g  # the first difference is zero
        diff = g - prev
        if self.t == 1 and self.start == "gradient":
            m[...] = g
            v[...] = 0.0
            n[...] = g**2
        else:
            if self.t == 2 and self.start == "gradient":
                v[...] = diff  # the paper's v_1 is the whole difference
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * diff
            n[...] = beta3 * n + (1 - beta3) * (g + weight * diff) ** 2
        if self.keep_previous:
            prev[...] = g
        ahead = m / self.debias(beta1) + weight * v / self.debias(beta2)
        return self.lr * quotient(ahead, self.denominator(n, n_max, beta3))
