"""Reference for ClipNorm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class ClipNorm(Wrapping):
    """Rescales every gradient that is longer than `clip_norm`, then steps the inner reference.

    Source: Pascanu, Mikolov & Bengio, arXiv 1211.5063, Algorithm 1, for each parameter.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        clip_norm: float = 1.0,
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.clip_norm = clip_norm

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        clipped = []
        for grad in grads:
            length = float(np.linalg.norm(np.ravel(grad)))
            clipped.append(grad * (self.clip_norm / length) if length > self.clip_norm else grad)
        self.inner.step(clipped)
