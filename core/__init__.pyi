# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules.
"""samestep: the same optimizer step on every framework.

    rule = samestep.Adan(lr=1e-3)
    state = rule.init(params)
    params, state = rule.update(grads, params, state)

Every rule works on arrays of NumPy, torch, JAX, MLX or any other library that follows the Python
Array API standard. ``samestep.torch``, ``samestep.jax`` and ``samestep.mlx`` make native optimizers
of the same rules.
"""

from samestep.checkpoints import Checkpoint as Checkpoint
from samestep.checkpoints import CheckpointError as CheckpointError
from samestep.checkpoints import Map as Map
from samestep.checkpoints import checkpoint as checkpoint
from samestep.checkpoints import load as load
from samestep.checkpoints import restore as restore
from samestep.checkpoints import save as save
from . import rules as rules
from . import schedules as schedules
from .averaging import averaged as averaged
from .averaging import swapped as swapped
from .declaration import Initial as Initial
from .declaration import hyper as hyper
from .declaration import option as option
from .declaration import shared as shared
from .declaration import slot as slot
from .dialects import preset as preset
from .functional import Triple as Triple
from .functional import TripleState as TripleState
from .functional import pack_state as pack_state
from .functional import triple as triple
from .functional import unpack_state as unpack_state
from .gradients import clip_grads as clip_grads
from .gradients import l2_norm as l2_norm
from .groups import Parameter as Parameter
from .routes import Where as Where
from .routes import route as route
from .rule import Rule as Rule
from .rule import State as State
from .rule import registry as registry
from .rules import AMSGrad as AMSGrad
from .rules import Accumulate as Accumulate
from .rules import AdEMAMix as AdEMAMix
from .rules import AdaBelief as AdaBelief
from .rules import AdaDelta as AdaDelta
from .rules import Adafactor as Adafactor
from .rules import Adagrad as Adagrad
from .rules import Adam as Adam
from .rules import AdamP as AdamP
from .rules import AdamW as AdamW
from .rules import Adamax as Adamax
from .rules import Adan as Adan
from .rules import AdaptiveClip as AdaptiveClip
from .rules import Average as Average
from .rules import Cautious as Cautious
from .rules import Centralize as Centralize
from .rules import ClipGlobalNorm as ClipGlobalNorm
from .rules import ClipNorm as ClipNorm
from .rules import ClipValue as ClipValue
from .rules import LAMB as LAMB
from .rules import LARS as LARS
from .rules import Lion as Lion
from .rules import Lookahead as Lookahead
from .rules import Muon as Muon
from .rules import NAdam as NAdam
from .rules import Prodigy as Prodigy
from .rules import RAdam as RAdam
from .rules import RMSprop as RMSprop
from .rules import RaLars as RaLars
from .rules import Rprop as Rprop
from .rules import SGD as SGD
from .rules import SM3 as SM3
from .rules import Scout as Scout
from .rules import SignSGD as SignSGD
from .rules import Signum as Signum
from .rules import SkipNonFinite as SkipNonFinite
from .rules import TAdam as TAdam
from .rules import Yogi as Yogi
from .vocabulary import choose as choose
from .vocabulary import debias as debias
from .vocabulary import ema as ema
from .vocabulary import initial_parameter as initial_parameter
from .vocabulary import norm as norm
from .vocabulary import per_axis as per_axis
from .vocabulary import sign as sign
from .vocabulary import weights as weights
from .wrapper import Wrapper as Wrapper

__all__ = [
    "AMSGrad",
    "Accumulate",
    "AdEMAMix",
    "AdaBelief",
    "AdaDelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamP",
    "AdamW",
    "Adamax",
    "Adan",
    "AdaptiveClip",
    "Average",
    "Cautious",
    "Centralize",
    "ClipGlobalNorm",
    "ClipNorm",
    "ClipValue",
    "LAMB",
    "LARS",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "RaLars",
    "Rprop",
    "SGD",
    "SM3",
    "Scout",
    "SignSGD",
    "Signum",
    "SkipNonFinite",
    "TAdam",
    "Yogi",
    "Checkpoint",
    "CheckpointError",
    "Map",
    "checkpoint",
    "load",
    "restore",
    "save",
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
    "debias",
    "ema",
    "hyper",
    "initial_parameter",
    "l2_norm",
    "norm",
    "option",
    "pack_state",
    "per_axis",
    "preset",
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

__version__: str
