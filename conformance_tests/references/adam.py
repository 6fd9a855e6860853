"""Reference for Adam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Adam:
    """Adam with bias correction, eps outside the root and coupled (l2) weight decay.

    Source: Kingma & Ba, arXiv 1412.6980, Algorithm 1; the coupled decay is that of
    pytorch/pytorch, torch/optim/adam.py.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
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
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            m_hat = m / (1 - beta1**self.t)
            v_hat = v / (1 - beta2**self.t)
            p[...] = p - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)
