"""Momentum with the choices that optimizer libraries make differently."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._reference import Array, Reference

__all__ = ["Momentum"]


class Momentum(Reference):
    """A reference whose direction goes through a momentum `m`, which is kept unless it is 0.

    Sources of the choices: pytorch/pytorch, torch/optim/sgd.py (`momentum_start="gradient"`,
    dampening); google-deepmind/optax, `trace` (`momentum_start="zero"`; the learning rate before
    it in `rmsprop` and `lars`); jax.example_libraries.optimizers, `adagrad`
    (`momentum_form="mean"`). Nesterov's form follows Sutskever et al. (ICML 2013).
    """

    dampening, nesterov, momentum_start = 0.0, False, "zero"
    momentum_form, lr_at = "sum", "outside"

    def slots(self, p: Array) -> dict[str, Any]:
        """The momentum, zero, if there is any."""
        return {"m": np.zeros_like(p)} if self.momentum != 0 else {}

    def displacement(self, u: Array, m: Array | None, lr: float) -> Array:
        """Update m in place; return what is to be subtracted from the parameter."""
        if m is None:
            return np.asarray(lr * u)
        if self.lr_at == "inside":
            u = np.asarray(lr * u)
        mean = self.momentum_form == "mean"
        weight = 1 - self.momentum if mean else 1 - self.dampening
        if self.t == 1 and self.momentum_start == "gradient":
            m[...] = u  # the first one enters at full weight
        else:
            m[...] = self.momentum * m + weight * u
        d = np.array(m)
        if self.nesterov:
            d = np.asarray((weight if mean else 1.0) * u + self.momentum * m)
        return d if self.lr_at == "inside" else np.asarray(lr * d)
