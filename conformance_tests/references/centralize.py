"""Reference for Centralize."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class Centralize(Wrapping):
    """Takes the mean of every output's gradient off, then steps the inner reference.

    Source: Yong, Huang, Hua & Zhang, arXiv 2004.01461, equation 1.
    """

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        axis = -1 if self.layout == "io" else 0
        centred = [np.array(grad) for grad in grads]
        for grad in centred:
            for own in np.moveaxis(grad, axis, 0) if grad.ndim > 1 else ():
                own[...] = own - np.sum(own) / own.size
        self.inner.step(centred)
