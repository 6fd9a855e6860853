"""Reference for SignSGD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SignSGD:
    """Steps by the sign of the gradient; the sign of zero is zero.

    Source: Bernstein et al., arXiv 1802.04434, Algorithm 1, with decoupled decay as Signum's.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-4,
        weight_decay: float = 0.0,
    ) -> None:
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {}
        self.lr = lr
        self.weight_decay = weight_decay

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        for i in range(len(self.params)):
            p = self.params[i]
            g = np.asarray(grads[i], dtype=np.float64)
            p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * np.sign(g)
