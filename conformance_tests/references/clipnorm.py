"""Reference for ClipNorm."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class ClipNorm(Wrapping):
    """Rescales every gradient that is longer than `clip_norm`, then steps the inner reference.

    Source: Pascanu, Mikolov & Bengio, arXiv 1211.5063, Algorithm 1, for each parameter.
    """

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        clipped = []
        for grad in grads:
            length = float(np.linalg.norm(np.ravel(grad)))
            clipped.append(grad * (self.clip_norm / length) if length > self.clip_norm else grad)
        self.inner.step(clipped)
