"""Weight decay, each family written once.

| family | formula |
|---|---|
| ``l2`` | ``grad + weight_decay param`` before anything else (coupled) |
| ``decoupled`` | ``param (1 - lr weight_decay)``, then the step |
| ``absolute`` | ``param (1 - weight_decay)``, then the step |
| ``proximal`` | the step, then ``/ (1 + lr weight_decay)`` |
| ``in_update`` | ``direction + weight_decay param``, before a trust ratio where there is one |
| ``l2+proximal`` | both; what one library does by mistake |
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "FAMILIES",
    "SAYS",
    "decayed_direction",
    "decayed_gradient",
    "decayed_parameter",
    "descend",
    "scalars",
]

SAYS = {
    "l2": "adds weight_decay times the parameter to the gradient",
    "decoupled": "removes lr * weight_decay of the parameter, apart from the gradient",
    "absolute": "removes weight_decay of the parameter, not multiplied by lr",
    "proximal": "divides the parameter by 1 + lr * weight_decay after the step",
    "in_update": "adds weight_decay times the parameter to the update",
    "l2+proximal": "decays twice: in the gradient, and by division after the step",
}
"""What a rule does with its weight decay, by family."""

FAMILIES = tuple(SAYS)


def scalars(family: str | None, lr: Any, weight_decay: Any) -> dict[str, Any]:
    """The coefficients that a family needs, once per step; ``rate`` multiplies the direction."""
    found = {"rate": lr}
    if family == "decoupled":
        found["keep"] = 1 - lr * weight_decay
    if family == "absolute":
        found["keep"] = 1 - weight_decay
    if family in ("proximal", "l2+proximal"):
        found["shrink"] = 1 / (1 + lr * weight_decay)
    return found


def decayed_gradient(family: str | None, grad: Any, param: Any, s: Any) -> Any:
    """The gradient, with the decay of the coupled families."""
    coupled = family in ("l2", "l2+proximal") and not _is(s.weight_decay, 0)
    return grad + s.weight_decay * param if coupled else grad


def decayed_direction(family: str | None, direction: Any, param: Any, s: Any) -> Any:
    """The direction, with the decay of the in-update family."""
    inside = family == "in_update" and "keep" not in s and not _is(s.weight_decay, 0)
    return direction + s.weight_decay * param if inside else direction


def decayed_parameter(param: Any, s: Any) -> Any:
    """The parameter that the step starts from: smaller where the decay comes before the step."""
    return _times(s, "keep", param)


def descend(param: Any, direction: Any, s: Any) -> Any:
    """The parameter after a step of ``s.rate`` against the direction, with the decay around it."""
    return _times(s, "shrink", _times(s, "keep", param) - s.rate * direction)


def _times(s: Any, coefficient: str, param: Any) -> Any:
    """The parameter times a coefficient, which may be missing or known to be 1."""
    factor = vars(s).get(coefficient, 1)
    return param if isinstance(factor, (int, float)) and factor == 1 else factor * param


def _is(coefficient: Any, number: float) -> bool:
    """Whether a coefficient is known to be that number, so that nothing needs to be computed."""
    return isinstance(coefficient, (int, float)) and coefficient == number
