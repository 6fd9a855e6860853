"""Reference for ClipUpdate."""

from __future__ import annotations

import numpy as np

from ._redirected import Redirected
from ._reference import Array

WITHOUT_LR = ("Adafactor", "DAdaptAdam", "MADGRAD", "Rprop")
"""Rules whose direction is not multiplied by a step size afterwards."""


class ClipUpdate(Redirected):
    """Shortens the moves of the inner reference to a root mean square, in step sizes.

    Source: Shazeer & Stern, arXiv 1804.04235, section 6.
    """

    def redirected(self, move: Array, grad: Array) -> Array:
        """Return the shortened move."""
        base = self.base()
        rate = 1.0 if type(base).__name__ in WITHOUT_LR else base.rate
        size = np.sqrt(np.mean(move**2)) / rate if rate else 0.0
        return np.asarray(move / max(1.0, size / self.max_rms))
