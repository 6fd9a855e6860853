"""samestep in JAX: every rule as an ``optax.GradientTransformationExtraArgs``.

    from samestep.jax import Adan
    optimizer = Adan(lr=1e-3)
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)

The state is a ``samestep.State``: an int32 count, one tree shaped like the parameters per slot, and
0-d arrays shared by all. It is a pytree whose dtypes never change. ``update`` returns differences,
as optax wants; adding one to the parameter rounds once more, by at most 1 ULP of the larger of
parameter and update. ``optimizer.rule.update(grads, params, state)`` returns parameters, exactly.

Outside ``jit`` the count is known and scalars are computed on the host in float64. Under ``jit``
they are traced, in a form without cancellation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import native
from ..execution import EXECUTIONS
from ..rule import Rule
from .transformation import RuleTransformation, bind

__all__ = ["EXECUTIONS", "RuleTransformation", "bind"]


def _native(rule: type[Rule]) -> Callable[..., RuleTransformation]:
    def transformation(*args: Any, execution: str = "auto", **kwargs: Any) -> RuleTransformation:
        return bind(rule(*args, **kwargs), execution=execution)

    derived = native.signature(rule, after={"execution": "auto"})
    transformation.__signature__ = derived  # type: ignore[attr-defined]
    return transformation


__getattr__, __dir__ = native.serve(__name__, _native)
