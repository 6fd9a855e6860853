"""Reference for TAdam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, corrected, denominator, quotient


class TAdam:
    """Adam whose mean is that of a Student t distribution: outlying gradients weigh less.

    Source: Ilboudo et al., arXiv 2003.00179, Algorithm 1, and frgfm/Holocron,
    holocron/optim/tadam.py. `dof` is the number of degrees of freedom, that of the parameter's
    elements if None; `w_sum` is the decaying sum of the weights, one number per parameter.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        dof: float | None = None,
        eps_root: float = 0.0,
        eps_at: str = "outside",
        bias_correction: bool = True,
        amsgrad: bool | str = False,
    ) -> None:
        check_adaptive(eps_at, amsgrad=amsgrad)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        if amsgrad:
            self.state["v_max"] = [np.zeros_like(p) for p in self.params]
        beta1 = betas[0]
        self.state["w_sum"] = [np.array(beta1 / (1 - beta1)) for _ in self.params]
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.dof = dof
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.amsgrad = amsgrad
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        debias1 = 1 - beta1**self.t if self.bias_correction else 1.0
        debias2 = 1 - beta2**self.t if self.bias_correction else 1.0
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            v_max = self.state["v_max"][i] if self.amsgrad else None
            w_sum = self.state["w_sum"][i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            dof = p.size if self.dof is None else self.dof
            distance = float(np.sum(quotient((g - m) ** 2, v + self.eps)))
            w = float(quotient(np.asarray(dof + p.size), np.asarray(dof + distance)))
            m[...] = (w_sum * m + w * g) / (w_sum + w)
            w_sum[...] = (2 - 1 / beta1) * w_sum + w
            v[...] = beta2 * v + (1 - beta2) * g**2
            m_hat = m / debias1
            v_hat = corrected(v, v_max, debias2, self.amsgrad)
            root = denominator(v_hat, debias2, self.eps, self.eps_root, self.eps_at)
            p[...] = p - self.lr * quotient(m_hat, root)
