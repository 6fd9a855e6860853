"""xlstm_jax.trainer.optimizer."""

from __future__ import annotations

from samestep.dialects import preset

OF = "xlstm_jax.trainer.optimizer.{lower}"

PRESETS = {
    "AdEMAMix": preset(decay="in_update"),
}
