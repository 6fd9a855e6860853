"""Reference for Adamax."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import quotient


class Adamax:
    """Adam with the largest, decaying absolute gradient in place of the root of the squares.

    Sources: Kingma & Ba, arXiv 1412.6980, Algorithm 2; pytorch/pytorch, torch/optim/adamax.py
    (eps beside the gradient, in the maximum: `eps_at="inside"`); ml-explore/mlx, `Adamax` (eps in
    the denominator: `eps_at="outside"`, and no bias correction).
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        eps_at: str = "inside",
        bias_correction: bool = True,
    ) -> None:
        if eps_at not in ("inside", "outside"):
            raise ValueError(f"eps_at must be 'inside' or 'outside', not {eps_at!r}")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "u": [np.zeros_like(p) for p in self.params],
        }
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        debias = 1 - beta1**self.t if self.bias_correction else 1.0
        for i in range(len(self.params)):
            p, m, u = self.params[i], self.state["m"][i], self.state["u"][i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            m[...] = beta1 * m + (1 - beta1) * g
            if self.eps_at == "inside":
                u[...] = np.maximum(beta2 * u, np.abs(g) + self.eps)
                d = quotient(m / debias, u)
            else:
                u[...] = np.maximum(beta2 * u, np.abs(g))
                d = quotient(m / debias, u + self.eps)
            p[...] = p - self.lr * d
