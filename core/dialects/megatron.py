"""NVIDIA's Emerging-Optimizers of August 2026, whose Muon Megatron uses."""

from __future__ import annotations

from typing import Any

from samestep.dialects import preset
from samestep.parts.moments import quotient
from samestep.parts.orthogonal import normalized
from samestep.quirks import Quirk, with_calls
from samestep.vocabulary import at_least, sqrt


def _clamped(now: Any) -> Any:
    def normalized(xp: Any, x: Any, v: Any, s: Any) -> Any:
        return quotient(xp, x, sqrt(xp, at_least(xp, v, s.eps)), s.vanishes)

    return normalized


CLAMPED = Quirk(
    "mean square of at least eps",
    "divides by the root of a mean square of at least eps = {eps:g}",
    "divides by the root of the mean square, and eps",
    with_calls({normalized: _clamped}),
    rules=("NorMuon",),
    formerly=("eps_form", "clamped", "added"),
)

OF = "emerging_optimizers.orthogonalized_optimizers.{rule}"
_ADAPTIVE = "emerging_optimizers.orthogonalized_optimizers.AdaptiveMuon"
_ITERATION: dict[str, Any] = {
    "lr": 0.0003,
    "ns_coefficients": "quintic",
    "ns_beyond": "cycle",
    "ns_guard": ("max", 1e-15),
}
_COMMON = {"weight_decay": 0.01, "nesterov": False, "scale": "spectral", **_ITERATION}

PRESETS = {
    "AdaMuon": preset(
        "not rescaled", of=_ADAPTIVE, eps=1e-08, signs=False, norm_to="none", **_COMMON
    ),
    "Muon": preset("products in bfloat16", **_COMMON),
    "NorMuon": preset(
        "not rescaled",
        of=_ADAPTIVE,
        eps=1e-08,
        per="longer",
        norm_to="none",
        quirks=(CLAMPED,),
        **_COMMON,
    ),
    "Scion": preset("of the spectral norm", momentum=0.95, **_ITERATION),
}
