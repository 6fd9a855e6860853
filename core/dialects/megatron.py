"""NVIDIA's Emerging-Optimizers of August 2026, whose Muon Megatron uses."""

from __future__ import annotations

from samestep.dialects import preset

OF = "emerging_optimizers.orthogonalized_optimizers.{rule}"

PRESETS = {
    "Muon": preset(
        "products in bfloat16",
        lr=0.0003,
        weight_decay=0.01,
        nesterov=False,
        scale="spectral",
        ns_coefficients="quintic",
        ns_beyond="cycle",
        ns_guard=("max", 1e-15),
    )
}
