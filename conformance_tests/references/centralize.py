"""Reference for Centralize."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class Centralize(Wrapping):
    """Takes the mean of every output's gradient off, then steps the inner reference.

    Source: Yong, Huang, Hua & Zhang, arXiv 2004.01461, equation 1.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: Any,
        center_layout: str = "oi",
        **inner_kwargs: Any,
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.axis = {"oi": 0, "io": -1}[center_layout]

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        centred = [np.array(grad) for grad in grads]
        for grad in centred:
            for own in np.moveaxis(grad, self.axis, 0) if grad.ndim > 1 else ():
                own[...] = own - np.sum(own) / own.size
        self.inner.step(centred)
