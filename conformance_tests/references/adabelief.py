"""Reference for AdaBelief."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, corrected, denominator, quotient, rectification, rectified


class AdaBelief:
    """Adam whose second moment is that of the gradient's deviation from its mean.

    Sources: Zhuang et al., arXiv 2010.07468, Algorithm 2, and juntang-zhuang/Adabelief-Optimizer,
    adabelief_pytorch, where eps (here `eps_root`) is added to v in every step and stays in it, as
    in google-deepmind/optax, `adabelief`. `keep_eps=False` is labml_nn/optimizers/ada_belief.py of
    labmlai: eps is added where v is read, before its bias correction. `rectify` takes RAdam's
    direction (Liu et al., arXiv 1908.03265). Decay is decoupled.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        keep_eps: bool = True,
        rectify: bool = False,
        threshold: float = 4.0,
        below: str = "momentum",
        eps_root: float = 1e-16,
        eps_at: str = "outside",
        bias_correction: bool = True,
        start: str = "zero",
        amsgrad: bool | str = False,
    ) -> None:
        check_adaptive(eps_at, start, amsgrad)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        if amsgrad:
            self.state["v_max"] = [np.zeros_like(p) for p in self.params]
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.keep_eps = keep_eps
        self.rectify = rectify
        self.threshold = threshold
        self.below = below
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.start = start
        self.amsgrad = amsgrad
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        debias1 = 1 - beta1**self.t if self.bias_correction else 1.0
        debias2 = 1 - beta2**self.t if self.bias_correction else 1.0
        r = rectification(beta2, self.t, self.threshold)
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            v_max = self.state["v_max"][i] if self.amsgrad else None
            g = np.asarray(grads[i], dtype=np.float64)
            if self.t == 1 and self.start == "gradient":
                m[...] = g
                v[...] = g**2
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * (g - m) ** 2
            if self.keep_eps:
                v[...] = v + self.eps_root
            m_hat = m / debias1
            v_hat = corrected(v, v_max, debias2, self.amsgrad)
            if not self.keep_eps:
                v_hat = np.asarray(v_hat + self.eps_root / debias2)
            root = denominator(v_hat, debias2, self.eps, 0.0, self.eps_at)
            u = quotient(m_hat, root)
            if self.rectify:
                u = rectified(m_hat, root, r, self.below)
            p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * u
