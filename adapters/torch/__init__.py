"""samestep in PyTorch: every rule as a ``torch.optim.Optimizer``.

    from samestep.torch import Adan
    optimizer = Adan(model.parameters(), lr=1e-3)

Hyperparameters and options live in ``param_groups``, so that groups may differ and learning-rate
schedulers work. State is made at a parameter's first gradient, with ``zeros_like``, and kept as
plain tensors in ``state[param]``: the rule's slots by name, and ``step``. What a rule keeps for all
parameters together (Prodigy's ``d``) is in every group. Results are written into the parameter in
place; ``.grad`` is never touched.
"""

from __future__ import annotations

from typing import Any

from .. import native
from ..rule import Rule
from .optimizer import EXECUTIONS, RuleOptimizer, bind

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]


KEYWORDS = {"execution": "auto", "capturable": False}
"""What the classes take beside the rule's own arguments."""


def _native(rule: type[Rule]) -> type:
    def init(self: Any, params: Any, *args: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in KEYWORDS if name in kwargs}
        RuleOptimizer.__init__(self, rule(*args, **kwargs), params, **own)

    init.__qualname__ = rule.__name__
    derived = native.signature(rule, before=["params"], after=KEYWORDS)
    return type(rule.__name__, (RuleOptimizer,), {"__init__": init, "__signature__": derived})


__getattr__, __dir__ = native.serve(__name__, _native)
