"""Reference for SkipNonFinite."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Wrapping


class SkipNonFinite(Wrapping):
    """Steps the inner reference if all gradients are finite; else it does nothing.

    Source: optax, apply_if_finite. `state` has the number `skipped` added.
    """

    def begin(self) -> None:
        """Count what is skipped."""
        self.state["skipped"] = 0.0

    def step(self, grads: list[Array]) -> None:
        """Take one step, or none."""
        if all(np.all(np.isfinite(grad)) for grad in grads):
            self.inner.step(grads)
        else:
            self.state["skipped"] += 1.0
