"""Momentum with the choices that optimizer libraries make differently."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def momentum_state(params: list[NDArray[np.float64]], momentum: float) -> dict[str, list[Any]]:
    """Return the slot `m`, zero, if there is momentum, else no slot."""
    return {"m": [np.zeros_like(p) for p in params]} if momentum != 0 else {}


def check_momentum(dampening: float, momentum_start: str, momentum_form: str, lr_at: str) -> None:
    """Refuse options that are unknown or do not go together."""
    if momentum_start not in ("zero", "gradient"):
        raise ValueError(f"momentum_start must be 'zero' or 'gradient', not {momentum_start!r}")
    if momentum_form not in ("sum", "mean"):
        raise ValueError(f"momentum_form must be 'sum' or 'mean', not {momentum_form!r}")
    if lr_at not in ("outside", "inside"):
        raise ValueError(f"lr_at must be 'outside' or 'inside', not {lr_at!r}")
    if momentum_form == "mean" and dampening != 0:
        raise ValueError("a mean has no dampening")


def displacement(
    u: NDArray[np.float64],
    m: NDArray[np.float64] | None,
    lr: float,
    t: int,
    momentum: float,
    dampening: float = 0.0,
    nesterov: bool = False,
    momentum_start: str = "zero",
    momentum_form: str = "sum",
    lr_at: str = "outside",
) -> NDArray[np.float64]:
    """Update m in place and return what is to be subtracted from the parameter.

    Sources: pytorch/pytorch, torch/optim/sgd.py (`momentum_start="gradient"`, dampening);
    google-deepmind/optax, `trace` (`momentum_start="zero"`; the learning rate before it in
    `rmsprop` and `lars`); jax.example_libraries.optimizers, `adagrad` (`momentum_form="mean"`).
    Nesterov's form follows Sutskever et al. (ICML 2013).
    """
    if m is None:
        return np.asarray(lr * u)
    if lr_at == "inside":
        u = np.asarray(lr * u)
    weight = 1 - momentum if momentum_form == "mean" else 1 - dampening
    if t == 1 and momentum_start == "gradient":
        m[...] = u  # the first one enters at full weight
    else:
        m[...] = momentum * m + weight * u
    d = m
    if nesterov:
        d = np.asarray((weight if momentum_form == "mean" else 1.0) * u + momentum * m)
    return np.array(d) if lr_at == "inside" else np.asarray(lr * d)
