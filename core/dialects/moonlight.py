"""MoonshotAI/Moonlight, examples/toy_train.py."""

from __future__ import annotations

from samestep.dialects import preset

OF = "{rule} of Moonlight's toy_train.py"

PRESETS = {
    "Muon": preset(
        "iterates in bfloat16",
        lr=0.001,
        weight_decay=0.1,
        momentum_form="sum",
        scale="match_rms",
    )
}
