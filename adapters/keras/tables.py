"""The optimizers of Keras in our terms, and the layout of their states.

This file names rules and hyperparameters: it has their names in Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy

from samestep.checkpoints.correspondence import About, Field, Kept
from samestep.checkpoints.table_rows import always, choice, row, truth
from samestep.checkpoints.tensor import Tensor
from samestep.parts.orthogonal import SETS

__all__ = ["APART", "DECAYS", "KERAS", "ONLY", "REFUSED", "State"]

State = Mapping[str, Any]


def _means(state: State, about: About) -> Any:
    """Adafactor's averages: ``_r`` and ``_c`` without the axis that is summed over, or ``_v``."""
    if "_r" not in state:
        return None
    full = state["_v"]
    if len(full.shape) < 2:
        return (full,)
    row, col = state["_r"], state["_c"]
    return row.reshaped(row.bits[..., None]), col.reshaped(col.bits[..., None, :])


def _of_means(value: Any, about: About) -> dict[str, Any]:
    """Keras's variables from our means. A factored parameter has a ``_v`` too, never read."""
    if len(value) < 2:
        return {"_v": value[0]}
    row, col = value
    return {"_r": row.reshaped(row.bits[..., 0]), "_c": col.reshaped(col.bits[..., 0, :])}


def _coefficients(about: About) -> Any:
    given = tuple(about.numbers[name] for name in _LETTERS)
    return "jordan" if given == SETS["jordan"].steps[0] else (given,)


def _letters(value: Any, _: About) -> dict[str, Any]:
    steps = SETS[value].steps if isinstance(value, str) else value
    return dict(zip(_LETTERS, steps[0], strict=True))


def _rate(about: About) -> float:
    return float(about.numbers["learning_rate"] * about.numbers["adam_lr_ratio"])


def _of_rate(value: float, about: About) -> dict[str, Any]:
    return {"learning_rate": value / about.numbers["adam_lr_ratio"]}


def _decay(about: About) -> float:
    """Decay, whose rate is the learning rate itself."""
    decay, ratio = about.numbers["adam_weight_decay"], about.numbers["adam_lr_ratio"]
    if decay and not ratio:
        raise ValueError("with adam_lr_ratio=0 parameters of AdamW decay and do nothing else")
    return float(decay / ratio) if decay else 0.0


def _of_decay(value: float, about: About) -> dict[str, Any]:
    return {"adam_weight_decay": value * about.numbers["adam_lr_ratio"]}


def _alike(about: About) -> float:
    """The power of the rate in the weight of a step: every step has the same weight."""
    if about.numbers.get("backend") == "torch":
        raise ValueError("on torch it takes the new z for the old, and averages something else")
    return 0.0


def _warmed(about: About) -> float:
    warmup = about.numbers["warmup_steps"] or 1
    return float(about.numbers["learning_rate"] * min(1.0, about.step / warmup))


def _counted(number: Callable[[About], float]) -> Kept:
    """A number that follows from the count of steps."""

    def ours(_: State, about: About) -> Tensor:
        wide = "float64" if about.dtype == "float64" else "float32"
        return Tensor.of(numpy.asarray(number(about), wide))

    return Kept(ours, lambda *_: {})


APART = "is_adam_s"
"""Of a parameter of Muon: whether its steps are AdamW's."""
DECAYS = ("weight_decay", "adam_weight_decay")
"""The numbers that parameters without decay have not."""
_LETTERS = ("muon_a", "muon_b", "muon_c")
_COMMON = "lr=learning_rate weight_decay"
_BETAS = "betas=beta_1,beta_2"
_ADAM = f"{_COMMON} {_BETAS} eps=epsilon"
_MOMENTS = "m=_momentums v=_velocities"
_AMSGRAD = partial(
    row,
    numbers=_ADAM,
    slots=f"{_MOMENTS} v_max=_velocity_hats",
    like="keras",
    fields={"amsgrad": truth("amsgrad")},
)
_keras = partial(row, like="keras")

KERAS = {
    "SGD": _keras("SGD", f"{_COMMON} momentum nesterov", "m=-momentums"),
    "RMSprop": _keras(
        "RMSprop",
        f"{_COMMON} alpha=rho momentum eps=epsilon centered",
        "v=_velocities g=_average_gradients m=_momentums",
    ),
    "Adagrad": _keras(
        "Adagrad",
        f"{_COMMON} initial_v=initial_accumulator_value eps=epsilon",
        "v=_accumulators",
    ),
    "Adadelta": _keras(
        "AdaDelta",
        f"{_COMMON} rho eps=epsilon",
        "v=_accumulated_grads u=_accumulated_delta_vars",
    ),
    "Adam": _AMSGRAD("Adam", also={"AMSGrad": {"amsgrad": True}}),
    "AdamW": _AMSGRAD("AdamW"),
    "Adamax": _keras("Adamax", _ADAM, "m=_m u=_u"),
    "Nadam": _keras("NAdam", _ADAM, f"{_MOMENTS} product=_u_product"),
    "Lion": _keras("Lion", f"{_COMMON} {_BETAS}", "m=_momentums"),
    "Lamb": _keras("LAMB", _ADAM, _MOMENTS),
    "Adafactor": _keras(  # takes min(lr, 1 / sqrt(t)) also with relative_step=False
        "Adafactor",
        f"{_COMMON} clip_threshold decay_rate=-beta_2_decay eps=epsilon_1,epsilon_2",
        fields={"relative_step": always(True)},
        kept={"v": Kept(_means, _of_means, ("_r", "_c", "_v"))},
    ),
    "ScheduleFreeAdamW": _keras(
        "ScheduleFreeAdamW",
        f"lr=learning_rate {_BETAS} eps=epsilon warmup_steps",
        "v=_velocities z=_momentums",
        fields={"weight_lr_power": Field(_alike, lambda *_: {})},
        kept={"weight_sum": _counted(lambda about: about.step), "lr_max": _counted(_warmed)},
        only={"weight_decay": (0.0, "it decays the point of the gradient and not the other")},
    ),
    "Muon": _keras(
        "Muon",
        f"{_COMMON} momentum nesterov ns_steps",
        "m=momentums",
        fields={
            "batch_axes": always(()),
            "ns_coefficients": Field(_coefficients, _letters),
            **choice("scale", "rms_rate", {0.2: "match_rms", 1.0: "spectral", None: "none"}),
        },
        apart=(
            lambda about: about.numbers[APART],
            _keras(
                "AdamW",
                "betas=adam_beta_1,adam_beta_2 eps=epsilon",
                "m=momentums v=adam_velocities",
                fields={
                    "lr": Field(_rate, _of_rate),
                    "weight_decay": Field(_decay, _of_decay),
                },
            ),
        ),
    ),
}
"""The optimizers of Keras that compute the same as a rule."""

REFUSED = {
    "Ftrl": "there is no rule here for FTRL",
    "LossScaleOptimizer": "its scale of the loss is no state of a rule; give its inner_optimizer",
    "MultiOptimizer": "it has several optimizers; give each of them",
}

ONLY = {
    **dict.fromkeys(
        ("clipnorm", "clipvalue", "global_clipnorm"),
        (None, "clipping is a rule around the rule here, so that the state would be another's"),
    ),
    "gradient_accumulation_steps": (
        None,
        "gradients gathered so far would be lost; carry the state of an optimizer without it",
    ),
    "ema_overwrite_frequency": (None, "an average that is written back is no rule's here"),
}
