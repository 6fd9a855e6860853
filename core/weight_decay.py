"""Weight decay, each family written once.

| family | formula |
|---|---|
| ``l2`` | ``grad + weight_decay param`` before anything else (coupled) |
| ``decoupled`` | ``param (1 - lr weight_decay)``, then the step |
| ``absolute`` | ``param (1 - weight_decay)``, then the step |
| ``proximal`` | the step, then ``/ (1 + lr weight_decay)`` |
| ``in_update`` | ``direction + weight_decay param``, before a trust ratio where there is one |
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "FACTORS",
    "FAMILIES",
    "SAYS",
    "change",
    "decayed_direction",
    "decayed_gradient",
    "decayed_parameter",
    "descend",
    "later",
    "scalars",
    "waiting",
]

SAYS = {
    "l2": "adds weight_decay times the parameter to the gradient",
    "decoupled": "removes lr * weight_decay of the parameter, apart from the gradient",
    "absolute": "removes weight_decay of the parameter, not multiplied by lr",
    "proximal": "divides the parameter by 1 + lr * weight_decay after the step",
    "in_update": "adds weight_decay times the parameter to the update",
}
"""What a rule does with its weight decay, by family."""

FAMILIES = tuple(SAYS)

FACTORS = ("keep", "shrink", "lost")
"""Coefficients that only weight decay gives; see ``scalars``."""


def waiting(
    rule: Any, xp: Any, t: Any, family: str | None, found: dict[str, Any]
) -> dict[str, Any]:
    """The coefficients of step ``t`` of a rule whose first steps move nothing and decay nothing."""
    moves = later(xp, t, rule.waits)
    decay = moves * found.get("weight_decay", 0.0)
    own = scalars(family, moves * found.get("step_size", rule.lr), decay)
    if family == "in_update":  # a direction may keep what it decays by
        own["weight_decay"] = decay
    return {**found, **own, "rate": moves * found["rate"]}


def later(xp: Any, t: Any, step: int) -> Any:
    """1 if step ``t`` is later than ``step``, else 0; a factor of coefficients."""
    return float(t > step) if isinstance(t, int) else xp.astype(t > step, t.dtype)


def scalars(family: str | None, lr: Any, weight_decay: Any) -> dict[str, Any]:
    """The coefficients of a step: ``rate`` multiplies the direction.

    ``keep`` and ``shrink`` hold the factor of the parameter before the step and after it, or
    nothing where the family has no such factor. ``lost`` holds the share of the parameter that the
    decay takes away, before ``shrink``: 1 less ``keep`` would have its rounding error.
    """
    keep: tuple[Any, ...] = ()
    shrink: tuple[Any, ...] = ()
    lost: tuple[Any, ...] = ()
    if family == "decoupled":
        lost = (lr * weight_decay,)
        keep = (1 - lr * weight_decay,)
    if family == "absolute":
        lost = (weight_decay,)
        keep = (1 - weight_decay,)
    if family == "proximal":
        lost = (lr * weight_decay,)
        shrink = (1 / (1 + lr * weight_decay),)
    return {"rate": lr, "keep": keep, "shrink": shrink, "lost": lost}


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
    return _times(s.shrink, _times(s.keep, param) - s.rate * direction)


def change(param: Any, direction: Any, s: Any) -> Any:
    """The result of ``descend`` less the parameter, computed without subtracting the parameter."""
    moved = -s.rate * direction
    for share in s.lost:
        moved = moved if _is(share, 0) else moved - share * param
    return _times(s.shrink, moved)


def _times(factors: tuple[Any, ...], param: Any) -> Any:
    """The parameter times a factor; unchanged where there is none, or where it is known to be 1."""
    for factor in factors:
        param = param if _is(factor, 1) else factor * param
    return param


def _is(coefficient: Any, number: float) -> bool:
    """Whether a coefficient is known to be that number, so that nothing needs to be computed."""
    return isinstance(coefficient, (int, float)) and coefficient == number
