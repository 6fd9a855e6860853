"""MoonshotAI/Moonlight, examples/toy_train.py, as its formulas say, without its bfloat16.

m = mu m + g;  u = g + mu m (m without nesterov);  x = u/(||u|| + 1e-7)
p = (1 - lr wd) p - 0.2 lr sqrt(max(rows, columns)) NS(x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy

from . import Peer, formulas, orthogonalized

NAME = "moonlight"
LIBRARIES = ()

run = formulas

JORDAN = (3.4445, -4.7750, 2.0315)


def muon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step."""
    lr, mu, decay = h["lr"], h["momentum"], h["weight_decay"]

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m = mu * m + g
        u = g + mu * m if h["nesterov"] else m
        o = orthogonalized(u / (numpy.linalg.norm(u) + 1e-7), [JORDAN] * h["ns_steps"])
        scale = 0.2 * numpy.sqrt(max(p.shape))
        return (1 - lr * decay) * p - lr * scale * o, m

    return step


PEERS = [
    Peer(
        "Muon",
        muon,
        {"m": "m"},
        [{}, {"lr": 0.1, "nesterov": False}, {"momentum": 0.9, "weight_decay": 0.3, "ns_steps": 6}],
        without={"kernel": "it takes matrices only"},
    )
]
