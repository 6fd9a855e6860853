"""Muon of NVIDIA's Emerging-Optimizers, as its formulas say, without its bfloat16.

m = mu m + (1 - mu) g;  u = mu m + (1 - mu) g with nesterov, else m;  x = u/max(||u||, 1e-15)
p = (1 - lr wd) p - lr sqrt(max(rows, columns)) NS(x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, islice
from typing import Any

import numpy

from . import Peer, formulas, orthogonalized

NAME = "megatron"
LIBRARIES = ()

run = formulas

QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


def muon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step."""
    lr, mu, decay = h["lr"], h["momentum"], h["weight_decay"]

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m = mu * m + (1 - mu) * g
        u = mu * m + (1 - mu) * g if h["nesterov"] else m
        triples = list(islice(cycle(QUINTIC), h["ns_steps"]))
        o = orthogonalized(u / max(numpy.linalg.norm(u), 1e-15), triples)
        rows, cols = p.shape
        scales = {"spectral": max(p.shape), "shape": max(1, rows / cols), "unit_rms": rows / cols}
        scale = numpy.sqrt(scales[h["scale"]])
        return (1 - lr * decay) * p - lr * scale * o, m

    return step


PEERS = [
    Peer(
        "Muon",
        muon,
        {"m": "m"},
        [
            {},
            {"lr": 0.1, "nesterov": True, "scale": "unit_rms"},
            {"momentum": 0.9, "weight_decay": 0.3, "ns_steps": 7, "scale": "shape"},
        ],
        without={"kernel": "it takes matrices only"},
    )
]
