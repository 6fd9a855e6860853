"""samestep in MLX: every rule as an ``mlx.optimizers.Optimizer``.

    from samestep.mlx import Adan
    optimizer = Adan(lr=1e-3)
    optimizer.update(model, grads)

``state`` is MLX's: ``step``, ``learning_rate``, and under every parameter's path a dict of the
rule's slots; what a rule keeps for all parameters together is under ``shared_state``. State is made
from the parameters, never from gradients. Other hyperparameters are attributes, such as
``optimizer.betas``, and as with MLX's own they are constants inside ``mx.compile``.

Outside ``mx.compile`` the step is known and scalars are computed on the host in float64. In a
training step compiled with ``inputs=state, outputs=state`` they are traced, in a form without
cancellation.
"""

from __future__ import annotations

from typing import Any

from .. import native
from ..rule import Rule
from .optimizer import EXECUTIONS, RuleOptimizer, bind

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]


def _native(rule: type[Rule]) -> type:
    def init(self: Any, *args: Any, execution: str = "auto", **kwargs: Any) -> None:
        RuleOptimizer.__init__(self, rule(*args, **kwargs), execution=execution)

    init.__qualname__ = rule.__name__
    derived = native.signature(rule, after={"execution": "auto"})
    return type(rule.__name__, (RuleOptimizer,), {"__init__": init, "__signature__": derived})


__getattr__, __dir__ = native.serve(__name__, _native)
