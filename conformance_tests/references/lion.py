"""Reference for Lion."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference


class Lion(Reference):
    """Steps by the sign of a mixture of momentum and gradient; the sign of zero is zero.

    Source: google/automl, lion/lion_pytorch.py, and Chen et al., arXiv 2302.06675,
    Algorithm 2. With `start="gradient"`, as in the first release of ml-explore/mlx, the momentum
    is the first gradient before the first step.
    """

    start = "zero"

    def slots(self, p: Array) -> dict[str, Array]:
        """The momentum, zero."""
        return {"m": np.zeros_like(p)}

    def change(self, p: Array, g: Array, m: Array) -> Array:
        """Return lr times the sign of the mixture."""
        beta1, beta2 = self.betas
        if self.t == 1 and self.start == "gradient":
            m[...] = g
        c = beta1 * m + (1 - beta1) * g
        m[...] = beta2 * m + (1 - beta2) * g
        return np.asarray(self.lr * np.sign(c))
