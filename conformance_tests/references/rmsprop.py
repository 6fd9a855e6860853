"""Reference for RMSprop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import quotient
from ._momentum import check_momentum, displacement, momentum_state


class RMSprop:
    """The gradient divided by the root of the running mean of its square.

    Sources: pytorch/pytorch, torch/optim/rmsprop.py (the defaults); google-deepmind/optax,
    `rmsprop` (eps inside the root, learning rate inside the momentum, bias correction and the
    value that v starts from); Tieleman & Hinton, "Lecture 6.5 - rmsprop" (2012). The variance
    of `centered` is taken as 0 where rounding makes it negative.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        eps_at: str = "outside",
        eps_root: float = 0.0,
        bias_correction: bool = False,
        initial_v: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        momentum_start: str = "zero",
        momentum_form: str = "sum",
        lr_at: str = "outside",
    ) -> None:
        if eps_at not in ("outside", "inside"):
            raise ValueError(f"eps_at must be 'outside' or 'inside', not {eps_at!r}")
        check_momentum(dampening, momentum_start, momentum_form, lr_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {"v": [np.full_like(p, initial_v) for p in self.params]}
        if centered:
            self.state["g"] = [np.zeros_like(p) for p in self.params]
        self.state |= momentum_state(self.params, momentum)
        self.lr = lr
        self.alpha = alpha
        self.eps = eps
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.centered = centered
        self.eps_at = eps_at
        self.eps_root = eps_root
        self.bias_correction = bias_correction
        self.dampening = dampening
        self.nesterov = nesterov
        self.momentum_start = momentum_start
        self.momentum_form = momentum_form
        self.lr_at = lr_at
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        debias = 1 - self.alpha**self.t if self.bias_correction else 1.0
        for i in range(len(self.params)):
            p, v = self.params[i], self.state["v"][i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            v[...] = self.alpha * v + (1 - self.alpha) * g**2
            square = v / debias
            if self.centered:
                mean = self.state["g"][i]
                mean[...] = self.alpha * mean + (1 - self.alpha) * g
                square = np.maximum(square - (mean / debias) ** 2, 0.0)
            if self.eps_at == "inside":
                u = quotient(g, np.sqrt(square + self.eps_root + self.eps))
            else:
                u = quotient(g, np.sqrt(square + self.eps_root) + self.eps)
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
