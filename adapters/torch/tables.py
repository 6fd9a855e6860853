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
from samestep.checkpoints.correspondence import About, Field, Kept, Native
from samestep.checkpoints.table_rows import always, choice, factored, row, truth
from samestep.parts.orthogonal import SETS, Schedule

__all__ = [
    "HEAVYBALL",
    "MOMENTS",
    "NOT_OF_OPTIMI",
    "NOT_OF_TORCH",
    "OPTIMI",
    "OUTPUTS_FIRST",
    "TORCH",
    "coefficients",
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
MOMENTS = "m=exp_avg v=exp_avg_sq"
_AMSGRAD = f"{MOMENTS} v_max=max_exp_avg_sq"
_torch = partial(row, like="torch")


def coefficients(name: str, several: bool) -> dict[str, Field]:
    """Those of an iteration: of one of our sets by its name, and of others as numbers."""

    def ours(about: About) -> Any:
        given = about.numbers[name]
        steps = tuple(map(tuple, given)) if several else (tuple(given),)
        sets = (found for found, known in SETS.items() if known == Schedule(steps))
        return next(sets, steps)

    def theirs(value: Any, _: About) -> dict[str, Any]:
        steps = SETS[value].steps if isinstance(value, str) else value
        return {name: [*steps] if several else steps[0]}

    return {"ns_coefficients": Field(ours, theirs)}


def _guard(about: About) -> Any:
    return "max", about.numbers["eps"]


SCALES = {None: "shape", "original": "shape", "match_rms_adamw": "match_rms"}
OUTPUTS_FIRST = {"layout": always("oi"), "batch_axes": always(())}
"""A kernel is one matrix to these libraries, with its first axis for rows."""

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
        f"{MOMENTS} product=mu_product",
        fields=_DECOUPLED,
    ),
    "RAdam": _torch("RAdam", _ADAM, MOMENTS, fields=_DECOUPLED),
    "Rprop": _torch("Rprop", "lr maximize etas step_sizes", "prev size=step_size"),
    "Adafactor": _torch(
        "Adafactor",
        "lr weight_decay maximize clip_threshold=d decay_rate=-beta2_decay",
        fields={"eps": Field(_resolved, _resolution)},
        kept={"v": factored("variance", "row_var", "col_var")},
    ),
    "Muon": _torch(
        "Muon",
        "lr weight_decay momentum nesterov ns_steps",
        "m=momentum_buffer",
        fields={
            **OUTPUTS_FIRST,
            **coefficients("ns_coefficients", several=False),
            **choice("scale", "adjust_lr_fn", SCALES),
            "ns_guard": Field(_guard, lambda value, _: {"eps": value[1]}),
        },
        counts=False,
    ),
}
"""The optimizers of torch.optim that compute the same as a rule."""

NOT_OF_TORCH = {
    "ASGD": "there is no rule here for averaged SGD; its rates and averages are its own",
    "LBFGS": "it keeps a history of gradients of all parameters together, as no rule here does",
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
