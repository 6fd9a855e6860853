"""samestep: the same optimizer step on every framework.

    rule = samestep.Adan(lr=1e-3)
    state = rule.init(params)
    params, state = rule.update(grads, params, state)

Every rule works on arrays of NumPy, torch, JAX, MLX or any other library that follows the Python
Array API standard. ``samestep.torch``, ``samestep.jax`` and ``samestep.mlx`` make native optimizers
of the same rules.
"""

from . import rules
from .declaration import Initial, hyper, option, shared, slot
from .rule import Rule, State, Wrapper, registry
from .rules import *  # noqa: F403  (the names are discovered, one per file)
from .vocabulary import (
    choose,
    debias,
    ema,
    initial_parameter,
    norm,
    per_axis,
    sign,
    weights,
)

__all__ = [  # noqa: PLE0604
    *rules.__all__,
    "Initial",
    "Rule",
    "State",
    "Wrapper",
    "choose",
    "debias",
    "ema",
    "hyper",
    "initial_parameter",
    "norm",
    "option",
    "per_axis",
    "registry",
    "shared",
    "sign",
    "slot",
    "weights",
]
__version__ = "0.1.0"
