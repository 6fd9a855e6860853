"""heavyball 3.2.1."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.parts.orthogonal import looked_ahead
from samestep.quirks import Quirk, with_calls


def _in_full(now: Any) -> Any:
    def looked_ahead(rule: Any, m: Any, grad: Any, s: Any) -> Any:
        return m + grad if rule.nesterov else m

    return looked_ahead


GRADIENT_IN_FULL = Quirk(
    "gradient in full",
    "looks ahead by adding the gradient to its mean",
    "looks ahead by one step of the mean",
    with_calls({looked_ahead: _in_full}),
    rules=("Muon",),
    formerly=("look_ahead", "gradient", "momentum"),
)

OF = "heavyball.{rule}"

PRESETS = {
    "Muon": preset(
        "iterates in bfloat16",
        lr=0.0025,
        momentum=0.9,
        ns_coefficients="quintic",
        ns_guard=("max", 1e-07),
        quirks=(GRADIENT_IN_FULL,),
    )
}
