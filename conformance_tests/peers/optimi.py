"""The optimizers of optimi (package torch-optimi) that are not torch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Peer
from .torch import PACKAGE, read, target

__all__ = ["LIBRARIES", "NAME", "PACKAGE", "PEERS", "read", "target"]

NAME = "optimi"
LIBRARIES = ("torch", "optimi")


def _stable(tensors: Any, h: Mapping[str, Any]) -> Any:
    import optimi  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

    given = {name: h[name] for name in ("lr", "betas", "eps", "weight_decay")}
    return optimi.StableAdamW(tensors, triton=False, **given)


PEERS = [
    Peer(
        "StableAdamW",
        _stable,
        {},
        [{}, {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.95)}],
        left_out={"m": "corrected as it is gathered", "v": "corrected as it is gathered"},
        without={"empty": "a mean over no elements"},
    )
]
