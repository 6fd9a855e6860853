"""Reference for Rprop."""

from __future__ import annotations

import numpy as np

from ._reference import Array, Reference


class Rprop(Reference):
    """A step size per element, which grows while the gradient keeps its sign.

    Source: pytorch/pytorch, torch/optim/rprop.py (the variant known as iRprop-: where the sign
    changes there is no step, and the next one counts as without a predecessor). `lag=True` is
    google-deepmind/optax, `scale_by_rprop`: every step applies what the step before worked out,
    unless the sign has just changed, and a size is held within its limits only when it changes.
    """

    lag = False

    def slots(self, p: Array) -> dict[str, Array]:
        """The gradient before, the step size, and with `lag` the step that waits."""
        last = {"last": np.zeros_like(p)} if self.lag else {}
        return {"prev": np.zeros_like(p), "size": np.full_like(p, self.lr), **last}

    def change(
        self, p: Array, g: Array, prev: Array, size: Array, last: Array | None = None
    ) -> Array:
        """Return the step size with the gradient's sign."""
        shrink, grow = self.etas
        agreement = np.asarray(np.sign(g) * np.sign(prev))
        size[agreement > 0] *= grow
        size[agreement < 0] *= shrink
        within = np.clip(size, *self.step_sizes)
        size[...] = np.where(agreement == 0, size, within) if self.lag else within
        prev[...] = np.where(agreement < 0, 0.0, g)
        d = np.asarray(size * np.sign(prev))
        if last is None:
            return d
        waited = np.where(agreement < 0, 0.0, last)
        last[...] = d
        return np.asarray(waited)
