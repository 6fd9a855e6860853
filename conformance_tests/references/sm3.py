"""Reference for SM3."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._momentum import check_momentum, displacement, momentum_state


class SM3:
    """Adagrad whose sum of squares is bounded by one accumulator per axis.

    Source: google-research/google-research, sm3/sm3.py, and Anil et al., arXiv 1901.11150,
    Algorithm SM3-II. The code adds 1e-30 under the root where the paper takes 0/0 as 0; this
    does as the paper, whatever `eps`, as google-deepmind/optax does. The code keeps one
    accumulator of the parameter's own shape for vectors and scalars, which is what one
    accumulator per axis comes to there. Neither source has a default learning rate.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 0.1,
        momentum: float = 0.9,
        eps: float = 0.0,
        eps_at: str = "inside",
        eps_root: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        momentum_start: str = "zero",
        momentum_form: str = "mean",
        lr_at: str = "outside",
    ) -> None:
        if eps_at not in ("outside", "inside"):
            raise ValueError(f"eps_at must be 'outside' or 'inside', not {eps_at!r}")
        check_momentum(dampening, momentum_start, momentum_form, lr_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        mu: list[tuple[NDArray[np.float64], ...]] = []
        for p in self.params:
            if p.ndim == 0:
                mu.append((np.zeros(()),))
            else:
                shapes = [[1] * a + [p.shape[a]] + [1] * (p.ndim - a - 1) for a in range(p.ndim)]
                mu.append(tuple(np.zeros(shape) for shape in shapes))
        self.state: dict[str, list[Any]] = {"mu": mu, **momentum_state(self.params, momentum)}
        self.lr = lr
        self.momentum = momentum
        self.eps = eps
        self.eps_at = eps_at
        self.eps_root = eps_root
        self.dampening = dampening
        self.nesterov = nesterov
        self.momentum_start = momentum_start
        self.momentum_form = momentum_form
        self.lr_at = lr_at
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        for i in range(len(self.params)):
            p, mu = self.params[i], self.state["mu"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            nu = np.full(p.shape, np.inf)
            for accumulator in mu:
                nu = np.minimum(nu, accumulator)
            nu = np.asarray(nu + g**2)
            for axis, accumulator in enumerate(mu):
                others = tuple(a for a in range(p.ndim) if a != axis)
                if p.size > 0:
                    accumulator[...] = np.max(nu, axis=others, keepdims=True)
            u = np.zeros(p.shape)
            if self.eps_at == "inside":
                u[nu > 0] = g[nu > 0] / np.sqrt(nu[nu > 0] + self.eps_root + self.eps)
            else:
                u[nu > 0] = g[nu > 0] / (np.sqrt(nu[nu > 0] + self.eps_root) + self.eps)
            p[...] = p - displacement(
                u,
                self.state["m"][i] if "m" in self.state else None,
                self.lr,
                self.t,
                self.momentum,
                self.dampening,
                self.nesterov,
                self.momentum_start,
                self.momentum_form,
                self.lr_at,
            )
