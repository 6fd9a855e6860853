"""The optimizers of MLX, which has float64 on the CPU only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from samestep.arrays import map_parts
from samestep.parity.backend import Snapshot

from . import Arguments, Peer, nested

NAME = "mlx"
LIBRARIES = ("mlx.core", "mlx.optimizers")

Hypers = Mapping[str, Any]


def run(
    peer: Peer, hypers: Hypers, params: Mapping[str, Any], grads: Sequence[Mapping[str, Any]]
) -> list[Snapshot]:
    """Step an optimizer of MLX in float64.

    ``make`` gets the module ``mlx.optimizers`` and our hyperparameters. Slots are read
    by the correspondence that converts states.
    """
    import mlx.core as mx  # noqa: PLC0415
    import mlx.optimizers as optimizers  # noqa: PLC0415, PLR0402

    from samestep.checkpoints.correspondence import About  # noqa: PLC0415
    from samestep.mlx.natives import MLX  # noqa: PLC0415

    def snapshot() -> Snapshot:
        taken = {"param": {path: numpy.array(value) for path, value in values.items()}}
        native = MLX[type(optimizer).__name__]
        for slot in peer.slots:
            found = {path: native.slot(slot, optimizer.state[path], About({})) for path in values}
            taken[slot] = {
                path: map_parts(numpy.array, array)
                for path, array in found.items()
                if array is not None
            }
        return nested(taken)

    with mx.stream(mx.cpu):
        values = {path: mx.array(array, dtype=mx.float64) for path, array in params.items()}
        optimizer = peer.make(optimizers, hypers)
        optimizer.init(values)
        snapshots = [snapshot()]
        for step in grads:
            native = {path: mx.array(grad, dtype=mx.float64) for path, grad in step.items()}
            values = optimizer.apply_gradients(native, values)
            mx.eval(values, optimizer.state)
            snapshots.append(snapshot())
    return snapshots


def _adafactor(optimizers: Any, h: Hypers) -> Any:
    return optimizers.Adafactor(
        None if h["relative_step"] else h["lr"],
        eps=h["eps"],
        clip_threshold=h["clip_threshold"],
        decay_rate=-h["decay_rate"],
        beta_1=h["momentum"] or None,
        weight_decay=h["weight_decay"],
        scale_parameter=h["scale_parameter"],
        relative_step=h["relative_step"],
        warmup_init=h["warmup_init"],
    )


def _sgd(optimizers: Any, h: Hypers) -> Any:
    names = ("momentum", "weight_decay", "dampening", "nesterov")
    return optimizers.SGD(h["lr"], **{name: h[name] for name in names})


def _adam(optimizers: Any, h: Hypers) -> Any:
    names = ("betas", "eps", "bias_correction")
    return optimizers.Adam(h["lr"], **{name: h[name] for name in names})


def _adamw(optimizers: Any, h: Hypers) -> Any:
    names = ("betas", "eps", "weight_decay", "bias_correction")
    return optimizers.AdamW(h["lr"], **{name: h[name] for name in names})


LR = {"lr": 2.0**-6}  # MLX holds the rate in float32, which must not round it
LARGE = {**LR, "eps": 1e-2}

ARGUMENTS = Arguments(
    {
        **{name: name for name in ("betas", "eps", "weight_decay", "bias_correction", "alpha")},
        **{name: name for name in ("rho", "momentum", "dampening", "nesterov")},
        **{name: name for name in ("clip_threshold", "scale_parameter", "relative_step")},
        "warmup_init": "warmup_init",
        "Adafactor.learning_rate": lambda h: None if h["relative_step"] else h["lr"],
        "decay_rate": lambda h: -h["decay_rate"],
        "beta_1": "momentum",
    },
    {},
)


def slots(*names: str) -> dict[str, str]:
    """Slots of ours that MLX keeps; the correspondence says where."""
    return {name: name for name in names}


OTHERS = [
    Peer(
        "Muon",
        lambda optimizers, h: optimizers.Muon(
            h["lr"], h["momentum"], weight_decay=0.0, nesterov=h["nesterov"]
        ),
        slots("m"),
        [LR, {**LR, "nesterov": False}],
        tolerance=2e-6,
        because="MLX rounds the coefficient 2.0315 to float32, by 2e-8, and five iterations follow",
    ),
]
"""What a rule computes that has no dialect of MLX: its decay is coupled."""

PEERS = [
    Peer(
        "SGD",
        _sgd,
        slots("m"),
        [
            {**LR, "weight_decay": 0.1},
            {**LR, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
            {**LR, "momentum": 0.9, "nesterov": True},
        ],
    ),
    Peer(
        "RMSprop",
        lambda optimizers, h: optimizers.RMSprop(h["lr"], h["alpha"], h["eps"]),
        slots("v"),
        [LR, {**LARGE, "alpha": 0.9}],
    ),
    Peer(
        "Adagrad",
        lambda optimizers, h: optimizers.Adagrad(h["lr"], h["eps"]),
        slots("v"),
        [LR, LARGE],
    ),
    Peer(
        "AdaDelta",
        lambda optimizers, h: optimizers.AdaDelta(h["lr"], h["rho"], h["eps"]),
        slots("v", "u"),
        [LR, {**LARGE, "rho": 0.8}],
    ),
    Peer("Adam", _adam, slots("m", "v"), [LR, {**LARGE, "betas": (0.8, 0.99)}]),
    Peer("AdamW", _adamw, slots("m", "v"), [LR, {**LARGE, "weight_decay": 0.1}]),
    Peer(
        "AdamW",
        _adamw,
        slots("m", "v"),
        [{**LARGE, "bias_correction": True, "betas": (0.9, 0.99)}],
        tolerance=6e-6,
        because="MLX computes 1 - beta**t in float32: at t = 1 that is wrong by 6e-8 / 0.01",
    ),
    Peer(
        "Adamax",
        lambda optimizers, h: optimizers.Adamax(h["lr"], h["betas"], h["eps"]),
        slots("m", "u"),
        [LR, {**LARGE, "betas": (0.8, 0.99)}],
    ),
    Peer(
        "Lion",
        lambda optimizers, h: optimizers.Lion(h["lr"], h["betas"], h["weight_decay"]),
        slots("m"),
        [LR, {**LR, "weight_decay": 0.1}],
    ),
    Peer(
        "Adafactor",
        _adafactor,
        slots("v", "m"),
        [
            {},
            {"momentum": 0.9, "clip_threshold": 1.5},
            {"warmup_init": True, "eps": (1e-6, 1e-2)},
            {**LR, "relative_step": False, "scale_parameter": False},
            {"weight_decay": 0.1, "momentum": 0.9},
        ],
        without={"empty": "no mean over no elements"},
        tolerance=1e-6,
        because="MLX computes t**-0.8 and the step size in float32, which rounds by 6e-8",
    ),
]
