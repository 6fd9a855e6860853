"""The optimizers of Keras 3, whose weight decay is decoupled in all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy
import pytest

from samestep.checkpoints.correspondence import About
from samestep.keras.natives import KERAS, kept, tensor
from samestep.parity.backend import Snapshot
from samestep.rule import registry

from . import Arguments, Peer, nested

NAME = "keras"
LIBRARIES = ("jax", "keras")

if "keras" not in sys.modules:  # the backend must be chosen before the first import
    os.environ["KERAS_BACKEND"] = "jax"  # that of NumPy rounds float64 to float32 on the way

Hypers = Mapping[str, Any]


def run(
    peer: Peer, hypers: Hypers, params: Mapping[str, Any], grads: Sequence[Mapping[str, Any]]
) -> list[Snapshot]:
    """Step an optimizer of Keras in float64, on the JAX backend.

    ``make`` gets the module ``keras.optimizers`` and our hyperparameters. A slot is the attribute
    that lists a variable per parameter, or a function of optimizer and index.
    """
    import jax  # noqa: PLC0415
    import keras  # type: ignore[import-untyped]  # noqa: PLC0415

    if keras.backend.backend() != "jax":
        pytest.skip(f"Keras has been imported with the {keras.backend.backend()} backend")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")  # the dtype in which Keras holds the learning rate
    try:
        with jax.enable_x64(True):
            return _follow(keras, peer, hypers, params, grads)
    finally:
        keras.config.set_floatx(before)


def _follow(keras: Any, peer: Peer, hypers: Hypers, params: Any, grads: Any) -> list[Snapshot]:
    optimizer = peer.make(keras.optimizers, hypers)
    variables = [keras.Variable(array, dtype="float64") for array in params.values()]
    optimizer.build(variables)

    def value(slot: str, index: int) -> Any:
        read = peer.slots[slot]
        listed = {name: tensor(one) for name, one in kept(optimizer, index).items()}
        if isinstance(read, str):
            return listed[read].values() if read in listed else None
        found = read.ours(listed, About({}))
        if found is None or not isinstance(found, tuple):
            return found and found.values()
        return [part.values() for part in found]

    def snapshot() -> Snapshot:
        taken = {"param": dict(zip(params, map(_array, variables), strict=True))}
        for slot in peer.slots:
            taken[slot] = {path: value(slot, index) for index, path in enumerate(params)}
        return nested(taken)

    snapshots = [snapshot()]
    for step in grads:
        native = [keras.ops.convert_to_tensor(step[path], dtype="float64") for path in params]
        optimizer.apply(native, variables)
        snapshots.append(snapshot())
    return snapshots


def _array(variable: Any) -> Any:
    return numpy.array(variable.value, dtype=numpy.float64)


def _native(name: str) -> Callable[[Any, Hypers], Any]:
    """What makes an optimizer of Keras from our hyperparameters."""

    def make(optimizers: Any, h: Hypers) -> Any:
        assert h["decay"] == "decoupled" or h["weight_decay"] == 0
        return getattr(optimizers, name)(**KERAS[name].arguments(h, About({})))

    return make


def _amsgrad(optimizers: Any, h: Hypers) -> Any:
    return _native("Adam")(optimizers, {**h, "amsgrad": True})


def _peer(name: str, *settings: Hypers, **others: Any) -> Peer:
    """An optimizer of Keras beside the rule that computes the same."""
    native, left_out = KERAS[name], others.get("left_out", ())
    slots = {slot: read for slot, read in native.slots.items() if slot not in left_out}
    return Peer(native.rule, _native(name), slots, settings, **others)


LARGE = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}
FALLING = {**LARGE, "betas": (0.9, 0.9)}


def _ours() -> dict[str, str | Callable[[Hypers], Any]]:
    """Every argument, by ``Rule.argument``: the field of ours that it is, or its value."""
    found: dict[str, str | Callable[[Hypers], Any]] = {}
    for native in KERAS.values():
        for name, given in native.fields.items():
            for rule in (native.rule, *native.also):
                if isinstance(given, str):
                    found[f"{rule}.{given}"] = name
                    continue
                for theirs in given.theirs(registry[rule](like=NAME).hypers[name], About({})):
                    found[f"{rule}.{theirs}"] = partial(_converted, given, name, theirs)
    return found


def _converted(given: Any, name: str, theirs: str, h: Hypers) -> Any:
    return given.theirs(h[name], About({}))[theirs]


ARGUMENTS = Arguments(
    _ours(),
    {
        "AMSGrad.amsgrad": "given, to select the rule",
        "clipnorm": "a change of the gradients, before any rule",
        "clipvalue": "a change of the gradients, before any rule",
        "global_clipnorm": "a change of the gradients, before any rule",
        "gradient_accumulation_steps": "a change of the gradients, before any rule",
        "loss_scale_factor": "a change of the gradients, before any rule",
        "use_ema": "an average of the parameters, beside any rule",
        "ema_momentum": "an average of the parameters, beside any rule",
        "ema_overwrite_frequency": "an average of the parameters, beside any rule",
        "name": "a name",
    },
)

PEERS = [
    _peer(
        "SGD",
        {"weight_decay": 0.1},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
    ),
    _peer("RMSprop", {}, {"momentum": 0.9, "centered": True, **LARGE}),
    _peer("Adagrad", {}, {"initial_v": 0.3, **LARGE}),
    _peer("Adadelta", {}, {"rho": 0.8, **LARGE}),
    _peer("Adam", {}, LARGE, {"amsgrad": True, **FALLING}),
    _peer("AdamW", {}, LARGE, {"amsgrad": True, **FALLING}),
    replace(_peer("Adam", {}, FALLING), rule="AMSGrad", make=_amsgrad),
    _peer("Adamax", {}, LARGE),
    _peer("Nadam", {}, LARGE, left_out={"product": "one for all parameters there"}),
    _peer("Lion", {}, {"lr": 0.01, "weight_decay": 0.1}),
    _peer("Lamb", {}, LARGE),
    _peer(
        "Adafactor",
        {},
        {"lr": 0.5, "clip_threshold": 1.5, "eps": (1e-6, 1e-2), "weight_decay": 0.1},
        without={"empty": "no mean over no elements"},
        tolerance=2e-6,
        because="Keras takes means in float32, which rounds by 6e-8",
    ),
]
