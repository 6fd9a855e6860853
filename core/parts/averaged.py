"""Schedule-Free and primal averaging: the gradient is taken between two points.

    z = z + step                       where the steps go
    x = (1 - share) x + share z        their average, at which a model is evaluated
    y = (1 - toward) z + toward x      where the gradient is taken: the parameter

x is not kept; y moves by ``share (z - y) + (1 - toward (1 - share)) step``, with the old z.
"""

from __future__ import annotations

from typing import Any

from samestep.declaration import hyper, slot
from samestep.vocabulary import Move, at_least, initial_parameter, scalar, smaller

__all__ = ["averaged", "between", "lagging", "warmed", "weighed"]

Array = Any

POWERS = ("weight_power", "weight_lr_power")
"""Numbers that all weights so far have been made with."""

weight_lr_power = hyper(2.0, "power of the largest step size in the weight of z", unit="1", ge=0)
weight_power = hyper(0.0, "power of the step in the weight of z", unit="1", ge=0)
warmup_steps = hyper(0, "steps in which the step size grows to lr", unit="steps", ge=0, typical=4)

z = slot("where the steps go", init=initial_parameter)
weight_sum = slot("weights of all z, over that of the last", init=scalar)
lr_max = slot("largest step size so far", init=scalar)


def warmed(xp: Any, rule: Any, t: Any) -> Any:
    """The step size of step ``t`` of a rule with ``warmup_steps``."""
    return rule.lr * smaller(xp, 1.0, t / (rule.warmup_steps + (rule.warmup_steps == 0)))


def weighed(xp: Any, step_size: Any, state: Any, s: Any) -> tuple[Array, dict[str, Array]]:
    """The share of the new z in x, and the slots of the weights.

    The weight is ``t^weight_power lr_max^weight_lr_power``. Sums are kept over the last weight,
    so that equal weights are counted without rounding; ``s.aged`` is ``(1 - 1/t)^weight_power``.
    """
    lr_max = at_least(xp, state.lr_max, step_size)
    moves = lr_max > 0
    weighs = moves | (s.weight_lr_power == 0)
    ratio = xp.where(moves, state.lr_max / xp.where(moves, lr_max, 1.0), 1.0)
    total = 1 + s.aged * ratio**s.weight_lr_power * state.weight_sum
    share = xp.where(weighs, 1 / total, 0.0)
    return share, {"weight_sum": xp.where(weighs, total, 0.0), "lr_max": lr_max}


def between(change: Array, param: Array, z: Array, share: Any, along: Any) -> tuple[Move, Array]:
    """The move of the parameter, and the new z, for a step that changes z by ``change``.

    ``along`` is ``1 - toward (1 - share)``; see ``lagging``.
    """
    moved = share * (z - param) + along * change
    return Move(lambda: moved, lambda: param + moved), z + change


def lagging(share: Any, toward: tuple[Any, Any]) -> Any:
    """``1 - toward (1 - share)`` for ``weights(toward)``, without cancellation."""
    return toward[1] + toward[0] * share


def averaged(param: Array, z: Array, toward: Any) -> Array:
    """x, from y and z."""
    return param + (1 - 1 / toward) * (z - param)
