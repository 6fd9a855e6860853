"""Reference for SimplifiedAdEMAMix."""

from __future__ import annotations

from ._adaptive import Adaptive
from ._reference import Array, quotient


class SimplifiedAdEMAMix(Adaptive):
    """Adam with momentum in the form of accelerated SGD: a sum, and the newest gradient again.

    Source: Morwani et al., arXiv 2502.02431, as in google-deepmind/optax,
    `contrib.simplified_ademamix`: v alone is corrected. `divided_twice` is
    kozistr/pytorch_optimizer 4.1.0, ademamix.py: m is a mean, and the quotient is divided by the
    weight of v, by which its denominator was not multiplied.
    """

    divided_twice = False

    def change(self, p: Array, g: Array, m: Array, v: Array) -> Array:
        """Return lr (m + alpha g) / (sqrt(v_hat) + eps)."""
        beta1, beta2 = self.betas
        m[...] = beta1 * m + ((1 - beta1) * g if self.divided_twice else g)
        v[...] = beta2 * v + (1 - beta2) * g**2
        step = self.lr * quotient(m + self.alpha * g, self.denominator(v, None, beta2))
        return step / self.debias(beta2) if self.divided_twice else step
