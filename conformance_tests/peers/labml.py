"""The optimizers of labml_nn.optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from . import RECTIFIED, Arguments, Peer, declared
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

NAME = "labml"
LIBRARIES = ("torch", "labml_nn.optimizers")

Hypers = Mapping[str, Any]


def _class(module: str, name: str) -> Any:
    return getattr(import_module(f"labml_nn.optimizers.{module}"), name)


def _common(h: Hypers) -> dict[str, Any]:
    decay = import_module("labml_nn.optimizers").WeightDecay(
        h["weight_decay"],
        weight_decouple=h["decay"] in ("decoupled", "absolute"),
        absolute=h["decay"] == "absolute",
    )
    return {"lr": h["lr"], "betas": h["betas"], "eps": h["eps"], "weight_decay": decay}


def _optimized(h: Hypers) -> bool:
    """The place of eps, which is called ``optimized_update`` there."""
    return bool(h["eps_at"] == "uncorrected")


def _adam(tensors: Any, h: Hypers) -> Any:
    return _class("adam", "Adam")(tensors, optimized_update=_optimized(h), **_common(h))


def _amsgrad(tensors: Any, h: Hypers) -> Any:
    return _class("amsgrad", "AMSGrad")(
        tensors, optimized_update=_optimized(h), amsgrad=True, **_common(h)
    )


def _radam(tensors: Any, h: Hypers) -> Any:
    return _class("radam", "RAdam")(
        tensors,
        optimized_update=_optimized(h),
        amsgrad=bool(h["amsgrad"]),
        degenerated_to_sgd=h["below"] == "momentum",
        **_common(h),
    )


def _adabelief(tensors: Any, h: Hypers) -> Any:
    """AdaBelief, whose constructor passes three arguments on by place, one place too far.

    What it calls amsgrad becomes optimized_update, degenerate_to_sgd becomes amsgrad, and defaults
    becomes degenerated_to_sgd (false while it is empty).
    """
    return _class("ada_belief", "AdaBelief")(
        tensors,
        amsgrad=_optimized(h),
        degenerate_to_sgd=bool(h["amsgrad"]),
        defaults={"below": "momentum"} if h["below"] == "momentum" else {},
        rectify=h["rectify"],
        **_common(h),
    )


def _added(h: Hypers) -> Any:
    """AdaBelief's eps, which is added below the root and beside it."""
    return h["eps"] if h["eps"] == h["eps_root"] else (h["eps"], h["eps_root"])


def defaults(of: str) -> dict[str, Any]:
    """The library's defaults, and the defaults of its weight decay, which is an object there."""
    name = of.rpartition(".")[2]
    module = {"AdaBelief": "ada_belief"}.get(name, name.lower())
    found = declared(_class(module, name))
    return {**found, **vars(found["weight_decay"])}


ADAM = {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}
BELIEF = {"m": "exp_avg", "v": "exp_avg_var", "v_max": "max_exp_avg_var"}
LARGE = {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-2, "weight_decay": 0.1}
COUPLED = {**LARGE, "decay": "l2", "eps_at": "outside"}
ABSOLUTE = {**LARGE, "decay": "absolute", "weight_decay": 1e-3}

ARGUMENTS = Arguments(
    {
        **{name: name for name in ("lr", "betas", "eps", "weight_decay", "amsgrad", "rectify")},
        "weight_decouple": lambda h: h["decay"] in ("decoupled", "absolute"),
        "absolute": lambda h: h["decay"] == "absolute",
        "optimized_update": _optimized,
        "degenerated_to_sgd": lambda h: h["below"] == "momentum",
        "AdaBelief.eps": _added,
        "AdaBelief.amsgrad": _optimized,  # see _adabelief
        "AdaBelief.degenerate_to_sgd": "amsgrad",
        "AdaBelief.defaults": lambda h: {"below": "momentum"} if h["below"] == "momentum" else None,
    },
    {"AMSGrad.amsgrad": "given, to select the rule", "defaults": "more entries of a group"},
)

PEERS = [
    Peer("Adam", _adam, ADAM, [{}, LARGE, COUPLED, ABSOLUTE]),
    Peer("AMSGrad", _amsgrad, ADAM, [{}, LARGE, COUPLED, ABSOLUTE]),
    Peer(
        "RAdam",
        _radam,
        ADAM,
        [
            {},
            LARGE,
            {**COUPLED, "below": "skip", "amsgrad": True},
            {**ABSOLUTE, "betas": (0.8, 0.9)},
        ],
        tolerance=RECTIFIED,
        because="the library finds rho by cancellation",
    ),
    Peer(
        "AdaBelief",
        _adabelief,
        BELIEF,
        [
            {},
            {**LARGE, "eps_root": 1e-2},
            {**COUPLED, "eps_root": 1e-2, "rectify": False},
            {**LARGE, "eps_root": 1e-2, "below": "momentum", "eps_at": "uncorrected"},
            {**ABSOLUTE, "eps_root": 1e-2, "amsgrad": False},
        ],
        tolerance=RECTIFIED,
        because="the library finds rho by cancellation",
    ),
]
