"""Reference for SkipNonFinite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._wrapping import Wrapping


class SkipNonFinite(Wrapping):
    """Steps the inner reference if all gradients are finite; else it only counts a step.

    Source: optax, apply_if_finite, but for the count. `state` has the number `skipped` added.
    """

    def __init__(
        self, params: list[NDArray[np.float64]], inner_class: Any, **inner_kwargs: Any
    ) -> None:
        super().__init__(params, inner_class, **inner_kwargs)
        self.state["skipped"] = 0.0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step, or none."""
        if all(np.all(np.isfinite(grad)) for grad in grads):
            self.inner.step(grads)
        else:
            self.counted_only(own=())
            self.state["skipped"] += 1.0
