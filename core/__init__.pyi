# Written by python -m samestep.conformance.stubs from the declarations of the rules.
"""samestep: the same optimizer step on every framework.

    rule = samestep.Adan(lr=1e-3)
    state = rule.init(params)
    params, state = rule.update(grads, params, state)

Every rule works on arrays of NumPy, torch, JAX, MLX or any other library that follows the Python
Array API standard. ``samestep.torch``, ``samestep.jax`` and ``samestep.mlx`` make native optimizers
of the same rules.
"""

from . import rules as rules
from .declaration import Initial as Initial
from .declaration import hyper as hyper
from .declaration import option as option
from .declaration import shared as shared
from .declaration import slot as slot
from .rule import Rule as Rule
from .rule import State as State
from .rule import Wrapper as Wrapper
from .rule import registry as registry
from .rules import Adam as Adam
from .rules import AdamW as AdamW
from .rules import Adan as Adan
from .rules import LAMB as LAMB
from .rules import Lion as Lion
from .rules import Lookahead as Lookahead
from .rules import Muon as Muon
from .rules import Prodigy as Prodigy
from .rules import SGD as SGD
from .rules import SM3 as SM3
from .vocabulary import choose as choose
from .vocabulary import debias as debias
from .vocabulary import ema as ema
from .vocabulary import initial_parameter as initial_parameter
from .vocabulary import norm as norm
from .vocabulary import per_axis as per_axis
from .vocabulary import sign as sign
from .vocabulary import weights as weights

__all__ = [
    "Adam",
    "AdamW",
    "Adan",
    "LAMB",
    "Lion",
    "Lookahead",
    "Muon",
    "Prodigy",
    "SGD",
    "SM3",
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

__version__: str
