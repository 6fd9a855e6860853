"""samestep in MLX: every rule as an ``mlx.optimizers.Optimizer``.

    from samestep.mlx import Adan
    optimizer = Adan(lr=1e-3)
    optimizer.update(model, grads)

``state`` has MLX's form: ``step``, ``learning_rate``, and under every parameter's path a dict of
the rule's slots. State that all parameters share is under ``shared_state``. A parameter must not
have one of these three names. State is made from the parameters, never from gradients, at the first
step with their gradients, so layers may be thawed during training.

Every hyperparameter may be a schedule: of MLX, of samestep, or any callable of the step. Numbers
are attributes, such as ``optimizer.betas``. Except for the learning rate they are constants inside
``mx.compile``, as in MLX's own optimizers. A route has no ``learning_rate``; its rules have.

Outside ``mx.compile`` the step is known and scalars are computed on the host in float64. In a
training step compiled with ``inputs=state, outputs=state``, scalars are traced, in a form without
cancellation.
"""

from __future__ import annotations

from samestep import native

from .creating import create
from .natives import from_state
from .optimizer import EXECUTIONS, RuleOptimizer, bind
from .recording import recorder

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind", "create", "from_state", "recorder"]

KEYWORDS = {"execution": "auto", "group": None, "shards": None}


__getattr__, __dir__ = native.serve(__name__, RuleOptimizer, keywords=KEYWORDS)
