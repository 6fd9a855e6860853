"""The optimizers of pytorch_optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from . import Peer
from .torch import PACKAGE, Within, read, target

__all__ = ["LIBRARIES", "NAME", "PACKAGE", "PEERS", "read", "target"]

NAME = "pytorch_optimizer"
LIBRARIES = ("torch", "pytorch_optimizer")

Hypers = Mapping[str, Any]

LARGE: Hypers = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def _native(name: str, *names: str, **fixed: Any) -> Callable[[Any, Hypers], Any]:
    """A function that makes an optimizer from our hyperparameters of these names."""

    def make(tensors: Any, h: Hypers) -> Any:
        import pytorch_optimizer  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        own = ("lr", "betas", "weight_decay", *names)
        given = {one: h[one] for one in own if one in h}
        apart = {"weight_decouple": h["decay"] in ("decoupled", "post")}
        return getattr(pytorch_optimizer, name)(tensors, **{**given, **apart, **fixed})

    return make


def in_float64() -> AbstractContextManager[Any]:
    """A context in which the iteration that is in bfloat16 is in float64."""
    import torch  # noqa: PLC0415
    from pytorch_optimizer.optimizer.utils import (  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
        matrix,
    )

    function = matrix.zero_power_via_newton_schulz_5
    defaults: Any = function.__defaults__
    *others, dtype = defaults
    assert dtype == torch.bfloat16
    return mock.patch.object(function, "__defaults__", (*others, torch.float64))


def of_matrices(name: str, *names: str, **fixed: Any) -> Callable[[Any, Hypers], Any]:
    """A function that makes one of its kinds of Muon."""

    def make(tensors: Any, h: Hypers) -> Any:
        import pytorch_optimizer  # noqa: PLC0415

        given = {
            "ns_coeffs": {"jordan": "original"}.get(h["ns_coefficients"], h["ns_coefficients"]),
            "use_adjusted_lr": h["scale"] == "match_rms",
            "weight_decouple": h["decay"] == "decoupled",
            **{name: h[name] for name in ("lr", "weight_decay", "ns_steps", *names)},
            **fixed,
        }
        groups = [{"params": tensors, "use_muon": True}]
        made = getattr(pytorch_optimizer, name)(groups, foreach=False, **given)
        return Within(made, in_float64)

    return make


def _adamuon(tensors: Any, h: Hypers) -> Any:
    betas = {"betas": (h["momentum"], h["beta2"])}
    return of_matrices("AdaMuon", "eps", **betas)(tensors, h)


def _normuon(tensors: Any, h: Hypers) -> Any:
    """With ``match_rms`` if the rule has the length of a matrix of 0.2."""
    update_scale = {"before": "preserve_norm", "rank": "match_rms"}[h["norm_to"]]
    make = of_matrices("NorMuon", "momentum", "nesterov", "beta2", "eps", update_scale=update_scale)
    return make(tensors, h)


def _scion(tensors: Any, h: Hypers) -> Any:
    """With its norm of a shape where ours is that of the shape too."""
    import pytorch_optimizer  # noqa: PLC0415

    kinds = {"spectral": 2, "spectral_max": 2, "sign": 4, "rms": 5, "column": 6, "row": 7}
    counted = "normalize" if h["norm"].startswith("s") else "normalized"
    given = {} if h["normalized"] is None else {counted: h["normalized"]}
    given |= {"max_scale": True} if h["norm"] == "spectral_max" else {}

    def group(tensor: Any) -> dict[str, Any]:
        own = {"norm_type": kinds[h["norm"]], "norm_kwargs": given}
        return {"params": [tensor], **(own if tensor.ndim == 2 else {})}

    made = pytorch_optimizer.SCION(
        [group(tensor) for tensor in tensors],
        lr=h["lr"],
        momentum=1 - h["momentum"],
        scale=h["radius"],
        constraint=h["weight_decay"] == 1,
        weight_decay=h["weight_decay"],
        foreach=False,
    )
    return Within(made, in_float64)


def _rows(optimizer: Any, index: int) -> Any:
    base = optimizer.base_optimizer
    param = base.param_groups[0]["params"][index]
    kept = base.state[param].get("second_momentum_buffer")
    return None if kept is None else kept.reshape(-1, *(1,) * (param.ndim - 1))


def _came(tensors: Any, h: Hypers) -> Any:
    eps = dict(zip(("eps1", "eps2"), h["eps"], strict=True))
    return _native("CAME", "clip_threshold", **eps)(tensors, h)


def _mars(tensors: Any, h: Hypers) -> Any:
    """With its vectors as matrices are."""
    kind = "adamw" if h["adaptive"] else "lion"
    return _native("MARS", "eps", "gamma", mars_type=kind, optimize_1d=True)(tensors, h)


def _mars_muon(tensors: Any, h: Hypers) -> Any:
    betas = {"betas": (h["momentum"], 0.99)}
    make = _native("MARS", "gamma", mars_type="shampoo", optimize_1d=True, **betas)
    return Within(make(tensors, h), in_float64)


def _parts(name: str) -> Callable[[Any, int], Any]:
    """Rows and columns of a mean square, or all of it."""

    def read(optimizer: Any, index: int) -> Any:
        state = optimizer.state[optimizer.param_groups[0]["params"][index]]
        rows, cols, whole = (state.get(f"{name}{part}") for part in ("_row", "_col", ""))
        if rows is None:
            return whole if whole is None else (whole,)
        return rows.unsqueeze(-1), cols.unsqueeze(-2)

    return read


NORMS = [
    ("spectral", False),
    ("spectral_max", None),
    ("spectral_max", False),
    ("column", None),
    ("column", True),
    ("sign", None),
    ("sign", False),
    ("row", False),
]
PEERS = [
    Peer(
        "ADOPT",
        _native("ADOPT", "eps"),
        MOMENTS,
        [{}, LARGE, {**LARGE, "betas": (0.8, 0.99), "decay": "decoupled"}],
    ),
    Peer(
        "CAME",
        _came,
        {"m": "exp_avg", "v": _parts("exp_avg_sq"), "r": _parts("exp_avg_res")},
        [{}, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9, 0.99), "clip_threshold": 0.5}],
        without={"empty": "it divides by the number of elements"},
    ),
    Peer(
        "AdaMuon",
        _adamuon,
        {"m": "m", "v": "v"},
        [{}, {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.8, "beta2": 0.99, "scale": "shape"}],
        without={"empty": "no quotient of its sides"},
    ),
    Peer("Grams", _native("Grams", "eps"), MOMENTS, [{}, {**LARGE, "betas": (0.8, 0.99)}]),
    Peer(
        "LaProp",
        _native("LaProp", "eps", foreach=False),
        {"v": "exp_avg_sq"},
        [{}, {**LARGE, "betas": (0.8, 0.99)}],
        left_out={"m": "it has lr in it"},
    ),
    Peer(
        "MADGRAD",
        _native("MADGRAD", "momentum", "eps"),
        {"s": "s", "v": "grad_sum_sq", "p0": "x0"},
        [{}, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "decay": "decoupled"}],
    ),
    Peer(
        "MARS",
        _mars,
        {**MOMENTS, "prev": "last_grad"},
        [
            {"adaptive": False, "weight_decay": 0.1},
            {**LARGE, "betas": (0.8, 0.99), "gamma": 0.1},
        ],
    ),
    Peer(
        "MARSMuon",
        _mars_muon,
        {"m": "exp_avg", "prev": "last_grad"},
        [{}, {"lr": 0.1, "momentum": 0.8, "gamma": 0.1, "weight_decay": 0.1}],
        without={"empty": "no quotient of its sides"},
    ),
    Peer(
        "Muon",
        of_matrices("Muon", "momentum", "nesterov"),
        {"m": "momentum_buffer"},
        [
            {},
            {"scale": "match_rms", "nesterov": False, "decay": "l2", "weight_decay": 0.1},
            {
                "lr": 0.1,
                "weight_decay": 0.1,
                "momentum": 0.9,
                "ns_steps": 7,
                "ns_coefficients": "quintic",
            },
        ],
        without={"empty": "no quotient of its sides"},
    ),
    Peer(
        "NorMuon",
        _normuon,
        {"m": "momentum_buffer", "v": _rows},
        [
            {},
            {"scale": "match_rms", "nesterov": False, "norm_to": "rank"},
            {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9, "beta2": 0.99, "eps": 1e-2},
        ],
        without={"empty": "no mean over no elements"},
    ),
    Peer(
        "NovoGrad",
        _native("NovoGrad", "eps"),
        {"m": "moments", "v": "grads_ema"},
        [{}, {**LARGE, "betas": (0.8, 0.9)}],
    ),
    Peer(
        "QHAdam",
        _native("QHAdam", "eps", "nus"),
        {},
        [{}, {**LARGE, "betas": (0.8, 0.99), "nus": (0.7, 0.9), "decay": "decoupled"}],
        left_out={"m": "corrected as it is gathered", "v": "corrected as it is gathered"},
        tolerance=1e-6,
        because="the weights of its means are in float32",
    ),
    Peer(
        "Scion",
        _scion,
        {"m": "d"},
        [{}, {"weight_decay": 1.0, "radius": 20.0}, {"lr": 0.1, "weight_decay": 0.1}],
        without={"empty": "no quotient of its sides"},
    ),
    Peer(
        "Scion",
        _scion,
        {"m": "d"},
        [
            *({"norm": norm, "normalized": normalized} for norm, normalized in NORMS),
            {"norm": "row", "lr": 0.1, "weight_decay": 1.0, "momentum": 0.5},
        ],
        without={"empty": "no quotient of its sides", "kernel": "it takes matrices there"},
    ),
    Peer(
        "SimplifiedAdEMAMix",
        _native("SimplifiedAdEMAMix", "eps", "alpha", foreach=False),
        MOMENTS,
        [{}, {**LARGE, "betas": (0.8, 0.99), "alpha": 2.0}],
    ),
    Peer(
        "StableAdamW",
        _native("StableAdamW", "eps", weight_decouple=True),
        {},
        [{}, {**LARGE, "betas": (0.8, 0.95)}],
        left_out={"m": "corrected as it is gathered", "v": "corrected as it is gathered"},
        without={"empty": "a mean over no elements"},
    ),
]
