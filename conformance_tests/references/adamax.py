"""Reference for Adamax."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference, quotient


class Adamax(Reference):
    """Adam with the largest, decaying absolute gradient in place of the root of the squares.

    Sources: Kingma & Ba, arXiv 1412.6980, Algorithm 2; pytorch/pytorch, torch/optim/adamax.py
    (eps beside the gradient, in the maximum: `eps_at="inside"`); ml-explore/mlx, `Adamax` (eps in
    the denominator: `eps_at="outside"`, and no bias correction).
    """

    def slots(self, p: Array) -> dict[str, Array]:
        """The mean and the largest gradient, zero."""
        return {"m": np.zeros_like(p), "u": np.zeros_like(p)}

    def change(self, p: Array, g: Array, m: Array, u: Array) -> Array:
        """Return lr m_hat / u."""
        beta1, beta2 = self.betas
        debias = 1 - beta1**self.t if self.bias_correction else 1.0
        m[...] = beta1 * m + (1 - beta1) * g
        if self.eps_at == "inside":
            u[...] = np.maximum(beta2 * u, np.abs(g) + self.eps)
            return self.lr * quotient(m / debias, u)
        u[...] = np.maximum(beta2 * u, np.abs(g))
        return self.lr * quotient(m / debias, u + self.eps)
