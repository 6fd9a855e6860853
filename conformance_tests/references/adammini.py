"""Reference for AdamMini."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class AdamMini(Adaptive):
    """Adam with a mean square per block.

    Source: zyushun/Adam-mini, adam_mini.py (1.1.1): rows, heads, or one number.
    """

    def rows(self, x: Array) -> Array:
        """Return a view with the outputs first."""
        return np.moveaxis(x, -1 if self.layout == "io" and x.ndim > 1 else 0, 0) if x.ndim else x

    def slots(self, p: Array) -> dict[str, Any]:
        """The mean, and a mean square per output row; of a vector one."""
        sums = np.zeros_like(p[:1] if p.ndim else p)
        if p.ndim > 1:
            axes = tuple(range(p.ndim - 1) if self.layout == "io" else range(1, p.ndim))
            sums = 0 * np.sum(p, axis=axes, keepdims=True)
        return {"m": np.zeros_like(p), "v": sums}

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr m_hat / (sqrt(v_hat) + eps)."""
        beta1, beta2 = self.betas
        m[...] = beta1 * m + (1 - beta1) * g
        mine, grads = self.rows(v), self.rows(g)
        for block in self.parts(grads):
            mine[block] = beta2 * mine[block] + (1 - beta2) * np.mean(grads[block] ** 2)
        root = self.denominator(v, None, beta2)
        return np.asarray(self.lr * quotient(m / self.debias(beta1), root))

    def parts(self, g: Array) -> list[Any]:
        """The indices of the rows of each block."""
        if g.size == 0 or g.ndim < 2 or self.per == "tensor":
            return [...] if g.size else []
        size = 1 if self.per == "row" else len(g) // self.heads
        return [slice(first, first + size) for first in range(0, len(g), size)]
