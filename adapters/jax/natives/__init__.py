"""The states of optax's own transformations as a ``Checkpoint``, and back.

    saved = samestep.checkpoint(samestep.AdamW(lr=1e-3, like="optax"), params, optax_state)
    optax_state = samestep.jax.to_optax(saved, optax_state, params)

A transformation of optax is a closure that tells no numbers, so the rule is given. Its part of the
state is found by type, wherever it is: in chains, ``inject_hyperparams``, ``partition`` (alias
``multi_transform``), ``masked``, ``MultiSteps`` (``Accumulate``), ``lookahead`` (``Lookahead``) and
``apply_if_finite``. The state of a transformation of samestep's among optax's is found likewise.
Every parameter must be found once for each slot of its rule; a ``samestep.route``, or a rule per
label, serves ``partition``.

``tables`` has the place of each slot in optax, and ``making`` the function of each rule.
``nodes`` takes a state apart; ``rules_given`` says which rule each parameter has, and ``finding``
the ``places`` of its slots; ``counting`` and ``injected`` have steps and numbers, both ways;
``state_reading`` and ``state_writing`` are the two directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import optax  # type: ignore[import-untyped]  # ships no types

from samestep.checkpoints.state import Checkpoint

from .making import MAKERS
from .nodes import field_of
from .state_reading import from_optax
from .state_writing import to_optax, to_optax_params
from .tables import KEPT, SHARED

__all__ = [
    "KEPT",
    "MAKERS",
    "SHARED",
    "checkpoint",
    "counterpart",
    "field_of",
    "from_optax",
    "restore",
    "to_optax",
    "to_optax_params",
]


def counterpart(rule: str, values: Mapping[str, Any], dtype: str = "float32") -> partial[Any]:
    """The call that makes the transformation of optax that computes the same as a rule.

    Raises:
        LookupError: optax has no such transformation.
    """
    if rule not in MAKERS:
        raise LookupError(f"optax has no transformation that computes {rule}")
    return partial(MAKERS[rule], optax, values)


def checkpoint(rule: Any, params: Any = None, state: Any = None) -> Checkpoint:
    """The same as ``from_optax``, which also takes a step count."""
    return from_optax(rule, params, state)


def restore(optimizer: Any, saved: Checkpoint, params: Any = None) -> Any:
    """Refused, since a transformation of optax holds no state.

    Raises:
        TypeError: always; the message says what to call.
    """
    raise TypeError(
        "a transformation of optax holds no state; samestep.jax.to_optax(checkpoint, state, "
        "params) gives a state like the one given"
    )
