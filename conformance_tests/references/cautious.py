"""Reference for Cautious."""

from __future__ import annotations

import numpy as np

from ._redirected import Redirected
from ._reference import Array


class Cautious(Redirected):
    """Undoes the moves of the inner reference against the gradient, and lengthens the others.

    Source: kyleliang919/C-Optim, c_adamw.py; Liang, Chen, Liu & Liu, arXiv 2411.16085,
    Algorithm 1.
    """

    def redirected(self, move: Array, grad: Array) -> Array:
        """Return the masked move."""
        along = move * grad > 0
        if self.rescale == "mean":
            factor = 1 / max(float(np.mean(along)), 1e-3)
        else:
            factor = along.size / (np.count_nonzero(along) + 1)
        return factor * np.where(along, move, 0.0)
