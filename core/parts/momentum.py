"""Momentum, in every form that libraries have.

    m = momentum m + (1 - dampening) u     (form "mean": (1 - momentum) u)
    the direction is m; with nesterov, it is u + momentum m

u is the direction without momentum, times lr if ``lr_at`` is ``"inside"``. A rule takes over the
declarations, ``refuse_momentum`` as its ``validate`` and ``gains`` as its ``scalars``, and calls
``accelerated`` in its ``direction``.
"""

from __future__ import annotations

from typing import Any

from samestep.declaration import hyper, option, slot
from samestep.vocabulary import choose, kept

__all__ = ["accelerated", "first", "gains", "refuse_momentum"]

Array = Any

momentum = hyper(0.0, "decay per step of m", unit="1/step", ge=0, lt=1, typical=0.9)
dampening = hyper(0.0, "part of a step kept out of m", unit="1", ge=0, le=1)
nesterov = option(
    False,
    "look one step of momentum ahead",
    says={True: "looks one step of momentum ahead", False: "does not look ahead"},
)
momentum_form = option(
    "sum",
    "m is a decaying sum of steps, or their mean",
    choices=("sum", "mean"),
    says={
        "sum": "keeps a decaying sum of the steps as momentum",
        "mean": "keeps a mean of the steps as momentum",
    },
)
momentum_start = option(
    "zero",
    "m before the first step is zero, or the first step",
    choices=("zero", "gradient"),
    says={
        "zero": "starts the momentum at zero",
        "gradient": "starts the momentum at the first gradient",
    },
)
lr_at = option(
    "outside",
    "lr multiplies m, or what goes into m",
    choices=("outside", "inside"),
    says={
        "outside": "multiplies by lr after the momentum",
        "inside": "multiplies by lr before the momentum",
    },
)

m = slot("momentum", only_if="momentum")


def refuse_momentum(rule: Any) -> None:
    """Raise for options that exclude each other."""
    if rule.nesterov and not (rule._on("momentum") and rule.dampening == 0):
        raise ValueError(
            f"{rule.name}(nesterov=True, momentum={rule.momentum!r}, "
            f"dampening={rule.dampening!r}): nesterov needs momentum > 0 and dampening = 0"
        )
    if rule.momentum_form == "mean" and rule.dampening != 0:
        raise ValueError(
            f"{rule.name}(momentum_form='mean', dampening={rule.dampening!r}): a mean is "
            "dampened by 1 - momentum; dampening must be 0"
        )


def first(rule: Any, t: Any) -> Any:
    """Whether m begins: at the first step, or at the first one with momentum after some without."""
    return rule._begins or t == 1


def gains(rule: Any, xp: Any, t: Any) -> dict[str, Any]:
    """``first``, and ``fresh``, the weight of a new step; ``rate`` is 1 if lr is inside m."""
    damped = rule.momentum if rule.momentum_form == "mean" else rule.dampening
    inside = {"rate": 1.0} if rule.lr_at == "inside" else {}
    return {"first": first(rule, t), "fresh": 1 - damped, **inside}


def accelerated(
    rule: Any, xp: Any, step: Array, state: Any, s: Any
) -> tuple[Array, dict[str, Any]]:
    """The direction with momentum, and the new m if the rule keeps one."""
    step = s.lr * step if rule.lr_at == "inside" else step
    if not kept(rule, "m", state):
        return step, {}
    fresh = s.fresh * step
    m = s.momentum * state.m + fresh
    if rule.momentum_start == "gradient":
        m = choose(xp, s.first, step, m)
    return (fresh + s.momentum * m if rule.nesterov else m), {"m": m}
