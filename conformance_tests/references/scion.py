"""Reference for Scion."""

from __future__ import annotations

import math

import numpy as np

from ._reference import Array
from .muon import Orthogonal


class Scion(Orthogonal):
    """The momentum, taken to the boundary of a ball in the norm of its layer.

    Source: LIONS-EPFL/scion, scion.py, and Pethick et al., arXiv 2502.07529. Vectors have BiasRMS.
    Columns, signs and rows of a kernel, which the code does not take, are those of its matrix.
    """

    momentum_form, nesterov, both_corrected = "mean", False, False

    def change(self, p: Array, g: Array, m: Array) -> Array:
        """Return lr times the point of the ball."""
        u = self.look(g, m)
        if u.ndim < 2 or self.norm == "rms":
            return np.asarray(self.lr * self.radius * u / (np.sqrt(np.mean(u**2)) + self.eps))
        found = getattr(self, self.norm)(self.matrix(u), p)
        return self.lr * self.radius * self.shaped(found, p)

    def counts(self, usual: bool) -> bool:
        """Whether inputs count, where the norm as it is printed says ``usual``."""
        return usual if self.normalized is None else bool(self.normalized)

    def spectral(self, u: Array, p: Array, least: float = 0.0) -> Array:
        """Spectral and SpectralConv: inputs of a kernel are its channels."""
        oi = self.layout != "io"
        taps = math.prod(p.shape[2:] if oi else p.shape[:-2])
        outputs, inputs = (p.shape[0], p.shape[1]) if oi else (p.shape[-1], p.shape[-2])
        scale = math.sqrt(outputs / inputs) if self.counts(usual=True) else math.sqrt(outputs)
        return max(least, scale / taps) * self.orthogonalise(u)

    def spectral_max(self, u: Array, p: Array) -> Array:
        """Spectral(max=True)."""
        return self.spectral(u, p, least=1.0)

    def sign(self, u: Array, p: Array) -> Array:
        """Sign."""
        return np.sign(u) / u.shape[1] if self.counts(usual=True) else np.sign(u)

    def column(self, u: Array, p: Array) -> Array:
        """ColNorm."""
        size = np.sqrt(np.sum(u**2, axis=0) / u.shape[0])
        return np.asarray(u / (size * (u.shape[1] if self.counts(usual=False) else 1) + self.eps))

    def row(self, u: Array, p: Array) -> Array:
        """RowNorm."""
        size = np.sqrt(np.sum(u**2, axis=1, keepdims=True))
        root = math.sqrt(u.shape[1]) if self.counts(usual=True) else 1.0
        return np.asarray(u / (size * root + self.eps))
