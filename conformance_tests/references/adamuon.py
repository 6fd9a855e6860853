"""Reference for AdaMuon."""

from __future__ import annotations

import numpy as np

from ._reference import Array
from .muon import Orthogonal


class AdaMuon(Orthogonal):
    """The orthogonalised signs of the momentum over the root of their mean square.

    Source: Chongjie-Si/AdaMuon, adamuon.py, and Si et al., arXiv 2507.11005.
    """

    def slots(self, p: Array) -> dict[str, Array]:
        """The momentum and the mean square, zero."""
        return {"m": np.zeros_like(p), "v": np.zeros_like(p)}

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr times the matrix, of the length of a matrix of 0.2 by default."""
        look = self.look(g, m)
        o = self.orthogonalise(self.matrix(np.sign(look) if self.signs else look))
        v[...] = self.beta2 * v + (1 - self.beta2) * self.shaped(o, p) ** 2
        mean = v / (1 - self.beta2**self.t) if self.bias_correction else v
        u = self.length(o, o / (np.sqrt(self.matrix(mean)) + self.eps))
        return self.lr * self.scaling(*u.shape) * self.shaped(u, p)
