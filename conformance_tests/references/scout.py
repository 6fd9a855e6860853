"""Reference for Scout."""

from __future__ import annotations

import math

from ._reference import Array, Wrapping


class Scout(Wrapping):
    """Lookahead that pulls further where the steps since the last pull disagree less.

    Source: frgfm/Holocron, holocron/optim/wrapper.py. An element whose steps are all equal
    counts 1, where the code divides 0 by 0; parameters without elements do not count. `history`
    is the parameter after each step of a period, which every period overwrites. `params` and
    `state` are the inner reference's own, `state` with the slots `slow` and `history` added.
    """

    def begin(self) -> None:
        """Keep a slow copy, and the parameter after each step of a period."""
        self.state["slow"] = [p.copy() for p in self.params]
        period = range(self.sync_period)
        self.state["history"] = [tuple(p.copy() for _ in period) for p in self.params]

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        self.inner.step(grads)
        for fast, history in zip(self.params, self.state["history"], strict=True):
            history[self.t % self.sync_period][...] = fast
        self.t += 1
        if self.t % self.sync_period == 0:
            rate = max(1 - self.coherence(), self.sync_rate)
            for fast, slow in zip(self.params, self.state["slow"], strict=True):
                slow[...] = slow + rate * (fast - slow)
                fast[...] = slow

    def coherence(self) -> float:
        """Return the mean over parameters of what their elements' steps have in common."""
        means = []
        for slow, history in zip(self.state["slow"], self.state["history"], strict=True):
            path = [slow.ravel(), *(entry.ravel() for entry in history)]
            elements = []
            for j in range(slow.size):
                values = [float(point[j]) for point in path]
                updates = [values[k + 1] - values[k] for k in range(self.sync_period)]
                if max(updates) == min(updates):
                    elements.append(1.0)
                    continue
                mean = math.fsum(updates) / len(updates)
                largest = max(abs(update - mean) for update in updates)
                relative = [(update - mean) / largest for update in updates]
                squares = math.fsum(value**2 for value in relative)
                elements.append(math.sqrt(squares / (len(updates) - 1)))
            if elements:
                means.append(sum(elements) / len(elements))
        return sum(means) / len(means) if means else 1.0
