"""Reference for SGD with momentum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._momentum import check_momentum, displacement, momentum_state


class SGD:
    """Gradient descent with momentum, by default as `torch.optim.SGD` defines it.

    Source: pytorch/pytorch, torch/optim/sgd.py; Nesterov's form follows Sutskever et al.,
    "On the importance of initialization and momentum in deep learning" (ICML 2013).
    With momentum 0 there is no buffer and dampening has no effect; nor has decay then with
    `bare_decay=False`, as in ml-explore/mlx before its #473.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        momentum_start: str = "gradient",
        momentum_form: str = "sum",
        lr_at: str = "outside",
        bare_decay: bool = True,
    ) -> None:
        check_momentum(dampening, momentum_start, momentum_form, lr_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = momentum_state(self.params, momentum)
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.weight_decay = weight_decay if bare_decay or momentum != 0 else 0.0
        self.momentum_start = momentum_start
        self.momentum_form = momentum_form
        self.lr_at = lr_at
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        for i in range(len(self.params)):
            p = self.params[i]
            g = np.asarray(grads[i], dtype=np.float64) + self.weight_decay * p
            p[...] = p - displacement(
                np.asarray(g),
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
