"""Optimizers of schedulefree, pytorch_optimizer and muon-optimizer in our terms.

This file names rules and hyperparameters: it has their names in these libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from samestep.checkpoints.correspondence import About, Field, Kept
from samestep.checkpoints.table_rows import choice, row

from .tables import MOMENTS, OUTPUTS_FIRST, coefficients

__all__ = [
    "IN_ATTRIBUTES",
    "MUON_OPTIMIZER",
    "NOT_OF_MUON_OPTIMIZER",
    "PYTORCH_OPTIMIZER",
    "SCHEDULE_FREE",
    "last_weight",
]


def last_weight(numbers: Mapping[str, Any], step: int, largest: float) -> float:
    """The weight of the last step in the average of schedulefree."""
    weight: float = step ** numbers["r"] * largest ** numbers["weight_lr_power"]
    return weight


def _weight_sum(about: About) -> float:
    last = last_weight(about.numbers, about.step, about.numbers["lr_max"])
    return about.numbers["weight_sum"] / last if last else 0.0


def _of_group(value: Callable[[About], float]) -> Kept:
    """A number that the library keeps once for a group."""

    def ours(_: Mapping[str, Any], about: About) -> torch.Tensor | None:
        wide = about.dtype == "float64"
        made = torch.float64 if wide else torch.float32
        return torch.tensor(value(about), dtype=made) if about.step else None

    return Kept(ours, lambda *_: {})


_WEIGHTS = {
    "weight_sum": _of_group(_weight_sum),
    "lr_max": _of_group(lambda about: about.numbers["lr_max"]),
}
_FREE = "lr weight_decay weight_power=r weight_lr_power"
_free = partial(row, like="schedulefree", kept=_WEIGHTS)

SCHEDULE_FREE = {
    "AdamWScheduleFree": _free(
        "ScheduleFreeAdamW", f"{_FREE} betas eps warmup_steps", "v=exp_avg_sq z"
    ),
    "RAdamScheduleFree": _free(
        "ScheduleFreeRAdam",
        f"{_FREE} betas eps",
        "v=exp_avg_sq z",
        fields={
            "below": Field(
                lambda about: "skip" if about.numbers["silent_sgd_phase"] else "momentum",
                lambda value, _: {"silent_sgd_phase": value == "skip"},
            )
        },
    ),
    "SGDScheduleFree": _free("ScheduleFreeSGD", f"{_FREE} momentum warmup_steps", "z"),
}
"""The optimizers of schedulefree, which keeps the weights of the average once for a group."""


def _apart(about: About) -> str:
    if not about.numbers["weight_decouple"]:
        return "l2"
    return "absolute" if about.numbers.get("fixed_decay") else "decoupled"


_APART = {
    "decay": Field(
        _apart,
        lambda value, _: {"weight_decouple": value != "l2", "fixed_decay": value == "absolute"},
    )
}


_ADAMW = "lr weight_decay betas eps"


def _is_adam_s(about: About) -> bool:
    return not about.numbers["use_muon"]


def _lines(name: str, full: str) -> Kept:
    """Means along the last two axes, without these axes; of vectors in full, or none."""

    def ours(state: Mapping[str, Any], about: About) -> Any:
        rows, columns = (state.get(f"{name}_{part}") for part in ("row", "col"))
        if rows is not None and columns is not None:
            return rows.unsqueeze(-1), columns.unsqueeze(-2)
        whole = state.get("exp_avg_sq")
        return whole if whole is None else (whole if full else whole.new_zeros(()),)

    def theirs(value: Any, _: About) -> dict[str, Any]:
        if len(value) == 1:
            return {full: value[0]} if full else {}
        return {f"{name}_row": value[0].squeeze(-1), f"{name}_col": value[1].squeeze(-2)}

    return Kept(ours, theirs, (f"{name}_row", f"{name}_col", *([full] if full else [])))


IN_ATTRIBUTES = ("maximize", "clip_threshold")
"""Numbers of pytorch_optimizer that are attributes of an optimizer, and in no group."""
_OFF = "it changes the step as no rule here does"
_UP = "it is no number of a group, so that the state does not say it; negate the gradients instead"
_ONLY = {"maximize": (False, _UP), "cautious": (False, _OFF)}
_pytorch_optimizer = partial(row, like="pytorch_optimizer", only=_ONLY)

PYTORCH_OPTIMIZER = {
    "ADOPT": _pytorch_optimizer(
        "ADOPT",
        "lr weight_decay betas eps",
        MOMENTS,
        fields=_APART,
        only={**_ONLY, "stable_adamw": (False, _OFF)},
    ),
    "CAME": _pytorch_optimizer(
        "CAME",
        "lr weight_decay betas eps=eps1,eps2 clip_threshold",
        "m=exp_avg",
        fixed=("clip_threshold",),
        kept={"v": _lines("exp_avg_sq", "exp_avg_sq"), "r": _lines("exp_avg_res", "")},
        fields=_APART,
        only={**_ONLY, "ams_bound": (False, _OFF)},
    ),
    "Muon": _pytorch_optimizer(
        "Muon",
        "lr weight_decay momentum nesterov ns_steps",
        "m=momentum_buffer",
        fields={
            **_APART,
            **OUTPUTS_FIRST,
            **coefficients("ns_coeffs", several=True),
            **choice("scale", "use_adjusted_lr", {False: "shape", True: "match_rms"}),
        },
        only={**_ONLY, "ns_method": ("newton_schulz", "no rule here iterates on a Gram matrix")},
        apart=(_is_adam_s, row("AdamW", _ADAMW, MOMENTS, fields=_APART, only=_ONLY)),
    ),
}
"""The optimizers of pytorch_optimizer that have a rule which no framework has."""

_KELLER_JORDAN = partial(
    row,
    "Muon",
    "lr weight_decay momentum",
    "m=momentum_buffer",
    like="keller-jordan",
    fields=OUTPUTS_FIRST,
    counts=False,
)
MUON_OPTIMIZER = {
    "SingleDeviceMuon": _KELLER_JORDAN(),
    "SingleDeviceMuonWithAuxAdam": _KELLER_JORDAN(
        apart=(_is_adam_s, row("AdamW", _ADAMW, MOMENTS))
    ),
}
"""The optimizers of muon-optimizer."""
NOT_OF_MUON_OPTIMIZER = dict.fromkeys(
    ("Muon", "MuonWithAuxAdam"),
    "a process has the state of its own parameters only; give the single-device optimizer",
)
