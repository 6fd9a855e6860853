"""Reference for Average."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class Average(Wrapping):
    """Keeps the average of the parameters after every step of the inner reference.

    Source: pytorch/pytorch, torch/optim/swa_utils.py, get_ema_avg_fn ("ema") and get_swa_avg_fn
    ("equal"); optax.ema with debias=True ("debiased"). `state` has the slot `average` added.
    """

    def begin(self) -> None:
        """Keep the average, and the sum that it is made of."""
        self.state["average"] = [param.copy() for param in self.params]
        self.sums = [np.zeros_like(param) for param in self.params]

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        self.inner.step(grads)
        self.t += 1
        n, decay = self.t - self.average_start, self.average_decay
        for param, average, total in zip(
            self.params, self.state["average"], self.sums, strict=True
        ):
            if n <= 0:
                average[...] = param
            elif self.averaging == "ema":
                average[...] = decay * average + (1 - decay) * param
            elif self.averaging == "debiased":
                total[...] = decay * total + (1 - decay) * param
                average[...] = total / (1 - decay**n)
            else:
                total[...] = total + param
                average[...] = total / n
