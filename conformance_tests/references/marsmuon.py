"""Reference for MARSMuon."""

from __future__ import annotations

import math

import numpy as np

from ._reference import Array
from .muon import Orthogonal


class MARSMuon(Orthogonal):
    """The orthogonalised momentum of clipped, variance-reduced gradients, in the approximate form.

    Source: AGI-Arena/MARS, MARS_M/optimizers/mars_m.py, and Liu et al., arXiv 2510.21800.
    """

    momentum_form, nesterov = "mean", False

    def slots(self, p: Array) -> dict[str, Array]:
        """The momentum and the gradient before, zero."""
        return {"m": np.zeros_like(p), "prev": np.zeros_like(p)}

    def change(self, p: Array, g: Array, m: Array, prev: Array) -> Array:
        """Return lr times the orthogonalised momentum, scaled by its sides."""
        beta = self.momentum
        c = np.asarray(g + self.gamma * (beta / (1 - beta)) * (g - prev))
        prev[...] = g
        length = math.sqrt(np.sum(c**2))
        if length > self.clip_norm:
            c = np.asarray(self.clip_norm * c / length)
        matrix = self.matrix(self.look(c, m))
        sides = p.shape[:2] if self.scale_axes == "first" else matrix.shape
        return self.lr * self.scaling(*sides) * self.shaped(self.orthogonalise(matrix), p)
