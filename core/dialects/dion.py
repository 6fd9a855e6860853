"""microsoft/dion of August 2026."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset

OF = "dion.{rule}"

_COMMON: dict[str, Any] = {
    "lr": 0.01,
    "weight_decay": 0.01,
    "nesterov": False,
    "momentum_form": "sum",
    "scale": "unit_rms",
    "ns_coefficients": "polar_express_5",
    "ns_guard": ("sum", 1e-08),
}

PRESETS = {
    "Muon": preset("iterates in bfloat16", **_COMMON),
    "NorMuon": preset("iterates in bfloat16", eps=1e-08, **_COMMON),
}
