"""Reference for RAdam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, corrected, denominator, rectification, rectified


class RAdam:
    """Adam, rectified for the variance of its denominator, and plain momentum at the beginning.

    Source: Liu et al., arXiv 1908.03265, Algorithm 2 (threshold 4). pytorch/pytorch,
    torch/optim/radam.py, has threshold 5 and `eps_at="uncorrected"`, and its coupled decay is the
    one here. `below` says what is done while the variance is not tractable.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        threshold: float = 4.0,
        below: str = "momentum",
        eps_root: float = 0.0,
        eps_at: str = "outside",
        bias_correction: bool = True,
        start: str = "zero",
        amsgrad: bool | str = False,
    ) -> None:
        check_adaptive(eps_at, start, amsgrad)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        if amsgrad:
            self.state["v_max"] = [np.zeros_like(p) for p in self.params]
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.threshold = threshold
        self.below = below
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.start = start
        self.amsgrad = amsgrad
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        debias1 = 1 - beta1**self.t if self.bias_correction else 1.0
        debias2 = 1 - beta2**self.t if self.bias_correction else 1.0
        r = rectification(beta2, self.t, self.threshold)
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            v_max = self.state["v_max"][i] if self.amsgrad else None
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            if self.t == 1 and self.start == "gradient":
                m[...] = g
                v[...] = g**2
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            m_hat = m / debias1
            v_hat = corrected(v, v_max, debias2, self.amsgrad)
            root = denominator(v_hat, debias2, self.eps, self.eps_root, self.eps_at)
            p[...] = p - self.lr * rectified(m_hat, root, r, self.below)
