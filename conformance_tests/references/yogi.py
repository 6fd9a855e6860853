"""Reference for Yogi."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, denominator, quotient


class Yogi:
    """Adam whose second moment moves by the squared gradient's size, not by its distance.

    Source: Zaheer et al., "Adaptive Methods for Nonconvex Optimization" (NeurIPS 2018),
    Algorithm 2, with decoupled decay. The paper starts v from 1e-6 and corrects no bias;
    google-deepmind/optax, `yogi`, starts m from that value as well and corrects.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        initial_v: float = 1e-6,
        initial_m: float = 0.0,
        eps_root: float = 0.0,
        eps_at: str = "outside",
        bias_correction: bool = False,
    ) -> None:
        check_adaptive(eps_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.full_like(p, initial_m) for p in self.params],
            "v": [np.full_like(p, initial_v) for p in self.params],
        }
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        debias1 = 1 - beta1**self.t if self.bias_correction else 1.0
        debias2 = 1 - beta2**self.t if self.bias_correction else 1.0
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = v - (1 - beta2) * np.sign(v - g**2) * g**2
            v_hat = np.asarray(v / debias2)
            root = denominator(v_hat, debias2, self.eps, self.eps_root, self.eps_at)
            u = quotient(m / debias1, root)
            p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * u
