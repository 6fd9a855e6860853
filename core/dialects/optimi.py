"""optimi (torch-optimi 0.3.3), of the rules that are not torch's."""

from __future__ import annotations

from samestep.dialects import preset

OF = "optimi.{rule}"

PRESETS = {"StableAdamW": preset()}
