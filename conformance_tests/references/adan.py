"""Reference for Adan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Adan:
    """Adaptive Nesterov momentum: means of the gradient and of its change from step to step.

    Source: sail-sg/Adan, adan.py (without its optional clipping), and Xie et al.,
    arXiv 2208.06677, Algorithm 1. The betas are those of the code, one minus the paper's, and
    the bias corrections are those of the code; the paper has none. `decay="decoupled"` is
    the code's `no_prox=True`.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay: str = "proximal",
    ) -> None:
        if decay not in ("proximal", "decoupled"):
            raise ValueError(f"decay must be 'proximal' or 'decoupled', not {decay!r}")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
            "n": [np.zeros_like(p) for p in self.params],
            "prev": [np.zeros_like(p) for p in self.params],
        }
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.decay = decay
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2, beta3 = self.betas
        self.t += 1
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            n, prev = self.state["n"][i], self.state["prev"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            if self.t == 1:
                prev[...] = g  # the first difference is zero
            diff = g - prev
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * diff
            n[...] = beta3 * n + (1 - beta3) * (g + beta2 * diff) ** 2
            m_hat = m / (1 - beta1**self.t)
            v_hat = v / (1 - beta2**self.t)
            n_hat = n / (1 - beta3**self.t)
            u = (m_hat + beta2 * v_hat) / (np.sqrt(n_hat) + self.eps)
            if self.decay == "proximal":
                p[...] = (p - self.lr * u) / (1 + self.lr * self.weight_decay)
            else:
                p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * u
            prev[...] = g
