"""Reference for ClipValue."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class ClipValue(Wrapping):
    """Clips every element of the gradient, then steps the inner reference.

    Source: pytorch/pytorch, torch/nn/utils/clip_grad.py, clip_grad_value_.
    """

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        clipped = []
        for grad in grads:
            new = np.array(grad)
            new[new > self.max_value] = self.max_value
            new[new < -self.max_value] = -self.max_value
            clipped.append(new)
        self.inner.step(clipped)
