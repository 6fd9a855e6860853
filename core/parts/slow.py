"""Slow weights, which follow another rule every few steps."""

from __future__ import annotations

from typing import Any

from samestep.declaration import slot
from samestep.vocabulary import Move, choose, initial_parameter

__all__ = ["followed"]

slow = slot("slow weights", init=initial_parameter)


def followed(xp: Any, move: Move, slow: Any, param: Any, sync: Any, rate: Any) -> tuple[Move, Any]:
    """The move, and the new slow weights.

    Where ``sync`` holds, the slow weights go the share ``rate`` of the way to the weights of
    ``move``, and the move is to there. Its change is measured from the parameter.
    """

    def toward(slow: Any, fast: Any) -> Any:
        return slow + rate * (fast - slow)

    new = choose(xp, sync, lambda: toward(slow, move.param), slow)
    synced = Move(
        lambda: choose(xp, sync, lambda: toward(slow - param, move.change), lambda: move.change),
        lambda: choose(xp, sync, new, lambda: move.param),
    )
    return synced, new
