"""KellerJordan/Muon, which is muon-optimizer 0.1.0: the authors' code."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.parts.matrix import apart
from samestep.parts.orthogonal import factor
from samestep.quirks import Methods, Quirk, with_calls


def by_last_axes(order: str) -> tuple[Methods, ...]:
    """The scale of a step by the last two axes of a kernel that a library keeps in an order."""

    def replaced(now: Any) -> Any:
        def factor(rule: Any, sides: tuple[int, ...], shape: tuple[int, ...]) -> float:
            inputs, places = apart(rule, shape)
            rest = inputs + places if order == "oix" else places + inputs
            return float(now(rule, (shape[0], *rest)[-2:], shape))

        return factor

    return with_calls({factor: replaced}), lambda rule: {"tells_places": order}


SCALE_BY_LAST_AXES = Quirk(
    "scale by the last two axes",
    "scales by the last two axes of a convolution kernel, its places",
    "scales a convolution kernel by its outputs and inputs",
    by_last_axes("oix"),
    rules=("Muon",),
    formerly=("scale_axes", "last", "all"),
)

NAME = "keller-jordan"
OF = "muon.{rule}"

PRESETS = {"Muon": preset("iterates in bfloat16", quirks=(SCALE_BY_LAST_AXES,))}
