"""Optimizers of torch.optim and of libraries for torch in our terms.

This file names rules and hyperparameters: it has their names in these libraries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from samestep.checkpoints.correspondence import (
    About,
    Field,
    Kept,
    Native,
    always,
    factored,
    row,
    truth,
)

__all__ = [
    "HEAVYBALL",
    "NOT_OF_OPTIMI",
    "NOT_OF_TORCH",
    "OPTIMI",
    "PYTORCH_OPTIMIZER",
    "SCHEDULE_FREE",
    "TORCH",
    "last_weight",
]

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from 1 to the next number of a dtype."""


def _resolution(value: Any, about: About) -> dict[str, Any]:
    """Adafactor's eps; the first may be ``None``, for the eps of the dtype."""
    first, second = value
    left_open = about.numbers.get("eps", (None,))[0] is None
    return {"eps": (None if left_open and first == EPS[about.dtype] else first, second)}


def _resolved(about: About) -> Any:
    first, second = about.numbers["eps"]
    return EPS[about.dtype] if first is None else first, second


_DECOUPLED = {
    "decay": Field(
        lambda about: "decoupled" if about.numbers["decoupled_weight_decay"] else "l2",
        lambda value, _: {"decoupled_weight_decay": value == "decoupled"},
    )
}
_ON = {"amsgrad": truth("amsgrad")}
_ADAM = "lr weight_decay maximize betas eps"
_MOMENTS = "m=exp_avg v=exp_avg_sq"
_AMSGRAD = f"{_MOMENTS} v_max=max_exp_avg_sq"
_torch = partial(row, like="torch")

TORCH = {
    "SGD": _torch(
        "SGD",
        "lr weight_decay maximize momentum dampening nesterov",
        "m=momentum_buffer",
        counts=False,
    ),
    "RMSprop": _torch(
        "RMSprop",
        "lr weight_decay maximize alpha eps centered momentum",
        "v=square_avg g=grad_avg m=momentum_buffer",
    ),
    "Adagrad": _torch(
        "Adagrad",
        "lr weight_decay maximize lr_decay eps initial_v=initial_accumulator_value",
        "v=sum",
        eager=True,
    ),
    "Adadelta": _torch("AdaDelta", "lr weight_decay maximize rho eps", "v=square_avg u=acc_delta"),
    "Adam": _torch(
        "Adam", _ADAM, _AMSGRAD, fields={**_ON, **_DECOUPLED}, also={"AMSGrad": {"amsgrad": True}}
    ),
    "AdamW": _torch("AdamW", _ADAM, _AMSGRAD, fields=_ON),
    "Adamax": _torch("Adamax", _ADAM, "m=exp_avg u=exp_inf"),
    "NAdam": _torch(
        "NAdam",
        f"{_ADAM} momentum_decay",
        f"{_MOMENTS} product=mu_product",
        fields=_DECOUPLED,
    ),
    "RAdam": _torch("RAdam", _ADAM, _MOMENTS, fields=_DECOUPLED),
    "Rprop": _torch("Rprop", "lr maximize etas step_sizes", "prev size=step_size"),
    "Adafactor": _torch(
        "Adafactor",
        "lr weight_decay maximize clip_threshold=d decay_rate=-beta2_decay",
        fields={"eps": Field(_resolved, _resolution)},
        kept={"v": factored("variance", "row_var", "col_var")},
    ),
}
"""The optimizers of torch.optim that compute the same as a rule."""

NOT_OF_TORCH = {
    "ASGD": "there is no rule here for averaged SGD; its rates and averages are its own",
    "LBFGS": "it keeps a history of gradients of all parameters together, as no rule here does",
    "Muon": "torch.optim.Muon iterates in bfloat16 and samestep's Muon does not, so that the next "
    "step would be another (by 1 % of the update)",
    "SparseAdam": "it advances only the rows that a sparse gradient names, as no rule here does",
}


def _debiased(**slots: tuple[str, Callable[[Mapping[str, Any]], float]]) -> dict[str, Kept]:
    """Averages that are kept divided by their weight so far: name there, and its beta."""
    return {slot: _divided(name, beta) for slot, (name, beta) in slots.items()}


def _divided(name: str, beta: Callable[[Mapping[str, Any]], float]) -> Kept:
    def gathered(about: About) -> float:
        decay = beta(about.numbers)
        return -math.expm1(about.step * math.log(decay)) if decay else 1.0

    return Kept(
        lambda state, about: _scaled(state.get(name), gathered(about)),
        lambda value, about: {name: _scaled(value, 1 / gathered(about))},
        (name,),
    )


def _scaled(value: torch.Tensor | None, factor: float) -> torch.Tensor | None:
    return None if value is None else (value.double() * factor).to(value.dtype)


def _relative_decay(about: About) -> Any:
    """Weight decay, divided by ``max_lr`` where the library scales it by ``lr / max_lr``."""
    decay = about.numbers["weight_decay"]
    return decay / about.numbers["max_lr"] if about.numbers["decouple_lr"] else decay


def _absolute_decay(value: Any, about: About) -> dict[str, Any]:
    relative = about.numbers["decouple_lr"]
    return {"weight_decay": value * about.numbers["max_lr"] if relative else value}


def _optimi_decay(about: About) -> str:
    return "decoupled" if about.numbers["decouple_wd"] or about.numbers["decouple_lr"] else "l2"


def _optimi_form(about: About) -> str:
    return "mean" if about.numbers["dampening"] else "sum"


def _optimi_start(about: About) -> str:
    both = about.numbers["dampening"] and about.numbers["torch_init"]
    return "gradient" if both else "zero"


def _optimi(
    rule: str, numbers: str, slots: str = "", *, decay: Any = None, kept: Any = None, **more: Any
) -> Native:
    counts = more.pop("counts", True)
    fields = {name: always(value) for name, value in more.items()}
    fields |= {} if decay is None else {"decay": always(decay)}
    why = "each parameter then counts its own steps while its gradient is made; turn it off"
    return row(
        rule,
        f"lr {numbers}",
        slots,
        fields={"weight_decay": Field(_relative_decay, _absolute_decay), **fields},
        kept=kept,
        only={"gradient_release": (False, why)},
        counts=counts,
    )


def _beside_eps(v: Kept) -> Kept:
    """A mean of squares, beside which the library keeps the square of eps."""

    def theirs(value: Any, about: About) -> dict[str, Any]:
        square = value.new_full((), about.numbers["eps"] ** 2)
        return {**v.theirs(value, about), "eps_sq": square}

    return Kept(v.ours, theirs, (*v.names, "eps_sq"))


_BETA_1, _BETA_2, _BETA_3 = itemgetter("beta1"), itemgetter("beta2"), itemgetter("beta3")
_OPTIMI_MOMENTS = _debiased(m=("exp_avg", _BETA_1), v=("exp_avg_sq", _BETA_2))
_OPTIMI_ADAM = partial(
    _optimi, numbers="betas=beta1,beta2 eps", kept=_OPTIMI_MOMENTS, decay=_optimi_decay
)

OPTIMI = {
    "Adam": _OPTIMI_ADAM("Adam"),
    "AdamW": _OPTIMI_ADAM("AdamW"),
    "RAdam": _OPTIMI_ADAM("RAdam", threshold=5.0),
    "StableAdamW": _OPTIMI_ADAM(
        "StableAdamW",
        kept=_OPTIMI_MOMENTS | {"v": _beside_eps(_OPTIMI_MOMENTS["v"])},
        decay="in_update",
    ),
    "Adan": _optimi(
        "Adan",
        "betas=beta1,beta2,beta3 eps",
        "prev=-prev_grad",
        kept=_debiased(
            m=("exp_avg", _BETA_1), v=("exp_avg_diff", _BETA_2), n=("exp_avg_sq", _BETA_3)
        ),
        decay="proximal",  # its adam_wd is noted and never handed on (torch-optimi 0.3.3)
    ),
    "Lion": _optimi("Lion", "betas=beta1,beta2", "m=exp_avg", counts=False),
    "SGD": _optimi(
        "SGD",
        "momentum",
        "m=exp_avg",
        decay=_optimi_decay,
        momentum_form=_optimi_form,
        momentum_start=_optimi_start,
        counts=False,
    ),
}
"""The optimizers of torch-optimi, which keeps averages divided by their weight so far."""

NOT_OF_OPTIMI = {
    "Ranger": "RAdam inside Lookahead; there the two are one and their averages are interleaved",
}

_HEAVYBALL_ONLY = {
    **dict.fromkeys(
        ("caution", "cautious_weight_decay", "mars", "palm"),
        (False, "it changes the step as no rule here does"),
    ),
    "warmup_steps": (0, "the rate is warmed up inside; give ours a schedule, and set it to 0"),
    "ecc": (None, "state with error correction is not the state alone"),
    "param_ecc": (None, "parameters with error correction are not the parameters alone"),
}
_DECAY = {"decay": always("decoupled")}


def _beta(place: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda group: group["betas"][place]


HEAVYBALL = {
    "AdamW": row(
        "AdamW",
        "lr weight_decay betas eps",
        fields=_DECAY,
        kept=_debiased(
            m=("update_by_adam_exp_avg_0", _beta(0)), v=("update_by_adam_exp_avg_sq_0", _beta(1))
        ),
        only=_HEAVYBALL_ONLY,
    ),
    "RMSprop": row(
        "RMSprop",
        "lr weight_decay eps",
        fields={
            **_DECAY,
            "bias_correction": always(True),
            "alpha": Field(
                lambda about: about.numbers["betas"][1],
                lambda value, about: {"betas": (about.numbers["betas"][0], value)},
            ),
        },
        kept=_debiased(v=("scale_by_exp_avg_sq_exp_avg_sq_0", _beta(1))),
        only=_HEAVYBALL_ONLY,
    ),
    "SGD": row(
        "SGD",
        "lr weight_decay momentum=beta",
        "m=heavyball_momentum_momentum_0",
        fields={**_DECAY, "momentum_start": always("zero")},
        only=_HEAVYBALL_ONLY,
    ),
}
"""The optimizers of heavyball, which keeps averages in the same form, in float32."""


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
    return "absolute" if about.numbers["fixed_decay"] else "decoupled"


_APART = {
    "decay": Field(
        _apart,
        lambda value, _: {"weight_decouple": value != "l2", "fixed_decay": value == "absolute"},
    )
}


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


_pytorch_optimizer = partial(row, like="pytorch_optimizer", fields=_APART)
_OFF = "it changes the step as no rule here does"

PYTORCH_OPTIMIZER = {
    "ADOPT": _pytorch_optimizer(
        "ADOPT",
        "lr weight_decay betas eps",
        _MOMENTS,
        only=dict.fromkeys(("cautious", "stable_adamw"), (False, _OFF)),
    ),
    "CAME": _pytorch_optimizer(
        "CAME",
        "lr weight_decay betas eps=eps1,eps2",
        "m=exp_avg",
        kept={"v": _lines("exp_avg_sq", "exp_avg_sq"), "r": _lines("exp_avg_res", "")},
        only={"ams_bound": (False, _OFF)},
    ),
}
"""The optimizers of pytorch_optimizer that have a rule which no framework has."""
