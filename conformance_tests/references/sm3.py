"""Reference for SM3."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SM3:
    """Adagrad whose sum of squares is bounded by one accumulator per axis.

    Source: google-research/google-research, sm3/sm3.py, and Anil et al., arXiv 1901.11150,
    Algorithm SM3-II. The code adds 1e-30 under the root where the paper takes 0/0 as 0; this
    does as the paper. The code keeps one accumulator of the parameter's own shape for vectors
    and scalars, which is what one accumulator per axis comes to there. Neither source has a
    default learning rate.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 0.1,
        momentum: float = 0.9,
    ) -> None:
        self.params = [np.array(p, dtype=np.float64) for p in params]
        mu: list[tuple[NDArray[np.float64], ...]] = []
        for p in self.params:
            if p.ndim == 0:
                mu.append((np.zeros(()),))
            else:
                shapes = [[1] * a + [p.shape[a]] + [1] * (p.ndim - a - 1) for a in range(p.ndim)]
                mu.append(tuple(np.zeros(shape) for shape in shapes))
        self.state: dict[str, list[Any]] = {
            "mu": mu,
            "m": [np.zeros_like(p) for p in self.params],
        }
        self.lr = lr
        self.momentum = momentum

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        for i in range(len(self.params)):
            p, mu, m = self.params[i], self.state["mu"][i], self.state["m"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            nu = np.full(p.shape, np.inf)
            for accumulator in mu:
                nu = np.minimum(nu, accumulator)
            nu = np.asarray(nu + g**2)
            for axis, accumulator in enumerate(mu):
                others = tuple(a for a in range(p.ndim) if a != axis)
                accumulator[...] = np.max(nu, axis=others, keepdims=True)
            u = np.zeros(p.shape)
            u[nu > 0] = g[nu > 0] / np.sqrt(nu[nu > 0])
            m[...] = self.momentum * m + (1 - self.momentum) * u
            p[...] = p - self.lr * m
