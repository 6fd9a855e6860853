"""Reference for AdEMAMix."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class AdEMAMix(Adaptive):
    """Adam with a second, much slower mean of the gradient, which is not corrected for bias.

    Sources: Pagliardini et al., arXiv 2409.03137, Algorithm 1, with decoupled decay;
    apple/ml-ademamix and google-deepmind/optax, `contrib.ademamix` (`eps_root`). `slow_start` is
    the step from which schedules of alpha and of the third beta count; constants have no schedule.
    """

    def slots(self, p: Array) -> dict[str, Array]:
        """The three averages, zero."""
        return {name: np.zeros_like(p) for name in ("m1", "m2", "v")}

    def change(self, p: Array, g: Array, m1: Array, m2: Array, v: Array) -> Array:
        """Return lr (m1_hat + alpha m2) / (sqrt(v_hat) + eps)."""
        beta1, beta2, beta3 = self.betas
        m1[...] = beta1 * m1 + (1 - beta1) * g
        m2[...] = beta3 * m2 + (1 - beta3) * g
        v[...] = beta2 * v + (1 - beta2) * g**2
        mixed = m1 / self.debias(beta1) + self.alpha * m2
        return self.lr * quotient(mixed, self.denominator(v, None, beta2))
