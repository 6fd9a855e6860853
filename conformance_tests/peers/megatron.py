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


def orthogonal(h: Mapping[str, Any], g: Any, m: Any) -> tuple[Any, Any]:
    """The momentum, and what is made of it."""
    mu = h["momentum"]
    m = mu * m + (1 - mu) * g
    u = mu * m + (1 - mu) * g if h.get("nesterov") else m
    triples = list(islice(cycle(QUINTIC), h["ns_steps"]))
    return m, orthogonalized(u / max(numpy.linalg.norm(u), 1e-15), triples)


def scaled(h: Mapping[str, Any], p: Any, o: Any) -> Any:
    """The parameter after a step."""
    rows, cols = p.shape
    scales = {"spectral": max(p.shape), "shape": max(1, rows / cols), "unit_rms": rows / cols}
    return (1 - h["lr"] * h["weight_decay"]) * p - h["lr"] * numpy.sqrt(scales[h["scale"]]) * o


def muon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step of Muon."""

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m, o = orthogonal(h, g, m)
        return scaled(h, p, o), m

    return step


def scion(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step of Scion, whose radius is spectral_radius and whose decay is 1."""

    def step(t: int, g: Any, p: Any, m: Any) -> tuple[Any, ...]:
        m, o = orthogonal(h, g, m)
        scale = numpy.sqrt(p.shape[0] / p.shape[1]) * h["radius"]
        return (1 - h["lr"]) * p - h["lr"] * scale * o, m

    return step


def adamuon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step of AdaptiveMuon(moment2_method="adamuon")."""

    def step(t: int, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        m, o = orthogonal(h, g, m)
        v = h["beta2"] * v + (1 - h["beta2"]) * o * o
        return scaled(h, p, o / (numpy.sqrt(v) + h["eps"])), m, v

    return step


def normuon(h: Mapping[str, Any]) -> Callable[..., Any]:
    """A step of AdaptiveMuon(moment2_method="normuon")."""

    def step(t: int, g: Any, p: Any, m: Any, v: Any) -> tuple[Any, ...]:
        m, o = orthogonal(h, g, m)
        axis = 1 if p.shape[0] >= p.shape[1] else 0
        mean = numpy.mean(o * o, axis=axis, keepdims=True)
        v = h["beta2"] * v + (1 - h["beta2"]) * mean
        return scaled(h, p, o / numpy.sqrt(numpy.maximum(v, h["eps"]))), m, v

    return step


def lines(p: Any) -> Any:
    """A zero for each line of the longer side."""
    return 0 * (p[:, :1] if p.shape[0] >= p.shape[1] else p[:1])


ADAPTIVE = [{}, {"lr": 0.01, "nesterov": True, "beta2": 0.8, "eps": 1e-2, "weight_decay": 0.3}]
WITHOUT = {"kernel": "it takes matrices only", "empty": "no mean of no elements"}
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
        without=WITHOUT,
    ),
    Peer("AdaMuon", adamuon, {"m": "m", "v": "v"}, ADAPTIVE, without=WITHOUT),
    Peer("NorMuon", normuon, {"m": "m", "v": lines}, ADAPTIVE, without=WITHOUT),
    Peer(
        "Scion",
        scion,
        {"m": "m"},
        [{}, {"lr": 0.01, "momentum": 0.8, "radius": 5.0, "ns_steps": 7}],
        without={**WITHOUT, **dict.fromkeys(("scalar", "single", "bias"), WITHOUT["kernel"])},
    ),
]
