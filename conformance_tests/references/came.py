"""Reference for CAME."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._reference import Array, Reference, quotient
from .adafactor import Adafactor, root_mean_square


class CAME(Reference):
    """Adafactor's update, averaged, over the root of the mean square of its instability.

    Source: Luo et al., arXiv 2307.02047, Algorithm 2, and yangluo7/CAME, CAME.py: no correction of
    any mean, and no confidence where nothing is factored.
    """

    factored_axes: Any = Adafactor.factored_axes

    def slots(self, p: Array) -> dict[str, Any]:
        """The momentum, and rows and columns of both squares."""
        pair = self.factored_axes(p.shape)
        if pair is None:
            return {"m": np.zeros_like(p), "v": (np.zeros(p.shape),), "r": (np.zeros(()),)}
        shapes = [np.sum(p, axis=axis, keepdims=True).shape for axis in pair]
        return {"m": np.zeros_like(p), **{n: tuple(map(np.zeros, shapes)) for n in "vr"}}

    def approximated(self, square: Array, parts: tuple[Array, ...], beta: float) -> Array:
        """Update the means of rows and columns in place, and return what they approximate."""
        pair = self.factored_axes(square.shape)
        if pair is None or square.size == 0:
            parts[0][...] = beta * parts[0] + (1 - beta) * (square if pair is None else 0.0)
            return np.array(parts[0]) if pair is None else square
        for part, axis in zip(parts, pair, strict=True):
            part[...] = beta * part + (1 - beta) * np.mean(square, axis=axis, keepdims=True)
        rows, cols = parts
        return quotient(rows, np.mean(rows, axis=pair[1], keepdims=True)) * cols

    def change(
        self, p: Array, g: Array, m: Array, v: tuple[Array, ...], r: tuple[Array, ...]
    ) -> Array:
        """Return lr m / sqrt(r)."""
        beta1, beta2, beta3 = self.betas
        u = quotient(g, np.sqrt(self.approximated(g**2 + self.eps[0], v, beta2)))
        u = u / max(1.0, root_mean_square(u) / self.clip_threshold)
        m[...] = beta1 * m + (1 - beta1) * u
        if self.factored_axes(p.shape) is None:
            return np.asarray(self.lr * m)
        instability = (u - m) ** 2 + self.eps[1]
        return self.lr * quotient(m, np.sqrt(self.approximated(instability, r, beta3)))
