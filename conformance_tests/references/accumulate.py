"""Reference for Accumulate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class Accumulate(Wrapping):
    """Steps the inner reference once in `every` calls, with the mean of their gradients.

    Source: optax, MultiSteps with use_grad_mean=True. `state` has the slot `accumulated` added.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        every: int = 2,
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.every = every
        self.given: list[list[NDArray[np.float64]]] = []
        self.state["accumulated"] = [np.zeros_like(param) for param in self.params]

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one call, which may be a step."""
        self.given.append(grads)
        means = [np.sum(own, axis=0) / len(own) for own in zip(*self.given, strict=True)]
        if len(self.given) == self.every:
            self.inner.step(means)
            means = [np.zeros_like(param) for param in self.params]
            self.given = []
        for kept, mean in zip(self.state["accumulated"], means, strict=True):
            kept[...] = mean
