"""The averages and the denominator of Adam and its kin, with the choices that libraries make."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np

from ._reference import Array, Reference, quotient

__all__ = ["Adaptive", "rectification", "rectified"]


class Adaptive(Reference):
    """A reference that divides a mean of gradients by the root of a mean of their squares.

    Sources of the choices: Kingma & Ba, arXiv 1412.6980, Algorithm 1 (`eps_at="outside"`) and the
    reordering at the end of its section 2 ("uncorrected"); google-deepmind/optax (`eps_root`);
    the first release of ml-explore/mlx (`start="gradient"`: before the first step m is the first
    gradient and v its square); pytorch/pytorch, torch/optim/adam.py (`amsgrad`: the largest v so
    far, then corrected); google-deepmind/optax, `scale_by_amsgrad` (the largest corrected v);
    kozistr/pytorch_optimizer, `apply_ams_bound` (`added_to_v`).
    """

    eps_root, eps_at, bias_correction, start = 0.0, "outside", True, "zero"
    amsgrad: bool | str = False
    added_to_v = 0.0

    def slots(self, p: Array) -> dict[str, Array]:
        """Both averages, zero, and v_max where it is used."""
        names = ("m", "v", "v_max") if self.amsgrad else ("m", "v")
        return {name: np.zeros_like(p) for name in names}

    def debias(self, beta: float) -> float:
        """Return the weight that an average has gathered."""
        return 1 - beta**self.t if self.bias_correction else 1.0

    def average(self, g: Array, m: Array, v: Array) -> None:
        """Update m and v in place."""
        beta1, beta2 = self.betas
        if self.t == 1 and self.start == "gradient":
            m[...] = g
            v[...] = g**2
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g**2

    def corrected(self, v: Array, v_max: Array | None, debias: float) -> Array:
        """Return v without its bias, or the largest so far; v_max is updated in place."""
        if v_max is None:
            return np.asarray(v / debias)
        if self.amsgrad == "corrected":
            v_max[...] = np.maximum(v_max, v / debias)
            return np.array(v_max)
        v_max[...] = np.maximum(v_max, v)
        return np.asarray(v_max / debias)

    def root(self, v_hat: Array, debias: float, eps_root: float) -> Array:
        """Return the root of the corrected second moment, with eps where it belongs."""
        if self.eps_at == "inside":
            return np.asarray(np.sqrt(v_hat + eps_root + self.eps))
        if self.eps_at == "uncorrected":  # (sqrt(v) + eps) / sqrt(debias), for any eps_root
            return np.asarray(np.sqrt(v_hat + eps_root) + self.eps / math.sqrt(debias))
        return np.asarray(np.sqrt(v_hat + eps_root) + self.eps)

    def denominator(self, v: Array, v_max: Array | None, beta: float) -> Array:
        """Return the denominator from an average of squares."""
        debias = self.debias(beta)
        v_hat = self.corrected(v, v_max, debias) + self.added_to_v / debias
        return self.root(v_hat, debias, self.eps_root)


def rectification(beta2: float, t: int, threshold: float) -> float | None:
    """Return RAdam's factor r, or None while the variance is not tractable.

    Source: Liu et al., arXiv 1908.03265, Algorithm 2.
    """
    with localcontext() as context:
        context.prec = 60  # rho is a small difference of numbers near 2 / (1 - beta2)
        beta, rho_inf = Decimal(beta2), 2 / (1 - Decimal(beta2)) - 1
        rho = rho_inf - 2 * t * beta**t / (1 - beta**t)
        if rho <= threshold:
            return None
        above = (rho - 4) * (rho - 2) * rho_inf
        below = (rho_inf - 4) * (rho_inf - 2) * rho
        return math.sqrt(above / below)


def rectified(m_hat: Array, denominators: Array, r: float | None, below: str) -> Array:
    """Return the direction of RAdam; `below` says what it is while r is None."""
    if r is not None:
        return np.asarray(r * quotient(m_hat, denominators))
    if below == "momentum":
        return np.array(m_hat)
    if below == "adam":
        return quotient(m_hat, denominators)
    assert below == "skip"
    return np.zeros_like(m_hat)
