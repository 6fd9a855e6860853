"""Reference for AdEMAMix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, denominator, quotient


class AdEMAMix:
    """Adam with a second, much slower mean of the gradient, which is not corrected for bias.

    Sources: Pagliardini et al., arXiv 2409.03137, Algorithm 1, with decoupled decay;
    apple/ml-ademamix and google-deepmind/optax, `contrib.ademamix` (`eps_root`). `slow_start` is
    the step from which schedules of alpha and of the third beta count; constants have no schedule.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        eps_root: float = 0.0,
        slow_start: int = 0,
        eps_at: str = "outside",
        bias_correction: bool = True,
    ) -> None:
        check_adaptive(eps_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m1": [np.zeros_like(p) for p in self.params],
            "m2": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        self.lr = lr
        self.betas = betas
        self.alpha = alpha
        self.eps = eps
        self.weight_decay = weight_decay
        self.eps_root = eps_root
        self.slow_start = slow_start
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2, beta3 = self.betas
        self.t += 1
        debias1 = 1 - beta1**self.t if self.bias_correction else 1.0
        debias2 = 1 - beta2**self.t if self.bias_correction else 1.0
        for i in range(len(self.params)):
            p, v = self.params[i], self.state["v"][i]
            m1, m2 = self.state["m1"][i], self.state["m2"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            m1[...] = beta1 * m1 + (1 - beta1) * g
            m2[...] = beta3 * m2 + (1 - beta3) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            v_hat = np.asarray(v / debias2)
            root = denominator(v_hat, debias2, self.eps, self.eps_root, self.eps_at)
            u = quotient(m1 / debias1 + self.alpha * m2, root)
            p[...] = p - self.lr * (u + self.weight_decay * p)
