"""Reference for AdaDelta."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference, quotient


class AdaDelta(Reference):
    """Steps whose size is the running size of the steps so far, relative to the gradient's.

    Sources: Zeiler, arXiv 1212.5701, Algorithm 1; pytorch/pytorch, torch/optim/adadelta.py (the
    defaults). `accumulate=False` is what ml-explore/mlx computed until February 2024 (#603):
    the running size of the steps was written but never read.
    """

    accumulate = True

    def slots(self, p: Array) -> dict[str, Array]:
        """Mean squares of gradients and of steps, zero."""
        return {"v": np.zeros_like(p), "u": np.zeros_like(p)}

    def change(self, p: Array, g: Array, v: Array, u: Array) -> Array:
        """Return lr times the step, which is as long as the steps before."""
        v[...] = self.rho * v + (1 - self.rho) * g**2
        before = np.array(u) if self.accumulate else np.zeros_like(u)
        d = quotient(np.sqrt(before + self.eps) * g, np.sqrt(v + self.eps))
        u[...] = self.rho * before + (1 - self.rho) * d**2
        return self.lr * d
