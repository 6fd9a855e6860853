"""Reference for AdaptiveClip."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class AdaptiveClip(Wrapping):
    """Clips every output's gradient to a fraction of its weights, then steps the inner reference.

    Source: Brock, De, Smith & Simonyan, arXiv 2102.06171, equation 3, unit by unit; vectors as in
    deepmind/deepmind-research, nfnets/optim.py.
    """

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        clipped = [np.array(grad) for grad in grads]
        for grad, param in zip(clipped, self.params, strict=True):
            for own, weights in zip(self.units(grad), self.units(param), strict=True):
                most = self.clipping * max(np.sqrt(np.sum(weights**2)), self.min_norm)
                length = np.sqrt(np.sum(own**2))
                if length > most:
                    own[...] = own * (most / length)
        self.inner.step(clipped)

    def units(self, array: Array) -> list[Array]:
        """Return a view of every output's elements."""
        axis = -1 if self.layout == "io" else 0
        return [array] if array.ndim < 2 else list(np.moveaxis(array, axis, 0))
