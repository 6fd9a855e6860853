"""Reference for AdamP."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._adaptive import check_adaptive, corrected, denominator, quotient


class AdamP:
    """Adam without the part of its direction along the parameter, where scale does not matter.

    Sources: Heo et al., arXiv 2006.08217, Algorithm 2, and clovaai/AdamP, adamp/adamp.py
    (`projection="channel"`): a parameter of at least two dimensions whose gradient is nearly
    orthogonal to it, channel by channel or else as a whole, loses the radial part of its
    direction, and its decay is scaled by `wd_ratio`. Channels are the output axis (first with
    layout "oi", last with "io"). `projection="signed"` is frgfm/Holocron,
    holocron/optim/adamp.py: always as a whole, the cosine with its sign, the decay never scaled.
    The code decays the parameter before the step, which is decay inside the direction.
    """

    SEES_OLD = True
    """The projection is that of the parameter before it decays."""

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        projection: str = "channel",
        layout: str = "oi",
        eps_root: float = 0.0,
        eps_at: str = "outside",
        bias_correction: bool = True,
        start: str = "zero",
        amsgrad: bool | str = False,
    ) -> None:
        if projection not in ("channel", "signed"):
            raise ValueError(f"projection must be 'channel' or 'signed', not {projection!r}")
        if layout not in ("oi", "io"):
            raise ValueError(f"layout must be 'oi' or 'io', not {layout!r}")
        check_adaptive(eps_at, start, amsgrad)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
        }
        if amsgrad:
            self.state["v_max"] = [np.zeros_like(p) for p in self.params]
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.delta = delta
        self.wd_ratio = wd_ratio
        self.nesterov = nesterov
        self.projection = projection
        self.layout = layout
        self.eps_root = eps_root
        self.eps_at = eps_at
        self.bias_correction = bias_correction
        self.start = start
        self.amsgrad = amsgrad
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        self.t += 1
        debias1 = 1 - beta1**self.t if self.bias_correction else 1.0
        debias2 = 1 - beta2**self.t if self.bias_correction else 1.0
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            v_max = self.state["v_max"][i] if self.amsgrad else None
            g = np.asarray(grads[i], dtype=np.float64)
            if self.t == 1 and self.start == "gradient":
                m[...] = g
                v[...] = g**2
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            m_hat = (beta1 * m + (1 - beta1) * g if self.nesterov else m) / debias1
            v_hat = corrected(v, v_max, debias2, self.amsgrad)
            root = denominator(v_hat, debias2, self.eps, self.eps_root, self.eps_at)
            u, decay = self.projected(p, g, quotient(m_hat, root))
            p[...] = p - self.lr * (u + decay * p)

    def projected(
        self, p: NDArray[np.float64], g: NDArray[np.float64], u: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """Return the direction without its radial part, where that is to go, and the decay."""
        if p.size == 0:
            return u, self.weight_decay
        if self.projection == "signed":
            cosine = self.cosine(p.ravel(), g.ravel(), 1e-8)
            if cosine < self.delta / math.sqrt(p.size):
                u = self.without_radial_part(p.ravel(), u.ravel()).reshape(p.shape)
            return u, self.weight_decay
        if p.ndim < 2:
            return u, self.weight_decay
        axis = 0 if self.layout == "oi" else -1
        moved = np.moveaxis(p, axis, 0)
        for rows in (moved.shape[0], 1):
            p_rows = moved.reshape(rows, -1)
            g_rows = np.moveaxis(g, axis, 0).reshape(rows, -1)
            u_rows = np.moveaxis(u, axis, 0).reshape(rows, -1)
            pairs = zip(p_rows, g_rows, strict=True)
            largest = max(abs(self.cosine(p_row, g_row, self.eps)) for p_row, g_row in pairs)
            if largest < self.delta / math.sqrt(p_rows.shape[1]):
                kept = [self.without_radial_part(a, b) for a, b in zip(p_rows, u_rows, strict=True)]
                u = np.moveaxis(np.array(kept).reshape(moved.shape), 0, axis)
                return u, self.weight_decay * self.wd_ratio
        return u, self.weight_decay

    @staticmethod
    def cosine(x: NDArray[np.float64], y: NDArray[np.float64], eps: float) -> float:
        """Return the cosine of the angle between two vectors, as torch does: norms at least eps."""
        x_norm, y_norm = math.sqrt(np.sum(x**2)), math.sqrt(np.sum(y**2))
        if x_norm == 0 or y_norm == 0:
            return 0.0
        return float(np.sum(x * y)) / (max(x_norm, eps) * max(y_norm, eps))

    def without_radial_part(
        self, p: NDArray[np.float64], u: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return u less its part along p."""
        unit = quotient(p, np.asarray(math.sqrt(np.sum(p**2)) + self.eps))
        return np.asarray(u - np.sum(unit * u) * unit)
