"""Weight decay, each family written once.

| family | formula |
|---|---|
| ``l2`` | ``grad + weight_decay param`` before anything else (coupled) |
| ``decoupled`` | ``param (1 - lr weight_decay)``, then the step |
| ``absolute`` | ``param (1 - weight_decay)``, then the step |
| ``proximal`` | the step, then ``/ (1 + lr weight_decay)`` |
| ``in_update`` | ``direction + weight_decay param``, before a trust ratio where there is one |
| ``post`` | the step, then ``(1 - lr weight_decay)`` times the result |
| ``cautious`` | as ``decoupled``, where ``direction param >= 0`` |
| ``corrected`` | ``param (1 - lr^2 / peak_lr weight_decay)``, then the step |
| ``relative`` | ``param (1 - lr / peak_lr weight_decay)``, then the step |

``cautious`` is that of arXiv 2510.12402, where a library may leave out the elements that do not
move. ``corrected`` is AdamC's, arXiv 2506.02285, which means it for layers before a normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .declaration import hyper, option

__all__ = [
    "FACTORS",
    "FAMILIES",
    "OF_PEAK",
    "SAYS",
    "change",
    "decayed_direction",
    "decayed_gradient",
    "decayed_parameter",
    "descend",
    "later",
    "masked",
    "of_schedule",
    "peak_of",
    "refuse_peakless",
    "scalars",
    "waiting",
]

SAYS = {
    "l2": "adds weight_decay times the parameter to the gradient",
    "decoupled": "removes lr * weight_decay of the parameter, apart from the gradient",
    "absolute": "removes weight_decay of the parameter, not multiplied by lr",
    "proximal": "divides the parameter by 1 + lr * weight_decay after the step",
    "in_update": "adds weight_decay times the parameter to the update",
    "post": "removes lr * weight_decay of the parameter after the step",
    "cautious": "removes lr * weight_decay of what no step moves away from zero",
    "corrected": "removes lr^2 / peak_lr * weight_decay of the parameter",
    "relative": "removes lr / peak_lr * weight_decay of the parameter",
}
"""What a rule does with its weight decay, by family."""

FAMILIES = tuple(SAYS)

weight_decay = hyper(
    0.0,
    "strength of weight decay, which enters as decay says",
    unit="1/lr, or gradient/parameter with l2",
    ge=0,
    typical=0.1,
)
peak_lr = hyper(
    None, "largest lr, for decay relative to it; None is that of its schedule", unit="lr", gt=0
)
decay = option("decoupled", "how weight decay enters", choices=FAMILIES, says=SAYS)

OF_PEAK = ("corrected", "relative")
"""The families that need the largest step size."""

FACTORS = ("keep", "shrink", "lost")
"""Coefficients that only weight decay gives; see ``scalars``."""


def waiting(
    rule: Any, xp: Any, t: Any, family: str | None, found: dict[str, Any]
) -> dict[str, Any]:
    """The coefficients of step ``t`` of a rule whose first steps move nothing and decay nothing."""
    moves = later(xp, t, rule.waits)
    decay = moves * found.get("weight_decay", 0.0)
    own = scalars(family, moves * found.get("step_size", rule.lr), decay, rule.peak_lr)
    if family == "in_update":  # a direction may keep what it decays by
        own["weight_decay"] = decay
    return {**found, **own, "rate": moves * found["rate"]}


def later(xp: Any, t: Any, step: int) -> Any:
    """1 if step ``t`` is later than ``step``, else 0; a factor of coefficients."""
    return float(t > step) if isinstance(t, int) else xp.astype(t > step, t.dtype)


def scalars(family: str | None, lr: Any, weight_decay: Any, peak: Any = None) -> dict[str, Any]:
    """The coefficients of a step: ``rate`` multiplies the direction.

    ``keep`` and ``shrink`` hold the factor of the parameter before the step and after it, or
    nothing where the family has no such factor. ``lost`` holds the share of the parameter that the
    decay takes away: 1 less ``keep`` would have its rounding error.
    """
    keep: tuple[Any, ...] = ()
    shrink: tuple[Any, ...] = ()
    lost: tuple[Any, ...] = ()
    share = weight_decay if family == "absolute" else lr * weight_decay
    if family in OF_PEAK:
        share = lr / peak * (share if family == "corrected" else weight_decay)
    if family in ("decoupled", "absolute", *OF_PEAK):
        lost, keep = (share,), (1 - share,)
    if family == "cautious":  # which of it is lost is known with the direction
        lost = (share,)
    if family == "post":
        lost, shrink = (share,), (1 - share,)
    if family == "proximal":
        shrink = (1 / (1 + share),)
        lost = (share * shrink[0],)
    return {"rate": lr, "keep": keep, "shrink": shrink, "lost": lost}


def refuse_peakless(rule: Any) -> None:
    """Raise if the family needs the largest step size, and it is neither given nor known."""
    values = rule._values
    if values.get("decay") not in OF_PEAK:
        return
    lr, peak = values["lr"], peak_of(values)
    if isinstance(lr, (int, float)) and isinstance(peak, (int, float)) and lr > peak * (1 + 1e-6):
        raise ValueError(
            f"{rule.name}(decay={rule.decay!r}): lr is {lr!r}, which is more than the largest step "
            f"size, peak_lr={peak!r}"
        )
    if peak is None:
        raise ValueError(
            f"{rule.name}(decay={rule.decay!r}): the largest step size is not known, and other "
            "code may change lr; give it as peak_lr, or give lr as a schedule of samestep"
        )


def of_schedule(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of numbers that the schedule of the step size knows: the largest one, if it is used."""
    used = values.get("decay") in OF_PEAK and values["peak_lr"] is None
    return ("peak_lr",) if used and callable(values["lr"]) else ()


def peak_of(values: Mapping[str, Any]) -> Any:
    """The largest step size: what is given, or else what the schedule knows."""
    peak = values["peak_lr"]
    try:
        return getattr(values["lr"], "peak", None) if peak is None else peak
    except OverflowError:  # it rises for ever
        return None


def masked(xp: Any, direction: Any, param: Any, s: Any) -> Any:
    """The coefficients, with decay of the elements only that the step moves to zero, or leaves."""
    if _is(s.weight_decay, 0):
        return s
    toward = xp.where(direction * param >= 0, xp.ones_like(param), 0.0)
    found = type(s)({})
    lost = tuple(share * toward for share in s.lost)
    keep = tuple(1 - share for share in lost)
    vars(found).update({**vars(s), "keep": keep, "lost": lost})
    return found


def decayed_gradient(family: str | None, grad: Any, param: Any, s: Any) -> Any:
    """The gradient, with the decay of the coupled family."""
    coupled = family == "l2" and not _is(s.weight_decay, 0)
    return grad + s.weight_decay * param if coupled else grad


def decayed_direction(family: str | None, direction: Any, param: Any, s: Any) -> Any:
    """The direction, with the decay of the in-update family.

    A rule whose direction is not multiplied by lr decays by ``keep`` instead.
    """
    inside = family == "in_update" and not s.keep and not _is(s.weight_decay, 0)
    return direction + s.weight_decay * param if inside else direction


def decayed_parameter(param: Any, s: Any) -> Any:
    """The parameter that the step starts from: smaller where the decay comes before the step."""
    return _times(s.keep, param)


def descend(param: Any, direction: Any, s: Any) -> Any:
    """The parameter after a step of ``s.rate`` against the direction, with the decay around it."""
    return _times(s.shrink, _times(s.keep, param) - _times((s.rate,), direction))


def change(param: Any, direction: Any, s: Any) -> Any:
    """The result of ``descend`` less the parameter, computed without subtracting the parameter."""
    moved = _times(s.shrink, -s.rate * direction)
    for share in s.lost:
        moved = moved if _is(share, 0) else moved - share * param
    return moved


def _times(factors: tuple[Any, ...], param: Any) -> Any:
    """The parameter times a factor; unchanged where there is none, or where it is known to be 1."""
    for factor in factors:
        param = param if _is(factor, 1) else factor * param
    return param


def _is(coefficient: Any, number: float) -> bool:
    """Whether a coefficient is known to be that number, so that nothing needs to be computed."""
    return isinstance(coefficient, (int, float)) and coefficient == number
