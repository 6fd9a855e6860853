"""Reference for Accumulate."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class Accumulate(Wrapping):
    """Steps the inner reference once in `every` calls, with the mean of their gradients.

    Source: optax, MultiSteps with use_grad_mean=True. `state` has the slot `accumulated` added.
    """

    def begin(self) -> None:
        """Keep the mean of what has been given since the last step."""
        self.given: list[list[Array]] = []
        self.state["accumulated"] = [np.zeros_like(param) for param in self.params]

    def step(self, grads: list[Array]) -> None:
        """Take one call, which may be a step."""
        self.given.append(grads)
        means = [np.sum(own, axis=0) / len(own) for own in zip(*self.given, strict=True)]
        if len(self.given) == self.every:
            self.inner.step(means)
            means = [np.zeros_like(param) for param in self.params]
            self.given = []
        for kept, mean in zip(self.state["accumulated"], means, strict=True):
            kept[...] = mean
