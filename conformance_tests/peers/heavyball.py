"""The optimizers of heavyball, without its compiler; they iterate in float64 where tensors are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Peer
from .torch import PACKAGE, read, target

__all__ = ["LIBRARIES", "NAME", "PACKAGE", "PEERS", "read", "target"]

NAME = "heavyball"
LIBRARIES = ("torch", "heavyball")


def _muon(tensors: Any, h: Mapping[str, Any]) -> Any:
    import heavyball  # type: ignore[import,unused-ignore]  # noqa: PLC0415

    heavyball.utils.compile_mode = None
    given = {name: h[name] for name in ("lr", "weight_decay", "nesterov")}
    return heavyball.Muon(
        tensors, betas=(h["momentum"], 0.99), storage_dtype="float64", compile_step=False, **given
    )


PEERS = [
    Peer(
        "Muon",
        _muon,
        {},
        [{}, {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1}, {"nesterov": False}],
        left_out={"m": "kept in a dict of groups of tensors"},
        without={"empty": "no quotient of its sides"},
    )
]
