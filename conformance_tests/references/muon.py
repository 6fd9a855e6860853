"""Reference for Muon."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference


class Muon(Reference):
    """Momentum, orthogonalised as a matrix by Newton-Schulz iterations.

    Source: KellerJordan/Muon, muon.py, and Jordan et al., "Muon: An optimizer for hidden
    layers in neural networks" (2024). The iteration runs in float64, not in bfloat16. Rows
    are the output axis (first with layout "oi", last with "io"), columns all other axes
    together. The code takes the final scale of a convolution from its kernel's two sides;
    this takes it from rows and columns of the matrix.
    """

    def slots(self, p: Array) -> dict[str, Array]:
        """The momentum, zero."""
        return {"m": np.zeros_like(p)}

    def orthogonalise(self, matrix: Array) -> Array:
        """Return the matrix with its singular values taken near 1."""
        a, b, c = 3.4445, -4.7750, 2.0315
        rows, cols = matrix.shape
        x: Array = matrix.T if rows > cols else matrix
        x = x / (np.sqrt(np.sum(x**2)) + 1e-7)
        for _ in range(self.ns_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if rows > cols else x

    def change(self, p: Array, g: Array, m: Array) -> Array:
        """Return lr times the orthogonalised momentum, scaled by its sides."""
        m[...] = self.momentum * m + (1 - self.momentum) * g
        u = self.momentum * m + (1 - self.momentum) * g if self.nesterov else m
        outputs = -1 if self.layout == "io" else 0
        u = np.moveaxis(u, outputs, 0)
        matrix = u.reshape(u.shape[0], -1)
        rows, cols = matrix.shape
        u = self.orthogonalise(matrix).reshape(u.shape) * np.sqrt(max(1, rows / cols))
        return np.asarray(self.lr * np.moveaxis(u, 0, outputs))
