"""Reference for Adam."""

from __future__ import annotations

from ._adaptive import Adaptive
from ._reference import Array, quotient


class Adam(Adaptive):
    """Adam with bias correction, eps outside the root and coupled (l2) weight decay.

    Source: Kingma & Ba, arXiv 1412.6980, Algorithm 1; the coupled decay is that of
    pytorch/pytorch, torch/optim/adam.py. `start="gradient"` is that of the first release of
    ml-explore/mlx: before the first step m is the first gradient and v its square.
    """

    def change(self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None) -> Array:
        """Return lr m_hat / (sqrt(v_hat) + eps)."""
        self.average(g, m, v)
        m_hat = m / self.debias(self.betas[0])
        return self.lr * quotient(m_hat, self.denominator(v, v_max, self.betas[1]))
