"""Reference for Prodigy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Prodigy:
    """Adam whose step size d is estimated from the distance travelled so far.

    Source: konstmish/prodigy 1.1.2, prodigyopt/prodigy.py (with slice_p=1, one parameter
    group), and Mishchenko & Defazio, arXiv 2306.06101 (the Adam version). d, d_max and
    numerator are one number each for all parameters. `decay="l2"` is the code's `decouple=False`.

    When the denominator is zero (no nonzero gradient so far, lr = 0, or beta3 = 0 and all
    gradients zero) the step ends there: no parameter moves or decays, d, d_max and numerator
    keep their values. The averages m, v and s are by then updated, except at lr = 0. The code
    does not count such a step for its bias correction; here it counts, as in optax.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay: str = "decoupled",
        bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
    ) -> None:
        if decay not in ("decoupled", "l2"):
            raise ValueError(f"decay must be 'decoupled' or 'l2', not {decay!r}")
        self.params = [np.array(p, dtype=np.float64) for p in params]
        self.state: dict[str, Any] = {
            "m": [np.zeros_like(p) for p in self.params],
            "v": [np.zeros_like(p) for p in self.params],
            "s": [np.zeros_like(p) for p in self.params],
            "p0": [p.copy() for p in self.params],
            "d": d0,
            "d_max": d0,
            "numerator": 0.0,
        }
        self.lr = lr
        self.betas = betas
        self.beta3 = math.sqrt(betas[1]) if beta3 is None else beta3
        self.eps = eps
        self.weight_decay = weight_decay
        self.decay = decay
        self.bias_correction = bias_correction
        self.safeguard_warmup = safeguard_warmup
        self.d0 = d0
        self.d_coef = d_coef
        self.growth_rate = growth_rate
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        if self.lr == 0:
            return
        d, d_max = self.state["d"], self.state["d_max"]
        correction = 1.0
        if self.bias_correction:
            correction = math.sqrt(1 - beta2 ** (self.t + 1)) / (1 - beta1 ** (self.t + 1))
        dlr = d * self.lr * correction

        numerator = self.beta3 * self.state["numerator"]
        denominator = 0.0
        gradients = []
        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            s, p0 = self.state["s"][i], self.state["p0"][i]
            g = np.asarray(grads[i], dtype=np.float64)
            if self.decay == "l2":
                g = g + self.weight_decay * p
            gradients.append(g)
            numerator += (d / self.d0) * dlr * float(np.sum(g * (p0 - p)))
            m[...] = beta1 * m + (1 - beta1) * d * g
            v[...] = beta2 * v + (1 - beta2) * d**2 * g**2
            weight = d if self.safeguard_warmup else dlr
            s[...] = self.beta3 * s + (d / self.d0) * weight * g
            denominator += float(np.sum(np.abs(s)))
        self.t += 1
        if denominator == 0:
            return

        d_hat = self.d_coef * numerator / denominator
        if d == self.d0:
            d = max(d, d_hat)
        d_max = max(d_max, d_hat)
        d = min(d_max, d * self.growth_rate)
        self.state["d"], self.state["d_max"], self.state["numerator"] = d, d_max, numerator

        for i in range(len(self.params)):
            p, m, v = self.params[i], self.state["m"][i], self.state["v"][i]
            if self.decay == "decoupled":
                p[...] = p - self.weight_decay * dlr * p
            if beta1 == 0:
                m = d * gradients[i]  # the code keeps no m then, and scales by the new d
            p[...] = p - dlr * m / (np.sqrt(v) + d * self.eps)
