"""Reference for Cautious."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class Cautious(Wrapping):
    """Undoes the moves of the inner reference against the gradient, and lengthens the others.

    Source: kyleliang919/C-Optim, c_adamw.py; Liang, Chen, Liu & Liu, arXiv 2411.16085,
    Algorithm 1. The inner reference moves without decay, unless the decay is part of its
    direction; it is done here instead, by the definitions of the families.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        rescale: str = "mean",
        **inner_kwargs: Any,
    ) -> None:
        self.rescale = rescale
        self.lr = inner_kwargs["lr"]
        self.family = inner_kwargs["family"]
        self.amount = inner_kwargs["amount"]
        within = inner_kwargs.get("weight_decay", 0.0)
        if within and self.family != "in_update":
            self.amount, inner_kwargs["weight_decay"] = within, 0.0
        inner_kwargs["amount"] = 0.0
        super().__init__(params, inner_class, **inner_kwargs)

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
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
            start = old
            if self.family == "decoupled":
                start = old - self.lr * self.amount * old
            if self.family == "absolute":
                start = old - self.amount * old
            new = start - factor * np.where(along, move, 0.0)
            if self.family == "in_update":
                new = new - self.lr * self.amount * old
            if self.family in ("proximal", "l2+proximal"):
                new = new / (1 + self.lr * self.amount)
            param[...] = new
