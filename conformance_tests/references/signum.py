"""Reference for Signum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Signum:
    """Steps by the sign of the running mean of the gradient; the sign of zero is zero.

    Source: Bernstein et al., arXiv 1802.04434, Algorithm 2 (Signum), with decoupled decay; the
    state is that of google-deepmind/optax, `signum`. With momentum 0 it is the sign of the
    gradient, without a buffer.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-4,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        momentum_start: str = "zero",
    ) -> None:
        if momentum_start not in ("zero", "gradient"):
            raise ValueError(f"momentum_start must be 'zero' or 'gradient', not {momentum_start!r}")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {}
        if momentum != 0:
            self.state["m"] = [np.zeros_like(p) for p in self.params]
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.momentum_start = momentum_start
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        for i in range(len(self.params)):
            p = self.params[i]
            d = np.asarray(grads[i], dtype=np.float64)
            if self.momentum != 0:
                m = self.state["m"][i]
                if self.t == 1 and self.momentum_start == "gradient":
                    m[...] = d
                else:
                    m[...] = self.momentum * m + (1 - self.momentum) * d
                d = m
            p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * np.sign(d)
