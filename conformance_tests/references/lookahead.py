"""Reference for Lookahead."""

from __future__ import annotations

from ._reference import Array, Wrapping


class Lookahead(Wrapping):
    """Every `sync_period` steps of an inner rule, pulls the parameters to a slow copy.

    Source: michaelrzhang/lookahead, lookahead_pytorch.py (with pullback_momentum="none"), and
    Zhang et al., arXiv 1907.08610, Algorithm 1. `params` and `state` are the inner
    reference's own, `state` with the slot `slow` added.
    """

    def begin(self) -> None:
        """Keep a slow copy."""
        self.state["slow"] = [p.copy() for p in self.params]

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        self.inner.step(grads)
        self.t += 1
        if self.t % self.sync_period == 0:
            for fast, slow in zip(self.params, self.state["slow"], strict=True):
                slow[...] = slow + self.sync_rate * (fast - slow)
                fast[...] = slow
