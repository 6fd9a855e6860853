"""Reference for AdaBelief."""

from __future__ import annotations

import numpy as np

from ._adaptive import Adaptive, rectification, rectified
from ._reference import Array, quotient


class AdaBelief(Adaptive):
    """Adam whose second moment is that of the gradient's deviation from its mean.

    Sources: Zhuang et al., arXiv 2010.07468, Algorithm 2, and juntang-zhuang/Adabelief-Optimizer,
    adabelief_pytorch, where eps (here `eps_root`) is added to v in every step and stays in it, as
    in google-deepmind/optax, `adabelief`. `keep_eps=False` is labml_nn/optimizers/ada_belief.py of
    labmlai: eps is added where v is read, before its bias correction. `rectify` takes RAdam's
    direction (Liu et al., arXiv 1908.03265). Decay is decoupled.
    """

    keep_eps = True

    def change(self, p: Array, g: Array, m: Array, v: Array, v_max: Array | None = None) -> Array:
        """Return lr m_hat / (sqrt(v_hat) + eps), or the same rectified."""
        beta1, beta2 = self.betas
        if self.t == 1 and self.start == "gradient":
            m[...] = g
            v[...] = g**2
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * (g - m) ** 2
        if self.keep_eps:
            v[...] = v + self.eps_root
        m_hat, debias = m / self.debias(beta1), self.debias(beta2)
        v_hat = self.corrected(v, v_max, debias)
        if not self.keep_eps:
            v_hat = np.asarray(v_hat + self.eps_root / debias)
        root = self.root(v_hat, debias, eps_root=0.0)
        if self.rectify:
            r = rectification(beta2, self.t, self.threshold)
            return self.lr * rectified(m_hat, root, r, self.below)
        return self.lr * quotient(m_hat, root)
