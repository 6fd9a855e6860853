"""What the references of Schedule-Free and of primal averaging share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._reference import Array, Reference

__all__ = ["Averaged", "Between", "Weights"]


class Weights:
    """The weights of Schedule-Free's average, t^r max(lr)^kappa, which are part of a state.

    Source: facebookresearch/schedule_free, schedulefree/adamw_schedulefree.py.
    """

    def __init__(self, rule: Any, state: dict[str, Any], count: int) -> None:
        self.r, self.kappa = rule.weight_power, rule.weight_lr_power
        self.state, self.count = state, count
        self.total = self.largest = 0.0
        self.keep(0.0)

    def share(self, t: int, lr: float) -> float:
        """Return the share of the newest point in the average."""
        self.largest = max(self.largest, lr)
        weight = t**self.r * self.largest**self.kappa
        self.total += weight
        self.keep(weight)
        return weight / self.total if self.total else 0.0

    def keep(self, weight: float) -> None:
        """Put the sum, over a weight, and the largest step size into the state."""
        kept = {"weight_sum": self.total / weight if weight else 0.0, "lr_max": self.largest}
        self.state.update({name: [np.asarray(n)] * self.count for name, n in kept.items()})


class Between:
    """The three points of one parameter; the step goes from z, the gradient is taken at y."""

    def __init__(self, start: Array) -> None:
        self.z, self.x = start.copy(), start.copy()

    def go(self, step: Array, share: Any, toward: Any) -> Array:
        """Take the step, and return the new y."""
        self.z[...] = self.z + step
        self.x[...] = (1 - share) * self.x + share * self.z
        return np.asarray((1 - toward) * self.z + toward * self.x)


class Averaged(Reference):
    """A rule whose parameter is y; `state` has z."""

    def __init__(self, params: list[Array], **values: Any) -> None:
        super().__init__(params, **values)
        self.points = [Between(p) for p in self.params]
        self.state["z"] = [point.z for point in self.points]

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        self.t += 1
        share = self.newest()
        for p, given, own, point in zip(self.params, grads, self.kept, self.points, strict=True):
            new = self.stepped(p.copy(), np.asarray(given, dtype=np.float64), own)
            p[...] = point.go(new - p, share, self.toward)

    @property
    def toward(self) -> float:
        """The share of x in y."""
        raise NotImplementedError

    def newest(self) -> float:
        """The share of the new z in x."""
        raise NotImplementedError
