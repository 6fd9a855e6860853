"""samestep: the same optimizer step on every framework.

    rule = samestep.Adan(lr=1e-3)
    state = rule.init(params)
    params, state = rule.update(grads, params, state)

Every rule works on arrays of NumPy, torch, JAX, MLX or any other library that follows the Python
Array API standard. ``samestep.torch``, ``samestep.jax`` and ``samestep.mlx`` make native optimizers
of the same rules.
"""

from importlib import import_module
from typing import Any

from . import recipes, rules, schedules
from .attention import qk_clip
from .averaging import averaged, swapped
from .conditions import Where
from .creating import create
from .declaration import Initial, hyper, option, shared, slot
from .dialects import preset
from .functional import Triple, TripleState, pack_state, triple, unpack_state
from .gradients import clip_grads, l2_norm
from .groups import Parameter
from .routes import route
from .rule import Rule, State, registry
from .rules import *  # noqa: F403  (the names are discovered, one per file)
from .spelling import did_you_mean as _did_you_mean
from .version import __version__ as __version__
from .vocabulary import (
    choose,
    debias,
    ema,
    initial_parameter,
    norm,
    per_axis,
    precision,
    sign,
    weights,
)
from .wrapper import Wrapper

CHECKPOINTS = ("Checkpoint", "CheckpointError", "Map", "checkpoint", "load", "restore", "save")
"""Public names that samestep.checkpoints has, which is built on the core."""
PACKAGES = (
    "benchmarks",
    "checkpoints",
    "command_line",
    "conformance",
    "jax",
    "keras",
    "mlx",
    "parity",
    "recording",
    "replay",
    "torch",
)
"""The packages that are built on the core; each is imported when it is first used."""

__all__ = [  # noqa: PLE0604
    *rules.__all__,
    *CHECKPOINTS,
    "Initial",
    "Parameter",
    "Rule",
    "State",
    "Triple",
    "TripleState",
    "Where",
    "Wrapper",
    "averaged",
    "choose",
    "clip_grads",
    "create",
    "debias",
    "ema",
    "hyper",
    "initial_parameter",
    "l2_norm",
    "norm",
    "option",
    "pack_state",
    "per_axis",
    "precision",
    "preset",
    "qk_clip",
    "recipes",
    "registry",
    "route",
    "schedules",
    "shared",
    "sign",
    "slot",
    "swapped",
    "triple",
    "unpack_state",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in CHECKPOINTS:
        return getattr(import_module("samestep.checkpoints"), name)
    if name in PACKAGES:
        return import_module(f"samestep.{name}")
    meant = _did_you_mean(name, __dir__())
    raise AttributeError(f"module 'samestep' has no attribute {name!r}{meant}")


def __dir__() -> list[str]:
    return [*__all__, *PACKAGES, "__version__"]
