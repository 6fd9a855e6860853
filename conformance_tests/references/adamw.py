"""Reference for AdamW."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class AdamW:
    """Adam whose weight decay, scaled by lr, acts on the parameter and not on the gradient.

    Source: Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2, with the schedule multiplier
    and the decay multiplied into lr, as in pytorch/pytorch, torch/optim/adamw.py.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
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
            u = m_hat / (np.sqrt(v_hat) + self.eps)
            p[...] = p - self.lr * (u + self.weight_decay * p)
