"""keras.optimizers, Keras 3."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.quirks import Quirk
from samestep.vocabulary import decayed_parameter


def _of_decayed(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        return cls.direction(self, xp, grad, decayed_parameter(param, s), state, s)

    return {"direction": direction}


SCALE_AFTER_DECAY = Quirk(
    "scale after the decay",
    "scales by the parameter's RMS after its decay",
    "scales by the parameter's RMS before its decay",
    _of_decayed,
    rules=("Adafactor",),
    formerly=("scale_at", "after", "before"),
)

OF = "keras.optimizers.{rule}"

PRESETS = {
    "AMSGrad": preset(
        of="keras.optimizers.Adam(amsgrad=True)", eps=1e-07, eps_at="uncorrected", decay="decoupled"
    ),
    "AdaDelta": preset(
        of="keras.optimizers.Adadelta", lr=0.001, rho=0.95, eps=1e-07, decay="decoupled"
    ),
    "Adafactor": preset(layout="io", lr=0.001, quirks=(SCALE_AFTER_DECAY,)),
    "Adagrad": preset(lr=0.001, eps=1e-07, eps_at="inside", initial_v=0.1, decay="decoupled"),
    "Adam": preset(eps=1e-07, eps_at="uncorrected", decay="decoupled"),
    "AdamW": preset(eps=1e-07, eps_at="uncorrected", weight_decay=0.004),
    "Adamax": preset(lr=0.001, eps=1e-07, eps_at="outside", decay="decoupled"),
    "LAMB": preset(of="keras.optimizers.Lamb", eps=1e-07, decay="decoupled"),
    "Lion": preset(lr=0.001),
    "Muon": preset(
        "its vectors are AdamW's",
        layout="io",
        lr=0.001,
        weight_decay=0.004,
        momentum_form="sum",
        scale="match_rms",
    ),
    "NAdam": preset(
        of="keras.optimizers.Nadam", lr=0.001, eps=1e-07, momentum_decay=1.0, decay="decoupled"
    ),
    "RMSprop": preset(  # alpha is Keras's rho
        lr=0.001, alpha=0.9, eps=1e-07, eps_at="inside", lr_at="inside", decay="decoupled"
    ),
    "ScheduleFreeAdamW": preset("decays one point of two", weight_lr_power=0.0),
    "SGD": preset(lr=0.01, momentum_start="zero", lr_at="inside", decay="decoupled"),
}
