# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules.
"""samestep: the same optimizer step on every framework."""

from . import (
    benchmarks as benchmarks, checkpoints as checkpoints, command_line as command_line,
    conformance as conformance, jax as jax, keras as keras, mlx as mlx, parity as parity,
    recording as recording, replay as replay, torch as torch,
)
from samestep.checkpoints import (
    Checkpoint as Checkpoint, CheckpointError as CheckpointError, Map as Map,
    checkpoint as checkpoint, load as load, restore as restore, save as save,
)
from . import rules as rules, schedules as schedules
from .averaging import averaged as averaged, swapped as swapped
from .conditions import Where as Where
from .declaration import (
    Initial as Initial, hyper as hyper, option as option, shared as shared, slot as slot,
)
from .dialects import preset as preset
from .functional import (
    Triple as Triple, TripleState as TripleState, pack_state as pack_state, triple as triple,
    unpack_state as unpack_state,
)
from .gradients import clip_grads as clip_grads, l2_norm as l2_norm
from .groups import Parameter as Parameter
from .routes import route as route
from .rule import Rule as Rule, State as State, registry as registry
from .rules import (
    AMSGrad as AMSGrad, Accumulate as Accumulate, AdEMAMix as AdEMAMix, AdaBelief as AdaBelief,
    AdaDelta as AdaDelta, Adafactor as Adafactor, Adagrad as Adagrad, Adam as Adam, AdamP as AdamP,
    AdamW as AdamW, Adamax as Adamax, Adan as Adan, AdaptiveClip as AdaptiveClip,
    Average as Average, Cautious as Cautious, Centralize as Centralize,
    ClipGlobalNorm as ClipGlobalNorm, ClipNorm as ClipNorm, ClipValue as ClipValue, LAMB as LAMB,
    LARS as LARS, Lion as Lion, Lookahead as Lookahead, Muon as Muon, NAdam as NAdam,
    Prodigy as Prodigy, RAdam as RAdam, RMSprop as RMSprop, RaLars as RaLars, Rprop as Rprop,
    SGD as SGD, SM3 as SM3, Scout as Scout, SignSGD as SignSGD, Signum as Signum,
    SkipNonFinite as SkipNonFinite, TAdam as TAdam, Yogi as Yogi,
)
from .vocabulary import (
    choose as choose, debias as debias, ema as ema, initial_parameter as initial_parameter,
    norm as norm, per_axis as per_axis, sign as sign, weights as weights,
)
from .wrapper import Wrapper as Wrapper

__all__ = [
    "AMSGrad", "Accumulate", "AdEMAMix", "AdaBelief", "AdaDelta", "Adafactor", "Adagrad", "Adam",
    "AdamP", "AdamW", "Adamax", "Adan", "AdaptiveClip", "Average", "Cautious", "Centralize",
    "ClipGlobalNorm", "ClipNorm", "ClipValue", "LAMB", "LARS", "Lion", "Lookahead", "Muon", "NAdam",
    "Prodigy", "RAdam", "RMSprop", "RaLars", "Rprop", "SGD", "SM3", "Scout", "SignSGD", "Signum",
    "SkipNonFinite", "TAdam", "Yogi", "Checkpoint", "CheckpointError", "Map", "checkpoint", "load",
    "restore", "save", "Initial", "Parameter", "Rule", "State", "Triple", "TripleState", "Where",
    "Wrapper", "averaged", "choose", "clip_grads", "debias", "ema", "hyper", "initial_parameter",
    "l2_norm", "norm", "option", "pack_state", "per_axis", "preset", "registry", "route",
    "schedules", "shared", "sign", "slot", "swapped", "triple", "unpack_state", "weights",
]

__version__: str
