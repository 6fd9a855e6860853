"""Where optax keeps the slots of a rule, and the names of its containers.

This file names rules and hyperparameters: it has their names in optax.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "BESIDE",
    "CONTAINERS",
    "COUNTS",
    "FORM",
    "INJECTED",
    "INSIDE",
    "KEPT",
    "OURS",
    "SHARED",
    "SIGNS",
    "TOLD",
    "UNREAD",
    "Kept",
]

OURS = "samestep.State"
"""The name of the state of samestep's own transformation."""


class Kept(NamedTuple):
    """The place in which optax keeps a slot of ours."""

    states: tuple[str, ...]
    """The classes of state that may have it."""
    field: str
    sign: int = 1
    """-1 if optax keeps the addition to a parameter and we keep the subtraction."""
    once: bool = False
    """Whether optax keeps one number for all parameters, and we keep one for each."""
    times: tuple[str, str] | None = None
    """A slot of ours, and a number that is its power, if optax has ours times this power."""


def _of(state: str, **fields: str) -> dict[str, Kept]:
    return {slot: Kept((state,), field) for slot, field in fields.items()}


_ADAM = _of("ScaleByAdamState", m="mu", v="nu")
_CENTERED = ("ScaleByRStdDevState", "ScaleByRStdDevWithCountState")
_MEAN_SQUARE = ("ScaleByRmsState", "ScaleByRmsWithCountState", *_CENTERED)
_FREE = {
    "z": Kept(("ScheduleFreeState",), "z"),
    "lr_max": Kept(("ScheduleFreeState",), "max_lr", once=True),
    "weight_sum": Kept(
        ("ScheduleFreeState",), "weight_sum", once=True, times=("lr_max", "weight_lr_power")
    ),
}

KEPT: dict[str, dict[str, Kept]] = {
    "SGD": _of("TraceState", m="trace"),
    "RMSprop": {
        "v": Kept(_MEAN_SQUARE, "nu"),
        "g": Kept(_CENTERED, "mu"),
        "m": Kept(("TraceState",), "trace", -1),
    },
    "Adagrad": _of("ScaleByRssState", v="sum_of_squares"),
    "AdaDelta": _of("ScaleByAdaDeltaState", v="e_g", u="e_x"),
    **dict.fromkeys(("ADOPT", "Adam", "AdamW", "LAMB", "NAdam", "RAdam", "Yogi"), _ADAM),
    "AMSGrad": _of("ScaleByAmsgradState", m="mu", v="nu", v_max="nu_max"),
    "Adamax": _of("ScaleByAdamState", m="mu", u="nu"),
    "Lion": _of("ScaleByLionState", m="mu"),
    "SM3": _of("ScaleBySM3State", m="nu", mu="mu"),
    "LARS": {"m": Kept(("TraceState",), "trace", -1)},
    "AdaBelief": _of("ScaleByBeliefState", m="mu", v="nu"),
    "Adan": _of("ScaleByAdanState", m="m", v="v", n="n", prev="g"),
    "AdEMAMix": _of("ScaleByAdemamixState", m1="m1", m2="m2", v="nu"),
    "SimplifiedAdEMAMix": _of("ScaleBySimplifiedAdEMAMixState", m="m", v="n"),
    "MADGRAD": _of("MadgradState", s="s", v="grad_sum_sq", p0="x0"),
    "NovoGrad": _of("ScaleByNovogradState", m="mu", v="nu"),
    "Rprop": _of("ScaleByRpropState", size="step_sizes", last="prev_updates"),
    "Signum": _of("EmaState", m="ema"),
    "SignSGD": {},
    "Adafactor": {**_of("FactoredState", v="v"), **_of("EmaState", m="ema")},
    "DAdaptAdam": _of("DAdaptAdamWState", m="exp_avg", v="exp_avg_sq", s="grad_sum"),
    "Prodigy": _of("ProdigyState", m="exp_avg", v="exp_avg_sq", s="grad_sum", p0="params0"),
    "Muon": _of("MuonState", m="mu"),
    "ScheduleFree": _FREE,
    "ScheduleFreeAdamW": {"v": Kept(_MEAN_SQUARE, "nu"), **_FREE},
    "ScheduleFreeSGD": _FREE,
    "Accumulate": _of("MultiStepsState", accumulated="acc_grads"),
    "Lookahead": _of("LookaheadParams", slow="slow"),
    "ClipValue": {},
    "ClipNorm": {},
    "ClipGlobalNorm": {},
    "AdaptiveClip": {},
    "Centralize": {},
    "SkipNonFinite": {},
}
"""By rule and slot. ``FactoredState.v`` means ``v_row`` and ``v_col`` if it is factored."""

SHARED: dict[str, dict[str, Kept]] = {
    "DAdaptAdam": _of("DAdaptAdamWState", d="estim_lr", numerator="numerator_weighted"),
    "Prodigy": _of("ProdigyState", d="estim_lr", d_max="estim_lr", numerator="numerator_weighted"),
    "SkipNonFinite": _of("ApplyIfFiniteState", skipped="total_notfinite"),
}
"""The places of shared state, in the same form."""

SIGNS = {"Rprop": {"prev": "last"}}
"""Slots of which a rule reads only the sign, and the slot that has the same sign."""

FORM = {"lr_at", "momentum_form", "axes", "weight_power"}
"""Options that make a slot another quantity; they must be as in optax."""

COUNTS = {"count": 0, "count_m2": 0, "t": 0, "step_count": 1}
"""Fields that count steps, and what they begin with."""

TOLD = {
    "ScheduleFree": ("ScheduleFreeState", "b1", "toward", None),
    "ScheduleFreeAdamW": ("ScheduleFreeState", "b1", "betas", 0),
    "ScheduleFreeSGD": ("ScheduleFreeState", "b1", "momentum", None),
}
"""By rule: a state and its field with a number that the transformation fixes, and where the number
is in the rule."""

UNREAD = {"b1", "ns_coeffs", "fast", "mini_step", "gradient_step", "skip_state", "steps_since_sync"}
"""Fields that are not slots, though they may hold arrays."""

INSIDE = {
    "InjectHyperparamsState": "inner_state",
    "InjectStatefulHyperparamsState": "inner_state",
    "PartitionState": "inner_states",
    "MaskedState": "inner_state",
    "MultiStepsState": "inner_opt_state",
    "ApplyIfFiniteState": "inner_state",
    "LookaheadState": "fast_state",
    "ScheduleFreeState": "base_optimizer_state",
}
"""The states that hold other states, and the field that holds them."""

CONTAINERS = {"MultiStepsState": "Accumulate", "LookaheadState": "Lookahead"}
"""Containers that change the steps of the state inside, and our wrapper for each."""

BESIDE = {
    *("EmptyState", "MaskedNode", "ScaleByScheduleState", "MonitorState", "SnapshotState"),
    "ZeroNansState",
}
"""States that do not affect the next steps of a rule."""

INJECTED = {
    "learning_rate": ("lr", None),
    "b1": ("betas", 0),
    "b2": ("betas", 1),
    "b3": ("betas", 2),
    "decay": ("alpha", None),
}
"""Our numbers by their names in ``inject_hyperparams``, if these differ from ours."""
