"""Reference for Cautious."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._reference import Array, Wrapping


class Cautious(Wrapping):
    """Undoes the moves of the inner reference against the gradient, and lengthens the others.

    Source: kyleliang919/C-Optim, c_adamw.py; Liang, Chen, Liu & Liu, arXiv 2411.16085,
    Algorithm 1. The inner reference moves without decay, unless the decay is part of its
    direction; it is done here instead, by the definitions of the families.
    """

    def begin(self) -> None:
        """Take the decay over from the reference that has it."""
        base = self.base()
        self.lr, self.family, self.amount = base.lr, base.decay, base.amount
        base.amount = 0.0

    def base(self) -> Any:
        """The reference that is no wrapper."""
        base = self.inner
        while isinstance(base, Wrapping):
            base = base.inner
        return base

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        base = self.base()
        if getattr(base, "waits", False) and base.t == 0:
            self.inner.step(grads)
            return
        before = [param.copy() for param in self.params]
        if self.family in ("l2", "l2+proximal"):
            grads = [g + self.amount * p for g, p in zip(grads, before, strict=True)]
        self.inner.step(grads)
        for param, old, grad in zip(self.params, before, grads, strict=True):
            move = old - param
            along = move * grad > 0
            if self.rescale == "mean":
                factor = 1 / max(float(np.mean(along)), 1e-3)
            else:
                factor = along.size / (np.count_nonzero(along) + 1)
            shrinks = {"decoupled": self.lr, "absolute": 1.0}.get(self.family, 0.0) * self.amount
            new = old - shrinks * old - factor * np.where(along, move, 0.0)
            if self.family == "in_update":
                new = new - self.lr * self.amount * old
            if self.family in ("proximal", "l2+proximal"):
                new = new / (1 + self.lr * self.amount)
            param[...] = new
