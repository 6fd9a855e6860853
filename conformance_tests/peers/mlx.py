"""The optimizers of MLX, which has float64 on the CPU only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from samestep.checkpoints.correspondence import counterpart
from samestep.parity import Trajectory

from . import Arguments, Peer

try:  # the one correspondence, of which the converters of states are made too
    from samestep.mlx.natives import MLX as NATIVES
except ImportError:  # without MLX there is nothing to be run
    NATIVES = {}

NAME = "mlx"
LIBRARIES = ("mlx.core", "mlx.optimizers")
PACKAGE = "mlx"

Hypers = Mapping[str, Any]


def target(peer: Peer, hypers: Hypers) -> Callable[[], Any]:
    """A function that makes the optimizer."""

    def make() -> Any:
        import mlx.optimizers as optimizers  # noqa: PLC0415, PLR0402

        return peer.make(optimizers, hypers)

    return make


def _native(optimizers: Any, h: Hypers, rule: str) -> Any:
    return counterpart(optimizers, NATIVES, rule, h)()


LR = {"lr": 2.0**-6}  # MLX holds the rate in float32, which must not round it
LARGE = {**LR, "eps": 1e-2}
CORRECTED = {**LARGE, "bias_correction": True, "betas": (0.9, 0.99)}
SINGLE = "MLX computes 1 - beta**t in float32: at t = 1 that is wrong by 6e-8 / 0.01"

ARGUMENTS = Arguments(
    {
        **{name: name for name in ("betas", "eps", "weight_decay", "bias_correction", "alpha")},
        **{name: name for name in ("rho", "momentum", "dampening", "nesterov")},
        **{name: name for name in ("clip_threshold", "scale_parameter", "relative_step")},
        "warmup_init": "warmup_init",
        "Adafactor.learning_rate": lambda h: None if h["relative_step"] else h["lr"],
        "decay_rate": lambda h: -h["decay_rate"],
        "beta_1": "momentum",
        "ns_steps": "ns_steps",
    },
    {},
)


def _peer(rule: str, *settings: Hypers, **others: Any) -> Peer:
    """A rule and the optimizer of MLX that computes the same."""
    slots = NATIVES[rule].slots if rule in NATIVES else {}
    return Peer(rule, partial(_native, rule=rule), slots, settings, **others)


def _oblong(trajectory: Trajectory) -> Trajectory:
    """A kernel whose places are more in one direction than in the other."""

    def shaped(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {p: a.reshape(6, 3, 5, 3) if p == "kernel" else a for p, a in arrays.items()}

    return Trajectory(shaped(trajectory.params), [shaped(step) for step in trajectory.grads])


PEERS = [
    _peer(
        "SGD",
        {**LR, "weight_decay": 0.1},
        {**LR, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {**LR, "momentum": 0.9, "nesterov": True},
    ),
    _peer("RMSprop", LR, {**LARGE, "alpha": 0.9}),
    _peer("Adagrad", LR, LARGE),
    _peer("AdaDelta", LR, {**LARGE, "rho": 0.8}),
    _peer("Adam", CORRECTED, tolerance=6e-6, because=SINGLE),
    _peer("Adam", LR, {**LARGE, "betas": (0.8, 0.99)}),
    _peer("AdamW", LR, {**LARGE, "weight_decay": 0.1}),
    _peer("AdamW", CORRECTED, tolerance=6e-6, because=SINGLE),
    _peer("Adamax", LR, {**LARGE, "betas": (0.8, 0.99)}),
    _peer("Lion", LR, {**LR, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    _peer(
        "Muon",
        LR,
        {**LR, "nesterov": False, "weight_decay": 0.0},
        {**LR, "momentum": 0.9, "weight_decay": 0.3, "ns_steps": 4},
        problem=_oblong,
        tolerance=2e-6,
        because="MLX rounds the coefficient 2.0315 to float32, by 2e-8, and five iterations follow",
    ),
    _peer(
        "Adafactor",
        {},
        {"momentum": 0.9, "clip_threshold": 1.5},
        {"warmup_init": True, "eps": (1e-6, 1e-2)},
        {**LR, "relative_step": False, "scale_parameter": False},
        {"weight_decay": 0.1, "momentum": 0.9, "decay_rate": 0.7},
        without={"empty": "no mean over no elements"},
        tolerance=1e-6,
        because="MLX computes t**-0.8 and the step size in float32, which rounds by 6e-8",
    ),
]
