"""Reference for MADGRAD."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._reference import Array, Reference, quotient


class MADGRAD(Reference):
    """Dual averaging over a cube root.

    Source: Defazio & Jelassi, arXiv 2101.11075, Algorithm 1; facebookresearch/madgrad, madgrad.py,
    adds eps to lr (`eps_in_lr`).
    """

    SEES_OLD = True
    eps_in_lr = False

    def slots(self, p: Array) -> dict[str, Any]:
        """Both sums, zero, and the first parameter."""
        return {"s": np.zeros_like(p), "v": np.zeros_like(p), "p0": p.copy()}

    @property
    def rate(self) -> Any:
        """The step size."""
        return self.lr + (self.eps if self.eps_in_lr and self.lr else 0.0)

    def change(self, p: Array, g: Array, s: Array, v: Array, p0: Array) -> Array:
        """Return the way to the new parameter."""
        weight = self.rate * np.sqrt(self.t)
        s[...] = s + weight * g
        v[...] = v + weight * g**2
        z = p0 - quotient(s, np.cbrt(v) + self.eps)
        return np.asarray(p - (self.momentum * p + (1 - self.momentum) * z))
