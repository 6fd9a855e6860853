"""samestep: the same optimizer step on every framework.

    rule = samestep.Adan(lr=1e-3)
    state = rule.init(params)
    params, state = rule.update(grads, params, state)

Every rule works on arrays of NumPy, torch, JAX, MLX or any other library that follows the Python
Array API standard. ``samestep.torch``, ``samestep.jax`` and ``samestep.mlx`` make native optimizers
of the same rules.
"""

from . import rules, schedules
from .averaging import averaged, swapped
from .checkpoint import Checkpoint, CheckpointError, Map, checkpoint, load, restore, save
from .declaration import Initial, hyper, option, shared, slot
from .dialects import preset
from .functional import Triple, TripleState, pack_state, triple, unpack_state
from .gradients import clip_grads, l2_norm
from .groups import Parameter
from .route import Where, route
from .rule import Rule, State, registry
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
from .wrapper import Wrapper

__all__ = [  # noqa: PLE0604
    *rules.__all__,
    "Checkpoint",
    "CheckpointError",
    "Initial",
    "Map",
    "Parameter",
    "Rule",
    "State",
    "Triple",
    "TripleState",
    "Where",
    "Wrapper",
    "averaged",
    "checkpoint",
    "choose",
    "clip_grads",
    "debias",
    "ema",
    "hyper",
    "initial_parameter",
    "l2_norm",
    "load",
    "norm",
    "option",
    "pack_state",
    "per_axis",
    "preset",
    "registry",
    "restore",
    "route",
    "save",
    "schedules",
    "shared",
    "sign",
    "slot",
    "swapped",
    "triple",
    "unpack_state",
    "weights",
]
__version__ = "0.1.0"
