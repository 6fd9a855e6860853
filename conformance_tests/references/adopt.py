"""Reference for ADOPT."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._reference import Array, Reference, quotient


class ADOPT(Reference):
    """Adam with the second moment of the step before, and with the momentum after the division.

    Source: Taniguchi et al., arXiv 2411.02853, with clipping by c_t = t^(1/4), and
    iShohei220/adopt, adopt.py, whose first call only stores g^2: no step, and no decay.
    kozistr/pytorch_optimizer 4.1.0, adopt.py, decays in it (`decays_at_once`), and clips by the
    number of the step itself (`bound_from=0`).
    """

    bound_from, decays_at_once = 1, False
    waits = True

    def slots(self, p: Array) -> dict[str, Any]:
        """Both averages, zero."""
        return {name: np.zeros_like(p) for name in ("m", "v")}

    def step(self, grads: list[Array]) -> None:
        """Take one step, or only begin."""
        if self.t > 0:
            super().step(grads)
            return
        self.t = 1
        for p, given, own in zip(self.params, grads, self.kept, strict=True):
            g = np.asarray(given, dtype=np.float64)
            own["v"][...] = (g + self.amount * p if self.decay == "l2" else g) ** 2
            if self.decays_at_once:
                p[...] = p - self.lost_before() * p
                if self.decay == "proximal":
                    p[...] = p / (1 + self.lr * self.amount)

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr m."""
        beta1, beta2 = self.betas
        n = quotient(g, np.maximum(np.sqrt(v), self.eps))
        if self.clipping:
            bound = (self.t - self.bound_from) ** self.power
            n = np.clip(n, -bound, bound)
        m[...] = beta1 * m + (1 - beta1) * n
        v[...] = beta2 * v + (1 - beta2) * g**2
        return np.asarray(self.lr * m)
