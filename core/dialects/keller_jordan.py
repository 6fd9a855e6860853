"""KellerJordan/Muon, which is muon-optimizer 0.1.0: the authors' code."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.parts.orthogonal import factor
from samestep.quirks import Quirk, with_calls


def _of_last_axes(now: Any) -> Any:
    def factor(rule: Any, sides: tuple[int, ...], shape: tuple[int, ...]) -> float:
        return float(now(rule, shape[-2:], shape))

    return factor


SCALE_BY_LAST_AXES = Quirk(
    "scale by the last two axes",
    "scales by the last two axes of a convolution kernel, its places",
    "scales a convolution kernel by its outputs and inputs",
    with_calls({factor: _of_last_axes}),
    rules=("Muon",),
    formerly=("scale_axes", "last", "all"),
)

NAME = "keller-jordan"
OF = "muon.{rule}"

PRESETS = {"Muon": preset("iterates in bfloat16", quirks=(SCALE_BY_LAST_AXES,))}
