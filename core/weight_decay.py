"""Weight decay, each family written once.

| family | formula |
|---|---|
| ``l2`` | ``grad + weight_decay param`` before anything else (coupled) |
| ``decoupled`` | ``param (1 - lr weight_decay)``, then the step |
| ``proximal`` | the step, then ``/ (1 + lr weight_decay)`` |
| ``in_update`` | ``direction + weight_decay param``, before a trust ratio where there is one |
"""

from __future__ import annotations

from typing import Any

__all__ = ["FAMILIES", "decayed_direction", "decayed_gradient", "descend", "scalars"]

FAMILIES = ("l2", "decoupled", "proximal", "in_update")


def scalars(family: str | None, lr: Any, weight_decay: Any) -> dict[str, Any]:
    """The coefficients that a family needs, once per step."""
    if family == "decoupled":
        return {"keep": 1 - lr * weight_decay}
    if family == "proximal":
        return {"shrink": 1 / (1 + lr * weight_decay)}
    return {}


def decayed_gradient(family: str | None, grad: Any, param: Any, s: Any) -> Any:
    """The gradient, with the decay of the coupled family."""
    return grad + s.weight_decay * param if family == "l2" else grad


def decayed_direction(family: str | None, direction: Any, param: Any, s: Any) -> Any:
    """The direction, with the decay of the in-update family."""
    return direction + s.weight_decay * param if family == "in_update" else direction


def descend(family: str | None, param: Any, direction: Any, s: Any) -> Any:
    """The parameter after a step of ``lr`` against the direction, with decoupled decay."""
    step = s.lr * direction
    if family == "decoupled":
        return s.keep * param - step
    if family == "proximal":
        return s.shrink * (param - step)
    return param - step
