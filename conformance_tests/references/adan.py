"""Reference for Adan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, corrected, denominator, quotient


class Adan:
    """Adaptive Nesterov momentum: means of the gradient and of its change from step to step.

    Source: sail-sg/Adan, adan.py (without its optional clipping), and Xie et al.,
    arXiv 2208.06677, Algorithm 1. The betas are those of the code, one minus the paper's, and
    the bias corrections are those of the code; the paper has none. `decay="decoupled"` is
    the code's `no_prox=True`.

    `start="gradient"` is the paper's: after the first step m is the first gradient, n its square
    and v zero. `difference_weight="1-beta2"` is google-deepmind/optax 0.2.8, in both places where
    the difference is weighted. `keep_previous=False` is frgfm/Holocron, holocron/optim/adan.py,
    which never writes the previous gradient: the difference is the gradient itself.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay: str = "proximal",
        eps_root: float = 0.0,
        eps_at: str = "outside",
        bias_correction: bool = True,
        amsgrad: bool | str = False,
        start: str = "zero",
        difference_weight: str = "beta2",
        keep_previous: bool = True,
    ) -> None:
        if decay not in ("proximal", "decoupled"):
            raise ValueError(f"decay must be 'proximal' or 'decoupled', not {decay!r}")
        if difference_weight not in ("beta2", "1-beta2"):
            raise ValueError(
                f"difference_weight must be 'beta2' or '1-beta2', not {difference_weight!r}"
            )
        check_adaptive(eps_at, start, amsgrad)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
            "n": [np.zeros_like(p) for p in self.params],
            "prev": [np.zeros_like(p) for p in self.params],
        }
        if amsgrad:
            self.state["n_max"] = [np.zeros_like(p) for p in self.params]
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.decay = decay
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.amsgrad = amsgrad
        self.start = start
        self.difference_weight = difference_weight
        self.keep_previous = keep_previous
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2, beta3 = self.betas
        weight = beta2 if self.difference_weight == "beta2" else 1 - beta2
        self.t += 1
        debias1 = debias2 = debias3 = 1.0
        if self.bias_correction:
            debias1, debias2, debias3 = (1 - beta**self.t for beta in self.betas)
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            n, prev = self.state["n"][i], self.state["prev"][i]
            n_max = self.state["n_max"][i] if self.amsgrad else None
            g = np.asarray(grads[i], dtype=np.float64)
            if self.t == 1 and self.keep_previous:
                prev[...] = g  # the first difference is zero
            diff = g - prev
            if self.t == 1 and self.start == "gradient":
                m[...] = g
                v[...] = 0.0
                n[...] = g**2
            else:
                if self.t == 2 and self.start == "gradient":
                    v[...] = diff  # the paper's v_1 is the whole difference
                m[...] = beta1 * m + (1 - beta1) * g
                v[...] = beta2 * v + (1 - beta2) * diff
                n[...] = beta3 * n + (1 - beta3) * (g + weight * diff) ** 2
            m_hat = m / debias1
            v_hat = v / debias2
            n_hat = corrected(n, n_max, debias3, self.amsgrad)
            root = denominator(n_hat, debias3, self.eps, self.eps_root, self.eps_at)
            u = quotient(m_hat + weight * v_hat, root)
            if self.decay == "proximal":
                p[...] = (p - self.lr * u) / (1 + self.lr * self.weight_decay)
            else:
                p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * u
            if self.keep_previous:
                prev[...] = g
