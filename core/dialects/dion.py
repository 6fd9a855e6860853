"""microsoft/dion of August 2026."""

from __future__ import annotations

from samestep.dialects import preset

OF = "dion.{rule}"

PRESETS = {
    "Muon": preset(
        "iterates in bfloat16",
        lr=0.01,
        weight_decay=0.01,
        nesterov=False,
        momentum_form="sum",
        scale="unit_rms",
        ns_coefficients="polar_express_5",
        ns_guard=("sum", 1e-08),
    )
}
