"""The optimizers of Keras 3, whose weight decay is decoupled in all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
import pytest

from samestep.backend import Snapshot
from samestep.conformance.dialects import Arguments, Peer, nested

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
        if callable(read):
            return read(optimizer, index)
        listed = getattr(optimizer, read, [])
        return _array(listed[index]) if listed else None

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


def _negative(name: str) -> Callable[[Any, int], Any]:
    def read(optimizer: Any, index: int) -> Any:
        listed = getattr(optimizer, name, [])
        return -_array(listed[index]) if listed else None

    return read


def _row(optimizer: Any, index: int) -> Any:
    """What is factored has rows; what is not has the average in full."""
    full = optimizer._v[index]
    return _array(optimizer._r[index] if len(full.shape) > 1 else full)


def _column(optimizer: Any, index: int) -> Any:
    return _array(optimizer._c[index]) if len(optimizer._v[index].shape) > 1 else None


def _common(h: Hypers, **renamed: str) -> dict[str, Any]:
    """Rate and decay, and the named numbers, under Keras's names for them."""
    assert h["decay"] == "decoupled" or h["weight_decay"] == 0
    taken = {theirs: h[ours] for theirs, ours in renamed.items()}
    return {"learning_rate": h["lr"], "weight_decay": h["weight_decay"], **taken}


def _betas(h: Hypers, **renamed: str) -> dict[str, Any]:
    beta_1, beta_2 = h["betas"]
    return {"beta_1": beta_1, "beta_2": beta_2, **_common(h, **renamed)}


def _adafactor(optimizers: Any, h: Hypers) -> Any:
    epsilon_1, epsilon_2 = h["eps"]
    return optimizers.Adafactor(
        beta_2_decay=-h["decay_rate"],
        epsilon_1=epsilon_1,
        epsilon_2=epsilon_2,
        **_common(h, clip_threshold="clip_threshold", relative_step="relative_step"),
    )


ADAM = {"m": "_momentums", "v": "_velocities", "v_max": "_velocity_hats"}
LARGE = {"lr": 0.01, "eps": 1e-2, "weight_decay": 0.1}

ARGUMENTS = Arguments(
    {
        **{name: name for name in ("weight_decay", "momentum", "nesterov", "rho", "centered")},
        **{name: name for name in ("amsgrad", "clip_threshold", "relative_step")},
        "learning_rate": "lr",
        "epsilon": "eps",
        "beta_1": lambda h: h["betas"][0],
        "beta_2": lambda h: h["betas"][1],
        "RMSprop.rho": "alpha",
        "initial_accumulator_value": "initial_v",
        "beta_2_decay": lambda h: -h["decay_rate"],
        "epsilon_1": lambda h: h["eps"][0],
        "epsilon_2": lambda h: h["eps"][1],
    },
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
    Peer(
        "SGD",
        lambda optimizers, h: optimizers.SGD(
            **_common(h, momentum="momentum", nesterov="nesterov")
        ),
        {"m": _negative("momentums")},
        [
            {"weight_decay": 0.1},
            {"momentum": 0.9, "weight_decay": 0.1},
            {"momentum": 0.9, "nesterov": True},
        ],
    ),
    Peer(
        "RMSprop",
        lambda optimizers, h: optimizers.RMSprop(
            **_common(h, rho="alpha", momentum="momentum", epsilon="eps", centered="centered")
        ),
        {"v": "_velocities", "g": "_average_gradients", "m": "_momentums"},
        [{}, {"momentum": 0.9, "centered": True, **LARGE}],
    ),
    Peer(
        "Adagrad",
        lambda optimizers, h: optimizers.Adagrad(
            **_common(h, initial_accumulator_value="initial_v", epsilon="eps")
        ),
        {"v": "_accumulators"},
        [{}, {"initial_v": 0.3, **LARGE}],
    ),
    Peer(
        "AdaDelta",
        lambda optimizers, h: optimizers.Adadelta(**_common(h, rho="rho", epsilon="eps")),
        {"v": "_accumulated_grads", "u": "_accumulated_delta_vars"},
        [{}, {"rho": 0.8, **LARGE}],
    ),
    Peer(
        "Adam",
        lambda optimizers, h: optimizers.Adam(**_betas(h, epsilon="eps", amsgrad="amsgrad")),
        ADAM,
        [{}, LARGE, {"amsgrad": True, **LARGE}],
    ),
    Peer(
        "AdamW",
        lambda optimizers, h: optimizers.AdamW(**_betas(h, epsilon="eps", amsgrad="amsgrad")),
        ADAM,
        [{}, LARGE, {"amsgrad": True, **LARGE}],
    ),
    Peer(
        "AMSGrad",
        lambda optimizers, h: optimizers.Adam(**_betas(h, epsilon="eps", amsgrad="amsgrad")),
        ADAM,
        [{}, LARGE],
    ),
    Peer(
        "Adamax",
        lambda optimizers, h: optimizers.Adamax(**_betas(h, epsilon="eps")),
        {"m": "_m", "u": "_u"},
        [{}, LARGE],
    ),
    Peer(
        "NAdam",
        lambda optimizers, h: optimizers.Nadam(**_betas(h, epsilon="eps")),
        ADAM,
        [{}, LARGE],
        left_out={"product": "one for all parameters there"},
    ),
    Peer(
        "Lion",
        lambda optimizers, h: optimizers.Lion(**_betas(h)),
        {"m": "_momentums"},
        [{}, {"lr": 0.01, "weight_decay": 0.1}],
    ),
    Peer(
        "LAMB",
        lambda optimizers, h: optimizers.Lamb(**_betas(h, epsilon="eps")),
        ADAM,
        [{}, LARGE],
    ),
    Peer(
        "Adafactor",
        _adafactor,
        {"v.0": _row, "v.1": _column},
        [
            {},
            {"lr": 0.5, "clip_threshold": 1.5, "eps": (1e-6, 1e-2), "weight_decay": 0.1},
        ],
        without={"empty": "no mean over no elements"},
        tolerance=2e-6,
        because="Keras takes means in float32, which rounds by 6e-8",
    ),
]
