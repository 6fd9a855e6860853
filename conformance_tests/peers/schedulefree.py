"""The optimizers of schedulefree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import RECTIFIED, Peer
from .torch import PACKAGE, read, target

__all__ = ["LIBRARIES", "NAME", "PACKAGE", "PEERS", "read", "target"]

NAME = "schedulefree"
LIBRARIES = ("torch", "schedulefree")

LARGE = {"lr": 0.01, "weight_decay": 0.1, "weight_power": 0.5, "weight_lr_power": 1.0}
WEIGHTS = {
    "weight_sum": "in the groups, as a sum and not over the last weight",
    "lr_max": "in the groups",
}


def _native(name: str, *names: str) -> Callable[[Any, Mapping[str, Any]], Any]:
    """A function that makes an optimizer from our hyperparameters of these names."""

    def make(tensors: Any, h: Mapping[str, Any]) -> Any:
        import schedulefree  # type: ignore[import,unused-ignore]  # noqa: PLC0415

        given = {one: h[one] for one in ("lr", "weight_decay", "weight_lr_power", *names)}
        more = {"silent_sgd_phase": h["below"] == "skip"} if "below" in h else {}
        optimizer = getattr(schedulefree, name)(tensors, r=h["weight_power"], **given, **more)
        optimizer.train()
        return optimizer

    return make


PEERS = [
    Peer(
        "ScheduleFreeAdamW",
        _native("AdamWScheduleFree", "betas", "eps", "warmup_steps"),
        {"v": "exp_avg_sq", "z": "z"},
        [{}, {**LARGE, "eps": 1e-2, "betas": (0.8, 0.95), "warmup_steps": 20}],
        left_out=WEIGHTS,
    ),
    Peer(
        "ScheduleFreeRAdam",
        _native("RAdamScheduleFree", "betas", "eps"),
        {"v": "exp_avg_sq", "z": "z"},
        [{}, {**LARGE, "eps": 1e-2, "betas": (0.8, 0.95), "below": "momentum"}],
        left_out=WEIGHTS,
        tolerance=RECTIFIED,
        because="its rho cancels",
    ),
    Peer(
        "ScheduleFreeSGD",
        _native("SGDScheduleFree", "momentum", "warmup_steps"),
        {"z": "z"},
        [{}, {**LARGE, "momentum": 0.8, "warmup_steps": 20}],
        left_out=WEIGHTS,
    ),
]
