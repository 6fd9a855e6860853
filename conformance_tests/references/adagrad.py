"""Reference for Adagrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._momentum import Momentum
from ._reference import Array, quotient


class Adagrad(Momentum):
    """The gradient divided by the root of the sum of its squares so far.

    Sources: Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization" (JMLR 2011); pytorch/pytorch, torch/optim/adagrad.py (the defaults,
    `lr_decay`); google-deepmind/optax, `scale_by_rss` (eps inside the root, `initial_v`, no
    step where the sum is 0); jax.example_libraries.optimizers, `adagrad` (momentum as a mean).
    """

    eps_at, eps_root, momentum_form = "outside", 0.0, "mean"

    def slots(self, p: Array) -> dict[str, Any]:
        """The sum of squares, and the momentum if there is any."""
        return {"v": np.full_like(p, self.initial_v), **super().slots(p)}

    def change(self, p: Array, g: Array, v: Array, m: Array | None = None) -> Array:
        """Return what momentum makes of g / sqrt(v)."""
        v[...] = v + g**2
        inside = self.eps if self.eps_at == "inside" else 0.0
        outside = self.eps if self.eps_at == "outside" else 0.0
        u = np.where(v > 0, quotient(g, np.sqrt(v + self.eps_root + inside) + outside), 0.0)
        return self.displacement(u, m, self.lr / (1 + (self.t - 1) * self.lr_decay))
