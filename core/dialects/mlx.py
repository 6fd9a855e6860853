"""mlx.optimizers."""

from __future__ import annotations

from samestep.dialects import keller_jordan, preset

OF = "mlx.optimizers.{rule}"

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
        quirks=(keller_jordan.SCALE_BY_LAST_AXES,),
    ),
    "RMSprop": preset(),
    "SGD": preset(momentum_start="zero"),
}
