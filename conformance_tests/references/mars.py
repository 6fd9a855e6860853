"""Reference for MARS."""

from __future__ import annotations

import math

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class MARS(Adaptive):
    """Adam or Lion's sign on the clipped, variance-reduced gradient, in the approximate form.

    Source: Yuan et al., arXiv 2411.10438, and AGI-Arena/MARS, mars.py (`is_approx=True`), whose
    last gradient is zero before the first step.
    """

    def slots(self, p: Array) -> dict[str, Array]:
        """The averages and the gradient before, zero."""
        names = ("m", "v", "prev") if self.adaptive else ("m", "prev")
        return {name: np.zeros_like(p) for name in names}

    def change(self, p: Array, g: Array, m: Array, prev: Array, v: Array | None = None) -> Array:
        """Return lr m_hat / (sqrt(v_hat) + eps), or lr sign(m)."""
        beta1, beta2 = self.betas
        c = np.asarray(g + self.gamma * (beta1 / (1 - beta1)) * (g - prev))
        prev[...] = g
        length = math.sqrt(np.sum(c**2))
        if length > self.clip_norm:
            c = np.asarray(self.clip_norm * c / length)
        m[...] = beta1 * m + (1 - beta1) * c
        if v is None:
            return np.asarray(self.lr * np.sign(m))
        v[...] = beta2 * v + (1 - beta2) * c**2
        return self.lr * quotient(m / self.debias(beta1), self.denominator(v, None, beta2))
