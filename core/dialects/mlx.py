"""mlx.optimizers."""

from __future__ import annotations

from samestep.dialects import preset
from samestep.dialects.keller_jordan import by_last_axes
from samestep.quirks import Quirk

OF = "mlx.optimizers.{rule}"

SCALE_BY_INPUTS = Quirk(
    "scale by the last two axes of MLX",
    "scales by the last two axes of a convolution kernel, its last place and its inputs",
    "scales a convolution kernel by its outputs and inputs",
    by_last_axes("oxi"),
    rules=("Muon",),
    formerly=("scale_axes", "inputs", "all"),
)

PRESETS = {
    "AdaDelta": preset(),
    "Adafactor": preset("ignores lr", layout="io", decay="in_update"),
    "Adagrad": preset(eps=1e-08),
    "Adam": preset("no bias correction", bias_correction=False),
    "AdamW": preset("no bias correction", bias_correction=False),
    "Adamax": preset("no correction", eps_at="outside", bias_correction=False),
    "Lion": preset(),
    "Muon": preset(
        "decays inside",
        weight_decay=0.01,
        decay="l2",
        quirks=(SCALE_BY_INPUTS,),
    ),
    "RMSprop": preset(),
    "SGD": preset(momentum_start="zero"),
}
