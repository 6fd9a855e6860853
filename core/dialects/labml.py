"""labml_nn.optimizers.

Its Adam adds eps before the correction with optimized_update=True, the default; the text has
1 - beta2^t there, where its root is meant. The constructor of its AdaBelief shifts its arguments by
one place: it always takes the largest v, and does not move until it rectifies.
"""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.quirks import Quirk


def _read_with_eps(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found: dict[str, Any] = cls.scalars(self, xp, t)
        under = self.eps_root + (found["root"]["under"][0] if found["root"]["under"] else 0.0)
        return found | {"eps_root": 0.0, "root": found["root"] | {"under": (under,)}}

    return {"scalars": scalars}


EPS_NOT_KEPT = Quirk(
    "eps not kept in v",
    "adds eps_root = {eps_root:g} where v is read",
    "adds eps_root = {eps_root:g} to v at every step",
    _read_with_eps,
    rules=("AdaBelief",),
    formerly=("keep_eps", False, True),
)

OF = "labml_nn.optimizers.{rule}"

PRESETS = {
    "AMSGrad": preset(eps=1e-16, eps_at="uncorrected", decay="decoupled"),
    "AdaBelief": preset(
        "amsgrad always, no step until rectified",
        amsgrad=True,
        rectify=True,
        threshold=5.0,
        below="skip",
        quirks=(EPS_NOT_KEPT,),
    ),
    "Adam": preset(eps=1e-16, eps_at="uncorrected", decay="decoupled"),
    "RAdam": preset(threshold=5.0, eps_at="uncorrected", decay="decoupled"),
}
