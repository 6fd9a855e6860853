"""Reference for Lion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Lion:
    """Steps by the sign of a mixture of momentum and gradient; the sign of zero is zero.

    Source: google/automl, lion/lion_pytorch.py, and Chen et al., arXiv 2302.06675,
    Algorithm 2. With `start="gradient"`, as in the first release of ml-explore/mlx, the momentum
    is the first gradient before the first step.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        start: str = "zero",
    ) -> None:
        if start not in ("zero", "gradient"):
            raise ValueError(f"start must be 'zero' or 'gradient', not {start!r}")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state = {"m": [np.zeros_like(p) for p in self.params]}
        self.lr = lr
        self.betas = betas
        self.weight_decay = weight_decay
        self.start = start
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        for i in range(len(self.params)):
            p, m = self.params[i], self.state["m"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            if self.t == 1 and self.start == "gradient":
                m[...] = g
            c = beta1 * m + (1 - beta1) * g
            p[...] = p - self.lr * (np.sign(c) + self.weight_decay * p)
            m[...] = beta2 * m + (1 - beta2) * g
