"""The optimizers of Keras 3, whose weight decay is decoupled in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import pytest

from samestep.checkpoints.correspondence import About
from samestep.keras.natives import KERAS
from samestep.rule import registry

from . import Arguments, Peer

NAME = "keras"
LIBRARIES = ("jax", "keras")
PACKAGE = "keras"

Hypers = Mapping[str, Any]


import_module("samestep.keras.subject")  # which chooses Keras's backend before its first import


def target(peer: Peer, hypers: Hypers) -> Callable[[], Any]:
    """A function that makes the optimizer."""
    import keras  # type: ignore[import-untyped]  # noqa: PLC0415

    if keras.backend.backend() == "numpy":
        pytest.skip("Keras's backend of NumPy rounds float64 to float32 on the way")
    return lambda: peer.make(keras.optimizers, hypers)


def _native(name: str) -> Callable[[Any, Hypers], Any]:
    """A function that makes an optimizer of Keras from our hyperparameters."""

    def make(optimizers: Any, h: Hypers) -> Any:
        assert h["decay"] == "decoupled" or h["weight_decay"] == 0
        return getattr(optimizers, name)(**KERAS[name].arguments(h, About({})))

    return make


def _amsgrad(optimizers: Any, h: Hypers) -> Any:
    return _native("Adam")(optimizers, {**h, "amsgrad": True})


def _peer(name: str, *settings: Hypers, **others: Any) -> Peer:
    """An optimizer of Keras and the rule that computes the same."""
    native, left_out = KERAS[name], others.get("left_out", ())
    slots = {slot: read for slot, read in native.slots.items() if slot not in left_out}
    return Peer(native.rule, _native(name), slots, settings, **others)


ADAM = ("adam_beta_1", "adam_beta_2", "adam_weight_decay", "adam_lr_ratio", "epsilon")


LARGE = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}
FALLING = {**LARGE, "betas": (0.8, 0.9)}
BETAS = {**LARGE, "betas": (0.8, 0.99)}


def _ours() -> dict[str, str | Callable[[Hypers], Any]]:
    """Every argument, by ``Rule.argument``: the field of ours that it is, or its value."""
    found: dict[str, str | Callable[[Hypers], Any]] = {}
    for native in KERAS.values():
        for name, given in native.fields.items():
            for rule in (native.rule, *native.also):
                if isinstance(given, str):
                    found[f"{rule}.{given}"] = name
                    continue
                for theirs in given.theirs(
                    registry[native.rule](like=NAME).hypers[name], About({})
                ):
                    found[f"{rule}.{theirs}"] = partial(_converted, given, name, theirs)
    return found


def _converted(given: Any, name: str, theirs: str, h: Hypers) -> Any:
    return given.theirs(h[name], About({}))[theirs]


ARGUMENTS = Arguments(
    _ours(),
    {
        **{f"Muon.{name}": "AdamW's, whose the vectors are" for name in ADAM},
        "ScheduleFreeAdamW.weight_decay": "a decay of one of its two points alone",
        "exclude_layers": "a choice of parameters, which a route makes here",
        "exclude_embeddings": "a choice of parameters, which a route makes here",
        "AMSGrad.amsgrad": "given, to select the rule",
        "clipnorm": "a change of the gradients, before any rule",
        "clipvalue": "a change of the gradients, before any rule",
        "global_clipnorm": "a change of the gradients, before any rule",
        "gradient_accumulation_steps": "a change of the gradients, before any rule",
        "Adafactor.relative_step": "without effect: the step is min(lr, 1 / sqrt(t)) either way",
        "loss_scale_factor": "a change of the gradients, before any rule",
        "use_ema": "an average of the parameters, which goes with any rule",
        "ema_momentum": "an average of the parameters, which goes with any rule",
        "ema_overwrite_frequency": "an average of the parameters, which goes with any rule",
        "name": "a name",
    },
)

PEERS = [
    _peer(
        "SGD",
        {"lr": 0.02, "weight_decay": 0.1},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
    ),
    _peer("RMSprop", {}, {"momentum": 0.9, "alpha": 0.8, "centered": True, **LARGE}),
    _peer("Adagrad", {}, {"initial_v": 0.3, **LARGE}),
    _peer("Adadelta", {}, {"rho": 0.8, **LARGE}),
    _peer("Adam", {}, LARGE, {"amsgrad": True, **FALLING}),
    _peer("AdamW", {}, LARGE, {"amsgrad": True, **FALLING}),
    replace(_peer("Adam", {}, FALLING), rule="AMSGrad", make=_amsgrad),
    _peer("Adamax", {}, BETAS),
    _peer("Nadam", {}, BETAS, left_out={"product": "one for all parameters there"}),
    _peer("Lion", {}, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    _peer("Lamb", {}, BETAS),
    _peer(
        "ScheduleFreeAdamW",
        {},
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-2, "warmup_steps": 35},
        left_out=dict.fromkeys(("weight_sum", "lr_max"), "numbers that follow from the step"),
    ),
    _peer(
        "Muon",
        {},
        {"scale": "none", "nesterov": False, "momentum": 0.9},
        {
            "lr": 0.02,
            "weight_decay": 0.1,
            "ns_steps": 4,
            "ns_coefficients": (3.0, -3.2, 1.2),
            "scale": "spectral",
        },
        without={"kernel": "AdamW's there"},
        tolerance=1e-6,
        because="Keras takes the norm in float32, which rounds by 6e-8",
    ),
    _peer(
        "Adafactor",
        {},
        {"decay_rate": 0.7},
        {"lr": 0.5, "clip_threshold": 1.5, "eps": (1e-6, 1e-2), "weight_decay": 0.1},
        without={"empty": "no mean over no elements"},
        tolerance=2e-6,
        because="Keras takes means in float32, which rounds by 6e-8",
    ),
]
