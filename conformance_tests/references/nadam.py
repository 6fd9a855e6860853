"""Reference for NAdam."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive
from ._reference import Array, quotient


class NAdam(Adaptive):
    """Adam with Nesterov's momentum.

    Sources: Dozat, "Incorporating Nesterov Momentum into Adam" (ICLR workshop 2016), and
    pytorch/pytorch, torch/optim/nadam.py (beta1 growing from about half its value, by
    `momentum_decay`). `momentum_schedule=False` is google-deepmind/optax, `nadam`: beta1 stays.
    """

    momentum_schedule = True

    def slots(self, p: Array) -> dict[str, Array]:
        """The averages, and with the schedule the product of all momenta so far."""
        product = {"product": np.array(1.0)} if self.momentum_schedule else {}
        return {"m": np.zeros_like(p), "v": np.zeros_like(p), **product}

    def mu(self, t: int) -> float:
        """Return the momentum of step t."""
        if not self.momentum_schedule:
            return float(self.betas[0])
        return float(self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)))

    def change(self, p: Array, g: Array, m: Array, v: Array, product: Array | None = None) -> Array:
        """Return lr times the direction of the step after this one."""
        beta1, beta2 = self.betas
        now, following = self.mu(self.t), self.mu(self.t + 1)
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g**2
        so_far = beta1**self.t
        if product is not None:
            product[...] = product * now
            so_far = float(product)
        debias_g, debias_m = 1 - so_far, 1 - so_far * following
        if not self.bias_correction:
            debias_g = debias_m = 1.0
        ahead = (1 - now) * g / debias_g + following * m / debias_m
        return self.lr * quotient(ahead, self.denominator(v, None, beta2))
