"""Reference for LAMB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class LAMB:
    """Adam's direction plus decay, rescaled per parameter to the norm of that parameter.

    Source: You et al., arXiv 1904.00962, Algorithm 2, with phi the identity and a ratio of 1
    where the parameter or the direction has norm zero.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            m_hat = m / (1 - beta1**self.t)
            v_hat = v / (1 - beta2**self.t)
            r = m_hat / (np.sqrt(v_hat) + self.eps)
            u = r + self.weight_decay * p
            p_norm = np.sqrt(np.sum(p**2))
            u_norm = np.sqrt(np.sum(u**2))
            ratio = p_norm / u_norm if p_norm > 0 and u_norm > 0 else 1.0
            p[...] = p - self.lr * ratio * u
