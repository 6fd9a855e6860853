"""Reference for AdaptiveClip."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class AdaptiveClip(Wrapping):
    """Clips every output's gradient to a fraction of its weights, then steps the inner reference.

    Source: Brock, De, Smith & Simonyan, arXiv 2102.06171, equation 3, unit by unit; vectors as in
    deepmind/deepmind-research, nfnets/optim.py.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        clipping: float = 0.01,
        min_norm: float = 1e-3,
        clip_layout: str = "oi",
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.clipping = clipping
        self.min_norm = min_norm
        self.axis = {"oi": 0, "io": -1}[clip_layout]

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        clipped = [np.array(grad) for grad in grads]
        for grad, param in zip(clipped, self.params, strict=True):
            units = zip(self.units(grad), self.units(param), strict=True)
            for own, weights in units:
                most = self.clipping * max(np.sqrt(np.sum(weights**2)), self.min_norm)
                length = np.sqrt(np.sum(own**2))
                if length > most:
                    own[...] = own * (most / length)
        self.inner.step(clipped)

    def units(self, array: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return a view of every output's elements."""
        return [array] if array.ndim < 2 else list(np.moveaxis(array, self.axis, 0))
