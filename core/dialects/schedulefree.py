"""schedulefree 1.4.1."""

from __future__ import annotations

from samestep.dialects import preset

OF = "schedulefree.{rule}"

PRESETS = {
    "ScheduleFreeAdamW": preset(of="schedulefree.AdamWScheduleFree"),
    "ScheduleFreeRAdam": preset(of="schedulefree.RAdamScheduleFree"),
    "ScheduleFreeSGD": preset(of="schedulefree.SGDScheduleFree"),
}
