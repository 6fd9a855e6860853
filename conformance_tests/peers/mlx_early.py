"""MLX's first optimizers, of December 2023, as their formulas say.

No package that can be installed carries that code any more. SGD ignored weight decay without
momentum, AdaDelta wrote its average of squared steps under one name and read it under another (as
0), Adam had no bias correction and started m at the first gradient and v at its square, Lion
started m at the first gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from . import Peer, formulas

NAME = "mlx-0.0"
LIBRARIES = ()

run = formulas

Hypers = Mapping[str, Any]
Step = Callable[..., Any]


def sgd(h: Hypers) -> Step:
    """The decay is read with momentum only; dampening counts from the first step on."""
    lr, momentum = h["lr"], h["momentum"]

    def plain(t: int, g: Any, p: Any) -> tuple[Any, ...]:
        return (p - lr * g,)

    def moving(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        g = g + h["weight_decay"] * p
        m = momentum * m + (1 - h["dampening"]) * g
        return p - lr * (g + momentum * m if h["nesterov"] else m), m

    return moving if momentum else plain


def rmsprop(h: Hypers) -> Step:
    """The root of an average of squares."""

    def step(t: int, g: Any, p: Any, v: Any) -> tuple[Any, ...]:
        v = h["alpha"] * v + (1 - h["alpha"]) * g**2
        return p - h["lr"] * g / (numpy.sqrt(v) + h["eps"]), v

    return step


def adagrad(h: Hypers) -> Step:
    """The root of the sum of squares."""

    def step(t: int, g: Any, p: Any, v: Any) -> tuple[Any, ...]:
        v = v + g**2
        return p - h["lr"] * g / (numpy.sqrt(v) + h["eps"]), v

    return step


def adadelta(h: Hypers) -> Step:
    """The average of squared steps is read as 0."""
    rho, eps = h["rho"], h["eps"]

    def step(t: int, g: Any, p: Any, v: Any, u: Any) -> tuple[Any, ...]:
        v = rho * v + (1 - rho) * g**2
        d = numpy.sqrt(0 + eps) / numpy.sqrt(v + eps) * g
        return p - h["lr"] * d, v, rho * 0 + (1 - rho) * d**2

    return step


def adam(h: Hypers) -> Step:
    """Averages that start at the first gradient and its square; AdamW shrinks p before."""
    beta1, beta2 = h["betas"]

    def step(t: int, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        m, v = (g, g**2) if t == 1 else (m, v)
        p = p * (1 - h["lr"] * h["weight_decay"])
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        return p - h["lr"] * m / (numpy.sqrt(v) + h["eps"]), m, v

    return step


def adamax(h: Hypers) -> Step:
    """The largest gradient, which fades; no bias correction."""
    beta1, beta2 = h["betas"]

    def step(t: int, g: Any, p: Any, m: Any, u: Any) -> tuple[Any, ...]:
        m, u = beta1 * m + (1 - beta1) * g, numpy.maximum(beta2 * u, abs(g))
        return p - h["lr"] * m / (u + h["eps"]), m, u

    return step


def lion(h: Hypers) -> Step:
    """The sign of a mean that starts at the first gradient."""
    beta1, beta2 = h["betas"]

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m = g if t == 1 else m
        c = beta1 * m + (1 - beta1) * g
        p = p * (1 - h["lr"] * h["weight_decay"])
        return p - h["lr"] * numpy.sign(c), beta2 * m + (1 - beta2) * g

    return step


LARGE = {"lr": 0.01, "eps": 1e-2}
DECAY = {"lr": 0.01, "weight_decay": 0.1}
BETAS = {"betas": (0.8, 0.99)}

PEERS = [
    Peer("SGD", sgd, {}, [DECAY]),
    Peer(
        "SGD",
        sgd,
        {"m": 0},
        [
            {**DECAY, "momentum": 0.9, "dampening": 0.3},
            {**DECAY, "momentum": 0.9, "nesterov": True},
        ],
    ),
    Peer("RMSprop", rmsprop, {"v": 0}, [{}, {**LARGE, "alpha": 0.8}]),
    Peer("Adagrad", adagrad, {"v": 0}, [{}, LARGE]),
    Peer("AdaDelta", adadelta, {"v": 0, "u": 0}, [{}, {**LARGE, "rho": 0.8}]),
    Peer("Adam", adam, {"m": 0, "v": 0}, [{}, {**LARGE, **BETAS}]),
    Peer("AdamW", adam, {"m": 0, "v": 0}, [{}, {**LARGE, **DECAY, **BETAS}]),
    Peer("Adamax", adamax, {"m": 0, "u": 0}, [{}, {**LARGE, **BETAS}]),
    Peer("Lion", lion, {"m": 0}, [{}, {**DECAY, **BETAS}]),
]
