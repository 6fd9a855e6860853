"""Reference for LARS."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._momentum import check_momentum, displacement, momentum_state


class LARS:
    """Momentum of gradients rescaled per parameter to the norm of that parameter.

    Source: You et al., arXiv 1708.03888, Algorithm 1, with `eps` in the ratio's denominator, the
    parameter's norm clipped to `scale_clip` and a ratio of 1, without the coefficient, where the
    parameter's norm or the denominator is zero. `ratio_at="outside"` is frgfm/Holocron,
    holocron/optim/lars.py: the momentum is that of the unscaled gradients, decay included.
    Coupled decay, which google-deepmind/optax has, is a decay of the gradients given here.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1.0,
        momentum: float = 0.9,
        dampening: float = 0.0,
        nesterov: bool = False,
        trust_coefficient: float = 1e-3,
        eps: float = 0.0,
        weight_decay: float = 0.0,
        scale_clip: tuple[float, float] = (0.0, math.inf),
        ratio_at: str = "inside",
        momentum_start: str = "zero",
        momentum_form: str = "sum",
        lr_at: str = "inside",
    ) -> None:
        if ratio_at not in ("inside", "outside"):
            raise ValueError(f"ratio_at must be 'inside' or 'outside', not {ratio_at!r}")
        check_momentum(dampening, momentum_start, momentum_form, lr_at)
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, list[Any]] = momentum_state(self.params, momentum)
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.trust_coefficient = trust_coefficient
        self.eps = eps
        self.weight_decay = weight_decay
        self.scale_clip = scale_clip
        self.ratio_at = ratio_at
        self.momentum_start = momentum_start
        self.momentum_form = momentum_form
        self.lr_at = lr_at
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        low, high = self.scale_clip
        self.t += 1
        for i in range(len(self.params)):
            p = self.params[i]
            g = np.asarray(grads[i], dtype=np.float64)
            p_norm, g_norm = math.sqrt(np.sum(p**2)), math.sqrt(np.sum(g**2))
            scale = min(max(p_norm, low), high)
            below = g_norm + self.weight_decay * p_norm + self.eps
            ratio = self.trust_coefficient * scale / below if scale > 0 and below > 0 else 1.0
            total = np.asarray(g + self.weight_decay * p)
            change = displacement(
                np.asarray(ratio * total) if self.ratio_at == "inside" else total,
                self.state["m"][i] if "m" in self.state else None,
                self.lr,
                self.t,
                self.momentum,
                self.dampening,
                self.nesterov,
                self.momentum_start,
                self.momentum_form,
                self.lr_at,
            )
            p[...] = p - (change if self.ratio_at == "inside" else ratio * change)
