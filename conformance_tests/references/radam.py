"""Reference for RAdam."""

from __future__ import annotations

from ._adaptive import Adaptive, rectification, rectified
from ._reference import Array


class RAdam(Adaptive):
    """Adam, rectified for the variance of its denominator, and plain momentum at the beginning.

    Source: Liu et al., arXiv 1908.03265, Algorithm 2 (threshold 4). pytorch/pytorch,
    torch/optim/radam.py, has threshold 5 and `eps_at="uncorrected"`, and its coupled decay is the
    one here. `below` says what is done while the variance is not tractable.
    """

    def change(self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None) -> Array:
        """Return lr times the rectified direction."""
        beta1, beta2 = self.betas
        self.average(g, m, v)
        root = self.denominator(v, v_max, beta2)
        r = rectification(beta2, self.t, self.threshold)
        return self.lr * rectified(m / self.debias(beta1), root, r, self.below)
