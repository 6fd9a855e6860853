"""Reference for Adafactor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._momentum import Momentum
from ._reference import Array, quotient


def root_mean_square(x: Array) -> float:
    """Return the root of the mean of the squares, 0 if there is nothing."""
    return math.sqrt(np.mean(x**2)) if x.size > 0 else 0.0


class Adafactor(Momentum):
    """Adam's denominator from the mean squares of rows and columns, and a step relative to p.

    Sources: Shazeer & Stern, arXiv 1804.04235, Algorithms 4 and 5 (rows and columns by their
    means); pytorch/pytorch, torch/optim/_adafactor.py (`eps_at="clamped"`: the first eps bounds
    the estimate from below instead of being added to the squares); google-deepmind/optax,
    `adafactor` (`axes="largest"`: the two largest axes, if both have at least `min_dim`);
    ml-explore/mlx, `Adafactor` (`decay="in_update"`: decay scaled as the step is).

    The first of two parts of `v` is the mean over the last (or the largest) axis, the second that
    over the last but one (or the second largest); both keep the parameter's number of axes.
    """

    INSIDE, SEES_OLD = ("in_update",), True
    momentum_form, lr_at, scale_at = "mean", "inside", "before"

    def slots(self, p: Array) -> dict[str, Any]:
        """The means of rows and columns, or all of v, and the momentum if there is any."""
        pair = self.factored_axes(p.shape)
        if pair is None:
            return {"v": (np.zeros(p.shape),), **super().slots(p)}
        v = tuple(np.zeros(np.sum(p, axis=axis, keepdims=True).shape) for axis in pair)
        return {"v": v, **super().slots(p)}

    def factored_axes(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Return the axes of the means in the first and the second part, None if not factored."""
        if len(shape) < 2:
            return None
        if self.axes == "last":
            first, second = len(shape) - 1, len(shape) - 2
        else:
            order = np.argsort(shape)
            first, second = int(order[-1]), int(order[-2])
        if min(shape[first], shape[second]) < self.min_dim:
            return None
        return first, second

    def estimate(self, g: Array, v: tuple[Array, ...]) -> Array:
        """Update the means in place and return the estimate of the mean square of g."""
        eps = self.eps[0]
        fraction = self.t ** (-self.decay_rate)  # 1 - beta2
        square = np.asarray(g**2 + eps if self.eps_at == "added" else g**2)
        pair = self.factored_axes(g.shape)
        if pair is None:
            full = v[0]
            full[...] = (1 - fraction) * full + fraction * square
            return np.maximum(full, eps**2) if self.eps_at == "clamped" else full
        if g.size == 0:
            return square
        rows, cols = v
        first, second = pair
        rows[...] = (1 - fraction) * rows + fraction * np.mean(square, axis=first, keepdims=True)
        cols[...] = (1 - fraction) * cols + fraction * np.mean(square, axis=second, keepdims=True)
        mean = np.mean(rows, axis=second, keepdims=True)
        if self.eps_at == "clamped":
            return np.maximum(quotient(rows * cols, np.maximum(mean, eps)), eps**2)
        return quotient(rows, mean) * cols

    def change(self, p: Array, g: Array, v: tuple[Array, ...], m: Array | None = None) -> Array:
        """Return the relative step, and the decay that is scaled as it is."""
        u = quotient(g, np.sqrt(self.estimate(g, v)))
        u = u / max(1.0, root_mean_square(u) / self.clip_threshold)
        alpha = self.lr
        if self.relative_step:
            alpha = min(1e-6 * self.t if self.warmup_init else self.lr, 1 / math.sqrt(self.t))
        if self.scale_parameter:
            seen = (1 - self.lost_before()) * p if self.scale_at == "after" else p
            alpha = max(self.eps[1], root_mean_square(seen)) * alpha
        return self.displacement(u, m, alpha) + alpha * self.weight_decay * p
