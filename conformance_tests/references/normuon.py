"""Reference for NorMuon."""

from __future__ import annotations

import numpy as np

from ._reference import Array
from .muon import Orthogonal


class NorMuon(Orthogonal):
    """Muon's matrix over the root of the mean square of its rows, as long as it was.

    Source: zichongli5/NorMuon, normuon.py, and Li et al., arXiv 2510.05491, Algorithm 1. Rows are
    outputs, as in the reference of Muon. Modded-nanogpt and Emerging-Optimizers keep the mean
    squares of columns where there are more columns than rows.
    """

    eps_form = "added"

    def slots(self, p: Array) -> dict[str, Array]:
        """The momentum and a mean square for each line, zero."""
        rows, cols = self.matrix(p).shape
        outputs = p.ndim - 1 if self.layout == "io" else 0
        by_row = self.per == "output" or rows >= cols
        summed = {axis for axis in range(p.ndim) if (axis != outputs) == by_row}
        kept = [1 if axis in summed else size for axis, size in enumerate(p.shape)]
        return {"m": np.zeros_like(p), "v": np.zeros(kept)}

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr times the matrix with lines of about one mean square."""
        o = self.orthogonalise(self.matrix(self.look(g, m)))
        axis = 1 if self.per == "output" or o.shape[0] >= o.shape[1] else 0
        mean = np.mean(o**2, axis=axis)
        v[...] = self.beta2 * v + (1 - self.beta2) * self.line(mean, v)
        root = np.sqrt(self.matrix(v))
        if self.eps_form == "clamped":
            u = o / np.sqrt(np.maximum(root**2, self.eps))
        else:
            u = o / (root + self.eps)
        u = self.length(o, u)
        return self.lr * self.scaling(*u.shape) * self.shaped(u, p)

    def line(self, mean: Array, v: Array) -> Array:
        """Return a vector as an array like v."""
        outputs = -1 if self.layout == "io" else 0
        moved = np.moveaxis(v, outputs, 0)
        return np.moveaxis(mean.reshape(moved.shape), 0, outputs)
