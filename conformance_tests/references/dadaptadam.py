"""Reference for DAdaptAdam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._reference import Array, Reference


class DAdaptAdam(Reference):
    """Adam whose step size d grows with the inner products of gradients and their sum.

    Source: facebookresearch/dadaptation 3.2, dadapt_adam.py (one parameter group, layer_scale 1),
    and Defazio & Mishchenko, arXiv 2301.07733. d and numerator are one number each for all
    parameters. `decay="l2"` is the code's `decouple=False`. While the sum s is zero, d and
    numerator keep their values and no parameter moves; such a step counts here, as in optax.
    """

    INSIDE = ("in_update",)

    def __init__(self, params: list[Array], **values: Any) -> None:
        super().__init__(params, **values)
        self.state |= {"d": self.d0, "numerator": 0.0}

    def slots(self, p: Array) -> dict[str, Array]:
        """The averages, zero."""
        return {name: np.zeros_like(p) for name in ("m", "v", "s")}

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        self.t += 1
        self.taken = 0.0
        beta1, beta2 = self.betas
        beta = math.sqrt(beta2) if self.beta3 is None else self.beta3
        d, correction = self.state["d"], 1.0
        if self.bias_correction:
            correction = math.sqrt(1 - beta2**self.t) / (1 - beta1**self.t)
        dlr = d * self.lr * correction
        gathered, length = 0.0, 0.0
        for p, given, own in zip(self.params, grads, self.kept, strict=True):
            m, v, s = own["m"], own["v"], own["s"]
            g = np.asarray(given, dtype=np.float64)
            if self.decay == "l2":
                g = np.asarray(g + self.amount * p)
            gathered += dlr * float(np.sum(g * (s / (np.sqrt(v) + self.eps))))
            m[...] = beta1 * m + dlr * (1 - beta1) * g
            v[...] = beta2 * v + (1 - beta2) * g**2
            s[...] = beta * s + dlr * (1 - beta) * g
            length += float(np.sum(np.abs(s)))
        if length == 0:
            return
        self.taken = self.lr * d
        numerator = beta * self.state["numerator"] + (1 - beta) * gathered
        d_hat = numerator / ((1 - beta) * length)
        self.state |= {"d": max(d, min(d_hat, d * self.growth_rate)), "numerator": numerator}
        for p, own in zip(self.params, self.kept, strict=True):
            p[...] = p - self.weight_decay * dlr * p
            p[...] = p - own["m"] / (np.sqrt(own["v"]) + self.eps)
