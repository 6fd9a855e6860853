"""Reference for Muon."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Muon:
    """Momentum, orthogonalised as a matrix by Newton-Schulz iterations.

    Source: KellerJordan/Muon, muon.py, and Jordan et al., "Muon: An optimizer for hidden
    layers in neural networks" (2024). The iteration runs in float64, not in bfloat16. Rows
    are the output axis (first with layout "oi", last with "io"), columns all other axes
    together. The code takes the final scale of a convolution from its kernel's two sides;
    this takes it from rows and columns of the matrix.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        weight_decay: float = 0.0,
        layout: str = "oi",
    ) -> None:
        if layout not in ("oi", "io"):
            raise ValueError(f"layout must be 'oi' or 'io', not {layout!r}")
        if any(np.ndim(p) < 2 for p in params):
            raise ValueError("Muon is defined for parameters of at least two dimensions")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state = {"m": [np.zeros_like(p) for p in self.params]}
        self.lr = lr
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_steps = ns_steps
        self.weight_decay = weight_decay
        self.layout = layout

    def orthogonalise(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the matrix with its singular values taken near 1."""
        a, b, c = 3.4445, -4.7750, 2.0315
        rows, cols = matrix.shape
        x: NDArray[np.float64] = matrix.T if rows > cols else matrix
        x = x / (np.sqrt(np.sum(x**2)) + 1e-7)
        for _ in range(self.ns_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if rows > cols else x

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        for i in range(len(self.params)):
            p, m = self.params[i], self.state["m"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            m[...] = self.momentum * m + (1 - self.momentum) * g
            u = self.momentum * m + (1 - self.momentum) * g if self.nesterov else m
            if self.layout == "io":
                u = np.moveaxis(u, -1, 0)
            matrix = u.reshape(u.shape[0], -1)
            rows, cols = matrix.shape
            u = self.orthogonalise(matrix).reshape(u.shape) * np.sqrt(max(1, rows / cols))
            if self.layout == "io":
                u = np.moveaxis(u, 0, -1)
            p[...] = p * (1 - self.lr * self.weight_decay) - self.lr * u
