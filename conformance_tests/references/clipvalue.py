"""Reference for ClipValue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class ClipValue(Wrapping):
    """Clips every element of the gradient, then steps the inner reference.

    Source: pytorch/pytorch, torch/nn/utils/clip_grad.py, clip_grad_value_.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        max_value: float = 1.0,
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.max_value = max_value

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        clipped = []
        for grad in grads:
            new = np.array(grad)
            new[new > self.max_value] = self.max_value
            new[new < -self.max_value] = -self.max_value
            clipped.append(new)
        self.inner.step(clipped)
