"""Reference for ClipGlobalNorm."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class ClipGlobalNorm(Wrapping):
    """Rescales all gradients if they are longer than `max_norm`, then steps the inner reference.

    Source: pytorch/pytorch, torch/nn/utils/clip_grad.py, clip_grad_norm_, where norm_eps is 1e-6;
    Pascanu, Mikolov & Bengio, arXiv 1211.5063, Algorithm 1, where it is 0.
    """

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        total = float(np.sqrt(sum(float(np.sum(grad**2)) for grad in grads)))
        factor = min(1.0, self.max_norm / (total + self.norm_eps)) if total > 0 else 1.0
        self.inner.step([grad * factor for grad in grads])
