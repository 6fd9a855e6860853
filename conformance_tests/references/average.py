"""Reference for Average."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class Average(Wrapping):
    """Keeps the average of the parameters after every step of the inner reference.

    Source: pytorch/pytorch, torch/optim/swa_utils.py, get_ema_avg_fn ("ema") and get_swa_avg_fn
    ("equal"); optax.ema with debias=True ("debiased"). `state` has the slot `average` added.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        average_decay: float = 0.999,
        average_start: int = 0,
        averaging: str = "ema",
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.average_decay = average_decay
        self.average_start = average_start
        self.averaging = averaging
        self.t = 0
        self.state["average"] = [param.copy() for param in self.params]
        self.sums = [np.zeros_like(param) for param in self.params]

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.inner.step(grads)
        self.t += 1
        n = self.t - self.average_start
        for param, average, total in zip(
            self.params, self.state["average"], self.sums, strict=True
        ):
            if n <= 0:
                average[...] = param
            elif self.averaging == "ema":
                average[...] = self.average_decay * average + (1 - self.average_decay) * param
            elif self.averaging == "debiased":
                total[...] = self.average_decay * total + (1 - self.average_decay) * param
                average[...] = total / (1 - self.average_decay**n)
            else:
                total[...] = total + param
                average[...] = total / n
