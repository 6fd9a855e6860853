"""The optimizers of holocron.optim (package pylocron)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy

from samestep.parity import Trajectory
from samestep.parity.subjects.importing import alone

from . import RECTIFIED, Arguments, Peer, declared
from .torch import ARGUMENTS as TORCH
from .torch import PACKAGE, read, target

__all__ = [
    "ARGUMENTS",
    "LIBRARIES",
    "NAME",
    "PACKAGE",
    "PEERS",
    "defaults",
    "read",
    "target",
]

NAME = "holocron"
LIBRARIES = ("torch", "holocron")

Hypers = Mapping[str, Any]


def _optim() -> Any:
    return alone("holocron.optim")


def _common(h: Hypers, *names: str) -> dict[str, Any]:
    return {name: h[name] for name in ("lr", "weight_decay", *names)}


def _inside(tensors: Any, h: Hypers) -> Any:
    import torch  # noqa: PLC0415

    if h["inner"] not in ("SGD", "AdamW"):
        more = ["eps"] if h["inner"] == "AdaBelief" else []
        return getattr(_optim(), h["inner"])(tensors, **_common(h, *more))

    if h["inner"] == "SGD":
        return torch.optim.SGD(tensors, **_common(h, "momentum", "dampening", "nesterov"))
    return torch.optim.AdamW(tensors, **_common(h, "betas", "eps"))


def _wrapped(name: str, tensors: Any, h: Hypers) -> Any:
    wrapper = getattr(_optim().wrapper, name)
    return wrapper(_inside(tensors, h), sync_rate=h["sync_rate"], sync_period=h["sync_period"])


def _around(name: str, *settings: Hypers, **others: Any) -> Peer:
    """A wrapper of the library around rules of the library and of torch."""
    slots = {**INSIDE, "slow": _slow}
    return Peer(name, lambda tensors, h: _wrapped(name, tensors, h), slots, settings, **others)


def _slow(optimizer: Any, index: int) -> Any:
    return optimizer.param_groups[0]["params"][index]


def _moving(trajectory: Trajectory) -> Trajectory:
    """Gradients without zeros: where updates do not deviate, Scout divides 0 by 0."""
    grads = [
        {path: numpy.where(grad == 0, 1e-3 * (1 + t % 5), grad) for path, grad in step.items()}
        for t, step in enumerate(trajectory.grads)
    ]
    return replace(trajectory, grads=grads)


def defaults(of: str) -> dict[str, Any]:
    """The library's defaults."""
    name = of.rpartition(".")[2]
    module = _optim().wrapper if name in ("Lookahead", "Scout") else _optim()
    return declared(getattr(module, name))


def _bounds(h: Hypers) -> tuple[float, float] | None:
    """None stands for (0, 10), and in LARS for no bounds."""
    usual = (0.0, inf) if "trust_coefficient" in h else (0.0, 10.0)
    return None if h["scale_clip"] == usual else h["scale_clip"]


ADAM = {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}
LARGE: Hypers = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}
BETAS: Hypers = {**LARGE, "betas": (0.8, 0.99)}
AMSGRAD: list[Hypers] = [{}, LARGE, {**LARGE, "betas": (0.9, 0.9), "amsgrad": True}]
SGD = {"inner": "SGD", "lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}
ADAMW = {"inner": "AdamW", "lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}
IN_OURS: Hypers = {"inner_like": "holocron", "lr": 0.01, "weight_decay": 0.1}
OTHERS_INSIDE: list[Hypers] = [
    *({"inner": name, **IN_OURS} for name in ("LARS", "LAMB", "TAdam", "AdEMAMix")),
    {"inner": "AdaBelief", "eps": 1e-2, **IN_OURS},
]
INSIDE = {**ADAM, "m": ("momentum_buffer", "exp_avg"), "m1": "exp_avg", "m2": "exp_avg_slow"}
INSIDE["w_sum"] = "W_t"

OFTEN = {"sync_period": 5, "sync_rate": 0.3}
TADAM = {"empty": "0 degrees of freedom over 0", "scalar": "its W_t has one dimension"}
SCOUT: dict[str, Any] = {
    "left_out": {"history": "a growing stack there, emptied at every synchronisation"},
    "without": {"empty": "it takes the mean over all elements"},
    "problem": _moving,
}

IGNORED: Mapping[str, Mapping[str, Any]] = {
    "AdaBelief": {
        "foreach": True,
        "maximize": True,
        "capturable": True,
        "differentiable": True,
        "fused": True,
        "decoupled_weight_decay": True,
    },
    "LARS": {"scale_clip": (0.5, 2.0)},
}
"""Arguments that are in a signature and are never read; AdaBelief's come with torch's Adam."""

ARGUMENTS = Arguments(
    {
        **TORCH.ours,
        **{name: name for name in ("alpha", "delta", "dof", "force_adaptive_momentum")},
        **{name: name for name in ("sync_rate", "sync_period")},
        "scale_clip": _bounds,
    },
    TORCH.apart,
)

PEERS = [
    Peer(
        "LARS",
        lambda tensors, h: _optim().LARS(
            tensors, **_common(h, "momentum", "dampening", "nesterov")
        ),
        {"m": "momentum_buffer"},
        [
            {},
            {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        ],
    ),
    Peer(
        "LAMB",
        lambda tensors, h: _optim().LAMB(tensors, **_common(h, "betas", "eps", "scale_clip")),
        ADAM,
        [{}, {**BETAS, "scale_clip": (0.5, 2.0)}],
    ),
    Peer(
        "RaLars",
        lambda tensors, h: _optim().RaLars(
            tensors, **_common(h, "betas", "eps", "force_adaptive_momentum", "scale_clip")
        ),
        ADAM,
        [{}, LARGE, {**BETAS, "force_adaptive_momentum": True, "scale_clip": (0.5, 2.0)}],
        tolerance=RECTIFIED,
        because="the library finds rho by cancellation",
    ),
    Peer(
        "TAdam",
        lambda tensors, h: _optim().TAdam(tensors, **_common(h, "betas", "eps", "amsgrad", "dof")),
        {**ADAM, "w_sum": "W_t"},
        [*AMSGRAD, {**LARGE, "dof": 3.0}],
        without=TADAM,
    ),
    Peer(
        "AdaBelief",
        lambda tensors, h: _optim().AdaBelief(tensors, **_common(h, "betas", "eps", "amsgrad")),
        ADAM,
        AMSGRAD,
    ),
    Peer(
        "AdamP",
        lambda tensors, h: _optim().AdamP(
            tensors, **_common(h, "betas", "eps", "amsgrad", "delta")
        ),
        ADAM,
        [*AMSGRAD, {**LARGE, "delta": 0.5}],
        without={"empty": "it divides by the root of the number of elements"},
    ),
    Peer(
        "Adan",
        lambda tensors, h: _optim().Adan(tensors, **_common(h, "betas", "eps", "amsgrad")),
        {
            "m": "exp_avg",
            "v": "exp_avg_sq",
            "n": "exp_avg_delta",
            "n_max": "max_exp_avg_delta",
            "prev": "prev_grad",
        },
        [{}, LARGE, {**LARGE, "betas": (0.9, 0.9, 0.9), "amsgrad": True}],
    ),
    Peer(
        "AdEMAMix",
        lambda tensors, h: _optim().AdEMAMix(tensors, **_common(h, "betas", "eps", "alpha")),
        {"m1": "exp_avg", "m2": "exp_avg_slow", "v": "exp_avg_sq"},
        [{}, {**LARGE, "alpha": 2.0, "betas": (0.8, 0.99, 0.999)}],
    ),
    _around("Lookahead", SGD, {**ADAMW, **OFTEN}),
    _around("Lookahead", *OTHERS_INSIDE, without=TADAM),
    _around("Scout", SGD, {**ADAMW, **OFTEN}, {**SGD, "sync_rate": 0.05}, **SCOUT),
    _around(
        "Scout",
        *OTHERS_INSIDE,
        **{**SCOUT, "without": {**TADAM, **SCOUT["without"]}},
    ),
]
