"""Reference for SM3."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._momentum import Momentum
from ._reference import Array, quotient


class SM3(Momentum):
    """Adagrad whose sum of squares is bounded by one accumulator per axis.

    Source: google-research/google-research, sm3/sm3.py, and Anil et al., arXiv 1901.11150,
    Algorithm SM3-II. The code adds 1e-30 under the root where the paper takes 0/0 as 0; this
    does as the paper, whatever `eps`, as google-deepmind/optax does. The code keeps one
    accumulator of the parameter's own shape for vectors and scalars, which is what one
    accumulator per axis comes to there. Neither source has a default learning rate.
    """

    eps_at, eps_root, momentum_form = "inside", 0.0, "mean"

    def slots(self, p: Array) -> dict[str, Any]:
        """An accumulator per axis, and the momentum if there is any."""
        shapes = [[1] * a + [p.shape[a]] + [1] * (p.ndim - a - 1) for a in range(p.ndim)]
        return {"mu": tuple(np.zeros(shape) for shape in shapes or [[]]), **super().slots(p)}

    def change(self, p: Array, g: Array, mu: tuple[Array, ...], m: Array | None = None) -> Array:
        """Return what momentum makes of g / sqrt(nu)."""
        nu = np.full(p.shape, np.inf)
        for accumulator in mu:
            nu = np.minimum(nu, accumulator)
        nu = np.asarray(nu + g**2)
        for axis, accumulator in enumerate(mu):
            others = tuple(a for a in range(p.ndim) if a != axis)
            if p.size > 0:
                accumulator[...] = np.max(nu, axis=others, keepdims=True)
        inside = self.eps if self.eps_at == "inside" else 0.0
        outside = self.eps if self.eps_at == "outside" else 0.0
        u = np.where(nu > 0, quotient(g, np.sqrt(nu + self.eps_root + inside) + outside), 0.0)
        return self.displacement(u, m, self.lr)
