"""Reference for RMSprop."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._momentum import Momentum
from ._reference import Array, quotient


class RMSprop(Momentum):
    """The gradient divided by the root of the running mean of its square.

    Sources: pytorch/pytorch, torch/optim/rmsprop.py (the defaults); google-deepmind/optax,
    `rmsprop` (eps inside the root, learning rate inside the momentum, bias correction and the
    value that v starts from); Tieleman & Hinton, "Lecture 6.5 - rmsprop" (2012). The variance
    of `centered` is taken as 0 where rounding makes it negative.
    """

    eps_at, eps_root, bias_correction, initial_v = "outside", 0.0, False, 0.0

    def slots(self, p: Array) -> dict[str, Any]:
        """The mean square, the mean of `centered`, and the momentum if there is any."""
        mean = {"g": np.zeros_like(p)} if self.centered else {}
        return {"v": np.full_like(p, self.initial_v), **mean, **super().slots(p)}

    def change(self, p: Array, grad: Array, v: Array, **others: Array) -> Array:
        """Return what momentum makes of grad / sqrt(v)."""
        debias = 1 - self.alpha**self.t if self.bias_correction else 1.0
        v[...] = self.alpha * v + (1 - self.alpha) * grad**2
        square = v / debias
        if self.centered:
            mean = others["g"]
            mean[...] = self.alpha * mean + (1 - self.alpha) * grad
            square = np.maximum(square - (mean / debias) ** 2, 0.0)
        if self.eps_at == "inside":
            u = quotient(grad, np.sqrt(square + self.eps_root + self.eps))
        else:
            u = quotient(grad, np.sqrt(square + self.eps_root) + self.eps)
        return self.displacement(u, others.get("m"), self.lr)
