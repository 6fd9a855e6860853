"""Reference for NAdam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, denominator, quotient


class NAdam:
    """Adam with Nesterov's momentum.

    Sources: Dozat, "Incorporating Nesterov Momentum into Adam" (ICLR workshop 2016), and
    pytorch/pytorch, torch/optim/nadam.py (beta1 growing from about half its value, by
    `momentum_decay`). `momentum_schedule=False` is google-deepmind/optax, `nadam`: beta1 stays.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        momentum_schedule: bool = True,
        eps_root: float = 0.0,
        eps_at: str = "outside",
        bias_correction: bool = True,
    ) -> None:
        check_adaptive(eps_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        if momentum_schedule:
            self.state["product"] = [np.array(1.0) for p in self.params]
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.momentum_decay = momentum_decay
        self.momentum_schedule = momentum_schedule
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.t = 0
        self.mu_product = 1.0

    def mu(self, t: int) -> float:
        """Return the momentum of step t."""
        if not self.momentum_schedule:
            return self.betas[0]
        return float(self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)))

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        now, following = self.mu(self.t), self.mu(self.t + 1)
        self.mu_product *= now
        debias_g = debias_m = debias2 = 1.0
        if self.bias_correction:
            debias_g = 1 - self.mu_product
            debias_m = 1 - self.mu_product * following
            debias2 = 1 - beta2**self.t
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            v_hat = np.asarray(v / debias2)
            root = denominator(v_hat, debias2, self.eps, self.eps_root, self.eps_at)
            u = quotient((1 - now) * g / debias_g + following * m / debias_m, root)
            p[...] = p - self.lr * u
            if self.momentum_schedule:
                self.state["product"][i][...] = self.mu_product
