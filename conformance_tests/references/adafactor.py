"""Reference for Adafactor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import quotient
from ._momentum import displacement, momentum_state


def root_mean_square(x: NDArray[np.float64]) -> float:
    """Return the root of the mean of the squares, 0 if there is nothing."""
    return math.sqrt(np.mean(x**2)) if x.size > 0 else 0.0


class Adafactor:
    """Adam's denominator from the mean squares of rows and columns, and a step relative to p.

    Sources: Shazeer & Stern, arXiv 1804.04235, Algorithms 4 and 5 (rows and columns by their
    means); pytorch/pytorch, torch/optim/_adafactor.py (`eps_at="clamped"`: the first eps bounds
    the estimate from below instead of being added to the squares); google-deepmind/optax,
    `adafactor` (`axes="largest"`: the two largest axes, if both have at least `min_dim`);
    ml-explore/mlx, `Adafactor` (`decay="in_update"`: decay scaled as the step is).

    The first of two parts of `v` is the mean over the last (or the largest) axis, the second that
    over the last but one (or the second largest); both keep the parameter's number of axes.
    """

    SEES_OLD = True
    """The scale is that of the parameter before it decays."""
    DECAYS = ("decoupled", "absolute", "in_update")

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-2,
        eps: tuple[float, float] = (1e-30, 1e-3),
        decay_rate: float = 0.8,
        clip_threshold: float = 1.0,
        weight_decay: float = 0.0,
        decay: str = "decoupled",
        relative_step: bool = True,
        warmup_init: bool = False,
        scale_parameter: bool = True,
        momentum: float = 0.0,
        eps_at: str = "added",
        axes: str = "last",
        min_dim: int = 1,
        scale_at: str = "before",
    ) -> None:
        if decay not in self.DECAYS:
            raise ValueError(f"decay must be one of {self.DECAYS}, not {decay!r}")
        if eps_at not in ("added", "clamped"):
            raise ValueError(f"eps_at must be 'added' or 'clamped', not {eps_at!r}")
        if axes not in ("last", "largest"):
            raise ValueError(f"axes must be 'last' or 'largest', not {axes!r}")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.lr = lr
        self.eps = eps
        self.decay_rate = decay_rate
        self.clip_threshold = clip_threshold
        self.weight_decay = weight_decay
        self.decay = decay
        self.relative_step = relative_step
        self.warmup_init = warmup_init
        self.scale_parameter = scale_parameter
        self.momentum = momentum
        self.eps_at = eps_at
        self.axes = axes
        self.min_dim = min_dim
        self.scale_at = scale_at
        self.t = 0
        v: list[tuple[NDArray[np.float64], ...]] = []
        for p in self.params:
            pair = self.factored_axes(p.shape)
            if pair is None:
                v.append((np.zeros(p.shape),))
            else:
                v.append(tuple(np.zeros(np.sum(p, axis=a, keepdims=True).shape) for a in pair))
        self.state: dict[str, list[Any]] = {"v": v, **momentum_state(self.params, momentum)}

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

    def estimate(
        self, g: NDArray[np.float64], v: tuple[NDArray[np.float64], ...]
    ) -> NDArray[np.float64]:
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

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.t += 1
        rho = self.lr
        if self.relative_step:
            rho = min(1e-6 * self.t if self.warmup_init else self.lr, 1 / math.sqrt(self.t))
        for i in range(len(self.params)):
            p = self.params[i]
            g = np.asarray(grads[i], dtype=np.float64)
            u = quotient(g, np.sqrt(self.estimate(g, self.state["v"][i])))
            u = u / max(1.0, root_mean_square(u) / self.clip_threshold)
            alpha = rho
            if self.scale_parameter:
                shrinks = {"decoupled": self.lr, "absolute": 1.0}.get(self.decay, 0.0)
                after = 1 - shrinks * self.weight_decay if self.scale_at == "after" else 1.0
                alpha = max(self.eps[1], root_mean_square(after * p)) * rho
            m = self.state["m"][i] if "m" in self.state else None
            change = displacement(
                u, m, alpha, self.t, self.momentum, momentum_form="mean", lr_at="inside"
            )
            factor = {"decoupled": self.lr, "absolute": 1.0, "in_update": alpha}[self.decay]
            p[...] = p * (1 - factor * self.weight_decay) - change
