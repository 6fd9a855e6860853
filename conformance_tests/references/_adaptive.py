"""The denominators of Adam and its kin, with the choices that libraries make differently."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray


def check_adaptive(
    eps_at: str = "outside", start: str = "zero", amsgrad: bool | str = False
) -> None:
    """Refuse options that are unknown."""
    if eps_at not in ("outside", "uncorrected", "inside"):
        raise ValueError(f"eps_at must be 'outside', 'uncorrected' or 'inside', not {eps_at!r}")
    if start not in ("zero", "gradient"):
        raise ValueError(f"start must be 'zero' or 'gradient', not {start!r}")
    if amsgrad not in (False, True, "corrected"):
        raise ValueError(f"amsgrad must be False, True or 'corrected', not {amsgrad!r}")


def quotient(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x / y, and 0 where y is 0."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    result = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    with np.errstate(divide="ignore"):
        np.divide(x, y, out=result, where=y != 0)
    return result


def corrected(
    v: NDArray[np.float64],
    v_max: NDArray[np.float64] | None,
    debias: float,
    amsgrad: bool | str,
) -> NDArray[np.float64]:
    """Return the second moment divided by its debias, v_max being updated in place.

    Sources: pytorch/pytorch, torch/optim/adam.py (the largest v so far, then corrected) and
    google-deepmind/optax, `scale_by_amsgrad` (the largest corrected v so far: "corrected").
    """
    if v_max is None:
        return np.asarray(v / debias)
    if amsgrad == "corrected":
        v_max[...] = np.maximum(v_max, v / debias)
        return np.array(v_max)
    v_max[...] = np.maximum(v_max, v)
    return np.asarray(v_max / debias)


def denominator(
    v_hat: NDArray[np.float64], debias: float, eps: float, eps_root: float, eps_at: str
) -> NDArray[np.float64]:
    """Return the root of the corrected second moment with eps where it belongs.

    Sources: Kingma & Ba, arXiv 1412.6980, Algorithm 1 ("outside") and the reordering at the end
    of its section 2 ("uncorrected"); `eps_root` is that of google-deepmind/optax.
    """
    if eps_at == "inside":
        return np.asarray(np.sqrt(v_hat + eps_root + eps))
    if eps_at == "uncorrected":
        # (sqrt(v) + eps) / sqrt(debias), for any eps_root
        return np.asarray(np.sqrt(v_hat + eps_root) + eps / math.sqrt(debias))
    return np.asarray(np.sqrt(v_hat + eps_root) + eps)


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


def rectified(
    m_hat: NDArray[np.float64], denominators: NDArray[np.float64], r: float | None, below: str
) -> NDArray[np.float64]:
    """Return the direction of RAdam, `below` saying what it is while r is None."""
    if r is not None:
        return np.asarray(r * quotient(m_hat, denominators))
    if below == "momentum":
        return np.array(m_hat)
    if below == "adam":
        return quotient(m_hat, denominators)
    if below == "skip":
        return np.zeros_like(m_hat)
    raise ValueError(f"below must be 'momentum', 'adam' or 'skip', not {below!r}")
