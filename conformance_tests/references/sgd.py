"""Reference for SGD."""

from __future__ import annotations

from typing import Any

from ._momentum import Momentum
from ._reference import Array


class SGD(Momentum):
    """Gradient descent with momentum, by default as `torch.optim.SGD` defines it.

    Source: pytorch/pytorch, torch/optim/sgd.py; Nesterov's form follows Sutskever et al.,
    "On the importance of initialization and momentum in deep learning" (ICML 2013).
    With momentum 0 there is no buffer and dampening has no effect; nor has decay then with
    `bare_decay=False`, as in ml-explore/mlx before its #473.
    """

    momentum_start, bare_decay = "gradient", True

    def __init__(self, params: list[Array], **values: Any) -> None:
        super().__init__(params, **values)
        if not self.bare_decay and self.momentum == 0:
            self.amount = 0.0

    def change(self, p: Array, g: Array, m: Array | None = None) -> Array:
        """Return what momentum makes of the gradient."""
        return self.displacement(g, m, self.lr)
