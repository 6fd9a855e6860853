"""The optimizers of muon-optimizer, whose tensors stay in float64 where they ask for bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Peer
from .torch import PACKAGE, Within, read, target, without_bfloat16

__all__ = ["LIBRARIES", "NAME", "PACKAGE", "PEERS", "read", "target"]

NAME = "keller-jordan"
LIBRARIES = ("torch", "muon")


def _muon(tensors: Any, h: Mapping[str, Any]) -> Any:
    import muon  # type: ignore[import,unused-ignore]  # noqa: PLC0415

    given = {name: h[name] for name in ("lr", "weight_decay", "momentum")}
    return Within(muon.SingleDeviceMuon(tensors, **given), without_bfloat16)


PEERS = [
    Peer(
        "Muon",
        _muon,
        {"m": "momentum_buffer"},
        [{}, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}],
        without={"kernel": "0.1.0 adds its matrix to it and fails"},
    )
]
