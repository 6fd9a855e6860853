"""microsoft/dion, dion/muon.py with polar_express.py, as its formulas say, without its bfloat16.

m = mu m + g;  u = mu m + g with nesterov, else m;  x = u/(1.02 ||u|| + epsilon)
p = (1 - lr wd) p - lr sqrt(rows/columns) NS(x)                  (0.2 sqrt(max(..)): "rms_norm")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from . import Peer, formulas, orthogonalized

NAME = "dion"
LIBRARIES = ()

run = formulas

EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def orthogonal(h: Mapping[str, Any], g: Any, m: Any) -> tuple[Any, Any]:
    """The momentum, and what is made of it."""
    m = h["momentum"] * m + g
    u = h["momentum"] * m + g if h["nesterov"] else m
    return m, orthogonalized(u / (numpy.linalg.norm(u) * 1.02 + h["ns_guard"][1]), EXPRESS)


def scaled(h: Mapping[str, Any], p: Any, o: Any) -> Any:
    """The parameter after a step."""
    rows, cols = p.shape
    scale = numpy.sqrt(rows / cols) if h["scale"] == "unit_rms" else 0.2 * numpy.sqrt(max(p.shape))
    return (1 - h["lr"] * h["weight_decay"]) * p - h["lr"] * scale * o


def muon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step of Muon."""

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m, o = orthogonal(h, g, m)
        return scaled(h, p, o), m

    return step


def normuon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step of NorMuon."""

    def step(t: int, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        m, o = orthogonal(h, g, m)
        v = h["beta2"] * v + (1 - h["beta2"]) * numpy.mean(o * o, axis=1, keepdims=True)
        u = o / (numpy.sqrt(v) + 1e-8)
        u = u * numpy.linalg.norm(o) / max(numpy.linalg.norm(u), 1e-8)
        return scaled(h, p, u), m, v

    return step


WITHOUT = {"kernel": "its places are batches of matrices there", "empty": "no mean of no elements"}
PEERS = [
    Peer(
        "Muon",
        muon,
        {"m": "m"},
        [
            {},
            {"lr": 0.1, "nesterov": True, "scale": "match_rms"},
            {"momentum": 0.9, "weight_decay": 0.3},
        ],
        without=WITHOUT,
    ),
    Peer(
        "NorMuon",
        normuon,
        {"m": "m", "v": lambda p: 0 * p[:, :1]},
        [{}, {"lr": 0.1, "momentum": 0.9, "beta2": 0.8, "weight_decay": 0.3}],
        without=WITHOUT,
        tolerance=1e-8,
        because="eps = 1e-8 is not added to the length there",
    ),
]
