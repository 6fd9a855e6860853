"""AdEMAMix of xlstm-jax (apple/ml-ademamix's code for Optax), as its formulas say.

    m1 = b1 m1 + (1 - b1) g;  m2 = b3 m2 + (1 - b3) g;  v = b2 v + (1 - b2) g^2
    m1^ = m1/(1 - b1^t);  v^ = v/(1 - b2^t)
    p = p - lr ((m1^ + alpha m2)/(sqrt(v^ + eps_root) + eps) + weight_decay p)

Schedules count from 0. Those of alpha and beta3 count from the step at which m2 begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from . import Peer, formulas

NAME = "xlstm"
LIBRARIES = ()

run = formulas

Schedule = Callable[[int], float]


def alpha_scheduler(end: float, start: float, warmup: int) -> Schedule:
    """The authors' alpha, but for a warmup of 0, by which they divide."""
    return lambda step: start + (end - start) * step / warmup if step < warmup else end


def beta3_scheduler(end: float, start: float, warmup: int) -> Schedule:
    """The authors' beta3, whose half-life is linear."""

    def half_life(beta: float) -> float:
        return float(numpy.log(0.5) / numpy.log(beta) - 1)

    def beta3(step: int) -> float:
        if step >= warmup:
            return end
        share = step / warmup
        mixed = (1 - share) * half_life(start) + share * half_life(end)
        return float(0.5 ** (1 / (mixed + 1)))

    return beta3


def ademamix(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step; with ``slow_start``, m2 begins anew after that many steps."""
    beta1, beta2, beta3 = h["betas"]
    again = h["slow_start"]

    def now(value: Any, step: int) -> Any:
        return value(step) if callable(value) else value

    def step(t: int, g: Any, p: Any, m1: Any, m2: Any, v: Any) -> tuple[Any, ...]:
        since = t - 1 - (again if t > again else 0)
        b3 = now(beta3, since)
        m2 = 0 * m2 if t == again + 1 else m2
        m1, m2 = beta1 * m1 + (1 - beta1) * g, b3 * m2 + (1 - b3) * g
        v = beta2 * v + (1 - beta2) * g**2
        u = m1 / (1 - beta1**t) + now(h["alpha"], since) * m2
        u = u / (numpy.sqrt(v / (1 - beta2**t) + h["eps_root"]) + h["eps"])
        return p - now(h["lr"], t - 1) * (u + h["weight_decay"] * p), m1, m2, v

    return step


LARGE = {"lr": 0.01, "eps": 1e-4, "weight_decay": 0.1}

PEERS = [
    Peer(
        "AdEMAMix",
        ademamix,
        {"m1": 0, "m2": 0, "v": 0},
        [
            {},
            {**LARGE, "betas": (0.8, 0.99, 0.999), "alpha": 2.0, "eps_root": 1e-3},
            {
                **LARGE,
                "betas": (0.9, 0.99, beta3_scheduler(0.9999, 0.9, 60)),
                "alpha": alpha_scheduler(5.0, 0.0, 60),
            },
        ],
    )
]
