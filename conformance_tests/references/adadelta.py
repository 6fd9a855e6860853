"""Reference for AdaDelta."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import quotient


class AdaDelta:
    """Steps whose size is the running size of the steps so far, relative to the gradient's.

    Sources: Zeiler, arXiv 1212.5701, Algorithm 1; pytorch/pytorch, torch/optim/adadelta.py (the
    defaults). `accumulate=False` is what ml-explore/mlx computed until February 2024 (#603):
    the running size of the steps was written but never read.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        accumulate: bool = True,
    ) -> None:
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "v": [np.zeros_like(p) for p in self.params],
            "u": [np.zeros_like(p) for p in self.params],
        }
        self.lr = lr
        self.rho = rho
        self.eps = eps
        self.weight_decay = weight_decay
        self.accumulate = accumulate

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        for i in range(len(self.params)):
            p, v, u = self.params[i], self.state["v"][i], self.state["u"][i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            v[...] = self.rho * v + (1 - self.rho) * g**2
            before = u if self.accumulate else np.zeros_like(u)
            d = quotient(np.sqrt(before + self.eps) * g, np.sqrt(v + self.eps))
            u[...] = self.rho * before + (1 - self.rho) * d**2
            p[...] = p - self.lr * d
