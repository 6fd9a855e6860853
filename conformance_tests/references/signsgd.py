"""Reference for SignSGD."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference


class SignSGD(Reference):
    """Steps by the sign of the gradient; the sign of zero is zero.

    Source: Bernstein et al., arXiv 1802.04434, Algorithm 1, with decoupled decay as Signum's.
    """

    def change(self, p: Array, g: Array) -> Array:
        """Return lr times the sign of the gradient."""
        return np.asarray(self.lr * np.sign(g))
