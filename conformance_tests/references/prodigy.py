"""Reference for Prodigy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._reference import Array, Reference


class Prodigy(Reference):
    """Adam whose step size d is estimated from the distance travelled so far.

    Source: konstmish/prodigy 1.1.2, prodigyopt/prodigy.py (with slice_p=1, one parameter
    group), and Mishchenko & Defazio, arXiv 2306.06101 (the Adam version). d, d_max and
    numerator are one number each for all parameters. `decay="l2"` is the code's `decouple=False`.

    When the denominator is zero (no nonzero gradient so far, lr = 0, or beta3 = 0 and all
    gradients zero) the step ends there: no parameter moves or decays, d, d_max and numerator
    keep their values. The averages m, v and s are by then updated, except at lr = 0. The code
    does not count such a step for its bias correction; here it counts, as in optax. With beta1 = 0
    the code keeps no m, and scales the gradient by the new d; here m is as in the paper.
    """

    INSIDE = ("in_update",)
    taken = 0.0
    """The step size of the last step."""

    def __init__(self, params: list[Array], **values: Any) -> None:
        super().__init__(params, **values)
        self.state |= {"d": self.d0, "d_max": self.d0, "numerator": 0.0}

    def slots(self, p: Array) -> dict[str, Array]:
        """The averages, zero, and the parameter as it is at the start."""
        return {"p0": p.copy(), **{name: np.zeros_like(p) for name in ("m", "v", "s")}}

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        beta1, beta2 = self.betas
        beta3 = math.sqrt(beta2) if self.beta3 is None else self.beta3
        self.taken = 0.0
        if self.lr == 0:
            return
        d, d_max = self.state["d"], self.state["d_max"]
        correction = 1.0
        if self.bias_correction:
            correction = math.sqrt(1 - beta2 ** (self.t + 1)) / (1 - beta1 ** (self.t + 1))
        dlr = d * self.lr * correction

        numerator = beta3 * self.state["numerator"]
        denominator = 0.0
        for p, given, own in zip(self.params, grads, self.kept, strict=True):
            m, v, s = own["m"], own["v"], own["s"]
            g = np.asarray(given, dtype=np.float64)
            if self.decay == "l2":
                g = np.asarray(g + self.amount * p)
            numerator += (d / self.d0) * dlr * float(np.sum(g * (own["p0"] - p)))
            m[...] = beta1 * m + (1 - beta1) * d * g
            v[...] = beta2 * v + (1 - beta2) * d**2 * g**2
            weight = d if self.safeguard_warmup else dlr
            s[...] = beta3 * s + (d / self.d0) * weight * g
            denominator += float(np.sum(np.abs(s)))
        self.t += 1
        if denominator == 0:
            return
        self.taken = self.lr * d

        d_hat = self.d_coef * numerator / denominator
        if d == self.d0:
            d = max(d, d_hat)
        d_max = max(d_max, d_hat)
        d = min(d_max, d * self.growth_rate)
        self.state |= {"d": d, "d_max": d_max, "numerator": numerator}

        for p, own in zip(self.params, self.kept, strict=True):
            p[...] = p - self.weight_decay * dlr * p
            p[...] = p - dlr * own["m"] / (np.sqrt(own["v"]) + d * self.eps)
