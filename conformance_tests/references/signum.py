"""Reference for Signum."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference


class Signum(Reference):
    """Steps by the sign of the running mean of the gradient; the sign of zero is zero.

    Source: Bernstein et al., arXiv 1802.04434, Algorithm 2 (Signum), with decoupled decay; the
    state is that of google-deepmind/optax, `signum`. With momentum 0 it is the sign of the
    gradient, without a buffer.
    """

    momentum_start = "zero"

    def slots(self, p: Array) -> dict[str, Array]:
        """The mean, zero, unless it is the gradient itself."""
        return {"m": np.zeros_like(p)} if self.momentum != 0 else {}

    def change(self, p: Array, g: Array, m: Array | None = None) -> Array:
        """Return lr times the sign of the mean."""
        if m is None:
            return np.asarray(self.lr * np.sign(g))
        if self.t == 1 and self.momentum_start == "gradient":
            m[...] = g
        else:
            m[...] = self.momentum * m + (1 - self.momentum) * g
        return np.asarray(self.lr * np.sign(m))
