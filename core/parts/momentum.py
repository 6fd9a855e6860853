"""Momentum, in every form that libraries give it, on whatever a rule would move along."""

from __future__ import annotations

from typing import Any

from samestep.declaration import hyper, option, slot
from samestep.rule import Rule
from samestep.vocabulary import choose

__all__ = ["Momentum"]

Array = Any


class Momentum(Rule, register=False):
    """A rule whose steps gather speed.

        m = momentum m + (1 - dampening) u     (form "mean": (1 - momentum) u)
        and the step goes along m; with nesterov, along u + momentum m

    with u what the rule would move along, times lr where ``lr_at`` is ``"inside"``.
    """

    momentum = hyper(0.0, "decay per step of m", unit="1/step", ge=0, lt=1, typical=0.9)
    dampening = hyper(0.0, "part of a step kept out of m", unit="1", ge=0, le=1)
    nesterov = option(False, "look one step of momentum ahead")
    momentum_form = option(
        "sum", "m is a decaying sum of steps, or their mean", choices=("sum", "mean")
    )
    momentum_start = option(
        "zero", "m before the first step is zero, or the first step", choices=("zero", "gradient")
    )
    lr_at = option("outside", "lr multiplies m, or what goes into m", choices=("outside", "inside"))

    m = slot("momentum", only_if="momentum")

    def validate(self) -> None:
        """Refuse what excludes each other."""
        if self.nesterov and not (self._on("momentum") and self.dampening == 0):
            raise ValueError(
                f"{self.name}(nesterov=True, momentum={self.momentum!r}, "
                f"dampening={self.dampening!r}): nesterov needs momentum > 0 and dampening = 0"
            )
        if self.momentum_form == "mean" and self.dampening != 0:
            raise ValueError(
                f"{self.name}(momentum_form='mean', dampening={self.dampening!r}): a mean is "
                "dampened by 1 - momentum; dampening must be 0"
            )

    def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
        """The weight of a new step; ``rate`` is 1 where lr is in m already."""
        damped = self.momentum if self.momentum_form == "mean" else self.dampening
        inside = {"rate": 1.0} if self.lr_at == "inside" else {}
        return {"first": t == 1, "fresh": 1 - damped, **inside}

    def accelerated(self, xp: Any, step: Array, state: Any, s: Any) -> tuple[Array, dict[str, Any]]:
        """The direction with momentum, and the new m if there is one."""
        step = s.lr * step if self.lr_at == "inside" else step
        if not hasattr(state, "m"):
            return step, {}
        fresh = s.fresh * step
        m = s.momentum * state.m + fresh
        if self.momentum_start == "gradient":
            m = choose(xp, s.first, step, m)
        return (fresh + s.momentum * m if self.nesterov else m), {"m": m}
