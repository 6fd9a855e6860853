"""Reference for Lookahead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Lookahead:
    """Every `sync_period` steps of an inner rule, pulls the parameters to a slow copy.

    Source: michaelrzhang/lookahead, lookahead_pytorch.py (with pullback_momentum="none"), and
    Zhang et al., arXiv 1907.08610, Algorithm 1. `params` and `state` are the inner
    reference's own, `state` with the slot `slow` added.
    """

    def __init__(
        self,
        params: list[NDArray[np.float64]],
        inner_class: type,
        sync_period: int = 6,
        sync_rate: float = 0.5,
        **inner_kwargs: Any,
    ) -> None:
        self.inner: Any = inner_class(params, **inner_kwargs)
        self.params: list[NDArray[np.float64]] = self.inner.params
        self.state: dict[str, Any] = self.inner.state
        self.state["slow"] = [p.copy() for p in self.params]
        self.sync_period = sync_period
        self.sync_rate = sync_rate
        self.t = 0

    def step(self, grads: list[NDArray[np.float64]]) -> None:
        """Take one step."""
        self.inner.step(grads)
        self.t += 1
        if self.t % self.sync_period == 0:
            for i in range(len(self.params)):
                fast, slow = self.params[i], self.state["slow"][i]
                slow[...] = slow + self.sync_rate * (fast - slow)
                fast[...] = slow
