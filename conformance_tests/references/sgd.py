"""Reference for SGD with momentum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SGD:
    """Gradient descent with momentum, as `torch.optim.SGD` defines it.

    Source: pytorch/pytorch, torch/optim/sgd.py; Nesterov's form follows Sutskever et al.,
    "On the importance of initialization and momentum in deep learning" (ICML 2013).
    With momentum 0 there is no buffer: m stays zero and dampening has no effect.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state = {"m": [np.zeros_like(p) for p in self.params]}
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.weight_decay = weight_decay
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        for i in range(len(self.params)):
            p = self.params[i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            d = g
            if self.momentum != 0:
                m = self.state["m"][i]
                if self.t == 1:
                    m[...] = g  # the first gradient enters undampened
                else:
                    m[...] = self.momentum * m + (1 - self.dampening) * g
                d = g + self.momentum * m if self.nesterov else m
            p[...] = p - self.lr * d
