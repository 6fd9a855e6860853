"""Reference for Adagrad."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._momentum import check_momentum, displacement, momentum_state


class Adagrad:
    """The gradient divided by the root of the sum of its squares so far.

    Sources: Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization" (JMLR 2011); pytorch/pytorch, torch/optim/adagrad.py (the defaults,
    `lr_decay`); google-deepmind/optax, `scale_by_rss` (eps inside the root, `initial_v`, no
    step where the sum is 0); jax.example_libraries.optimizers, `adagrad` (momentum as a mean).
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        eps_at: str = "outside",
        eps_root: float = 0.0,
        initial_v: float = 0.0,
        momentum: float = 0.0,
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
        self.state: dict[str, list[Any]] = {"v": [np.full_like(p, initial_v) for p in self.params]}
        self.state |= momentum_state(self.params, momentum)
        self.lr = lr
        self.lr_decay = lr_decay
        self.eps = eps
        self.weight_decay = weight_decay
        self.eps_at = eps_at
        self.eps_root = eps_root
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.momentum_start = momentum_start
        self.momentum_form = momentum_form
        self.lr_at = lr_at
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        lr = self.lr / (1 + (self.t - 1) * self.lr_decay)
        for i in range(len(self.params)):
            p, v = self.params[i], self.state["v"][i]
            g = np.asarray(grads[i] + self.weight_decay * p, dtype=np.float64)
            v[...] = v + g**2
            u = np.zeros(p.shape)
            if self.eps_at == "inside":
                u[v > 0] = g[v > 0] / np.sqrt(v[v > 0] + self.eps_root + self.eps)
            else:
                u[v > 0] = g[v > 0] / (np.sqrt(v[v > 0] + self.eps_root) + self.eps)
            p[...] = p - displacement(
                u,
                self.state["m"][i] if "m" in self.state else None,
                lr,
                self.t,
                self.momentum,
                self.dampening,
                self.nesterov,
                self.momentum_start,
                self.momentum_form,
                self.lr_at,
            )
