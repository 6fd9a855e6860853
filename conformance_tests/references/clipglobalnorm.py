"""Reference for ClipGlobalNorm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class ClipGlobalNorm(Wrapping):
    """Rescales all gradients if they are longer than `max_norm`, then steps the inner reference.

    Source: pytorch/pytorch, torch/nn/utils/clip_grad.py, clip_grad_norm_, where norm_eps is 1e-6;
    Pascanu, Mikolov & Bengio, arXiv 1211.5063, Algorithm 1, where it is 0.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        max_norm: float = 1.0,
        norm_eps: float = 0.0,
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.max_norm = max_norm
        self.norm_eps = norm_eps

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        total = float(np.sqrt(sum(float(np.sum(grad**2)) for grad in grads)))
        factor = min(1.0, self.max_norm / (total + self.norm_eps)) if total > 0 else 1.0
        self.inner.step([grad * factor for grad in grads])
