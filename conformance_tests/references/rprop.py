"""Reference for Rprop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rprop:
    """A step size per element, which grows while the gradient keeps its sign.

    Source: pytorch/pytorch, torch/optim/rprop.py (the variant known as iRprop-: where the sign
    changes there is no step, and the next one counts as without a predecessor). `lag=True` is
    google-deepmind/optax, `scale_by_rprop`: every step applies what the step before worked out,
    unless the sign has just changed, and a size is held within its limits only when it changes.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        lag: bool = False,
    ) -> None:
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "prev": [np.zeros_like(p) for p in self.params],
            "size": [np.full_like(p, lr) for p in self.params],
        }
        if lag:
            self.state["last"] = [np.zeros_like(p) for p in self.params]
        self.etas = etas
        self.step_sizes = step_sizes
        self.lag = lag

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        shrink, grow = self.etas
        smallest, largest = self.step_sizes
        for i in range(len(self.params)):
            p, prev, size = self.params[i], self.state["prev"][i], self.state["size"][i]
            g = np.array(grads[i], dtype=np.float64)
            agreement = np.asarray(np.sign(g) * np.sign(prev))
            size[agreement > 0] *= grow
            size[agreement < 0] *= shrink
            within = np.clip(size, smallest, largest)
            size[...] = np.where(agreement == 0, size, within) if self.lag else within
            g[agreement < 0] = 0.0
            d = np.asarray(size * np.sign(g))
            prev[...] = g
            if self.lag:
                last = self.state["last"][i]
                waiting = d
                d = np.where(agreement < 0, 0.0, last)
                last[...] = waiting
            p[...] = p - d
