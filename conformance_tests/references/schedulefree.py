"""References for Schedule-Free."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._adaptive import Adaptive, rectification
from ._averaged import Averaged, Between, Weights
from ._reference import Array, Wrapping, quotient

__all__ = ["ScheduleFree", "ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"]


def warmed(own: Any) -> Any:
    """Return the step size of a reference that warms up."""
    return own.lr * min(1.0, own.t / own.warmup_steps if own.warmup_steps else 1.0)


class _Counted(Averaged):
    """Averaged by the weights of Schedule-Free."""

    def __init__(self, params: list[Array], **values: Any) -> None:
        super().__init__(params, **values)
        self.weights = Weights(self, self.state, len(self.params))

    @property
    def toward(self) -> float:
        """The share of x in y."""
        return float(self.betas[0])

    def newest(self) -> float:
        """The share of the new z in x."""
        return self.weights.share(self.t, self.rate)


class ScheduleFreeSGD(_Counted):
    """The gradient itself.

    Source: facebookresearch/schedule_free, schedulefree/sgd_schedulefree_reference.py.
    """

    @property
    def rate(self) -> Any:
        """The warmed-up step size."""
        return warmed(self)

    @property
    def toward(self) -> float:
        """The share of x in y."""
        return float(self.momentum)

    def change(self, p: Array, g: Array) -> Array:
        """Return lr g."""
        return np.asarray(self.rate * g)


class ScheduleFreeAdamW(_Counted, Adaptive):
    """The gradient over the root of its mean square.

    Source: facebookresearch/schedule_free, schedulefree/adamw_schedulefree_reference.py.
    """

    @property
    def rate(self) -> Any:
        """The warmed-up step size."""
        return warmed(self)

    def slots(self, p: Array) -> dict[str, Any]:
        """The mean square, zero."""
        return {"v": np.zeros_like(p)}

    def change(self, p: Array, g: Array, v: Array) -> Array:
        """Return lr times the normalised gradient."""
        return np.asarray(self.rate * self.normalised(g, v))

    def normalised(self, g: Array, v: Array) -> Array:
        """Return the gradient over the root of the mean square, which is updated."""
        beta2 = self.betas[1]
        v[...] = beta2 * v + (1 - beta2) * g**2
        return quotient(g, self.denominator(v, None, beta2))


class ScheduleFreeRAdam(ScheduleFreeAdamW):
    """With RAdam's factor in the step size, which is 0 or lr as long as there is none.

    Source: facebookresearch/schedule_free, schedulefree/radam_schedulefree.py.
    """

    @property
    def rate(self) -> Any:
        """The rectified step size."""
        r = self.factor()
        return self.lr * (float(self.below != "skip") if r is None else r)

    def factor(self) -> float | None:
        """RAdam's factor, or None while the mean square is not trusted."""
        return rectification(self.betas[1], self.t, self.threshold)

    def change(self, p: Array, g: Array, v: Array) -> Array:
        """Return lr times the normalised gradient, or the gradient."""
        normalised = self.normalised(g, v)
        plain = self.below == "momentum" and self.factor() is None
        return np.asarray(self.rate * (g if plain else normalised))


class ScheduleFree(Wrapping):
    """The steps of any rule, averaged.

    Source: facebookresearch/schedule_free, schedulefree/wrap_schedulefree_reference.py, with the
    inner rule at y, as optax.contrib.schedule_free has it.
    """

    def begin(self) -> None:
        """Keep the points and the weights."""
        self.weights = Weights(self, self.state, len(self.params))
        self.points = [Between(p) for p in self.params]
        self.state["z"] = [point.z for point in self.points]

    def step(self, grads: list[Array]) -> None:
        """Take one step."""
        self.t += 1
        before = [p.copy() for p in self.params]
        self.inner.step(grads)
        share = self.weights.share(self.t, getattr(self.inner, "taken", self.inner.rate))
        for p, old, point in zip(self.params, before, self.points, strict=True):
            p[...] = point.go(p - old, share, self.toward)
