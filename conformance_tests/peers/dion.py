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


def muon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step."""
    lr, mu, decay = h["lr"], h["momentum"], h["weight_decay"]

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m = mu * m + g
        u = mu * m + g if h["nesterov"] else m
        o = orthogonalized(u / (numpy.linalg.norm(u) * 1.02 + h["ns_guard"][1]), EXPRESS)
        rows, cols = p.shape
        scale = {"unit_rms": numpy.sqrt(rows / cols), "match_rms": 0.2 * numpy.sqrt(max(p.shape))}[
            h["scale"]
        ]
        return (1 - lr * decay) * p - lr * scale * o, m

    return step


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
        without={"kernel": "its places are batches of matrices there"},
    )
]
