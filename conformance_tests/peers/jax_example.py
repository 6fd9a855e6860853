"""The optimizers of jax.example_libraries.optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import Arguments, Peer

NAME = "jax-example"
LIBRARIES = ("jax",)
PACKAGE = "jax"

Hypers = Mapping[str, Any]


def target(peer: Peer, hypers: Hypers) -> Callable[[], Any]:
    """A function that makes the triple."""

    def make() -> Any:
        from jax.example_libraries import optimizers  # noqa: PLC0415

        return peer.make(optimizers, hypers)

    return make


def read(peer: Peer, stepper: Any) -> dict[str, Any]:
    """The peer's slots, each by its place in a parameter's state, which begins with the value."""
    import jax  # noqa: PLC0415

    state = stepper.state
    kept = [
        jax.tree.unflatten(definition, leaves)
        for definition, leaves in zip(state.subtree_defs, state.packed_state, strict=True)
    ]
    parts = jax.tree.unflatten(state.tree_def, [_Parts(part) for part in kept])
    return {
        slot: {path: part[place] for path, part in parts.items()}
        for slot, place in peer.slots.items()
    }


class _Parts:
    """The state of one parameter, which a tree holds as a leaf."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept if isinstance(kept, tuple) else (kept,)

    def __getitem__(self, place: int) -> Any:
        return self._kept[place] if place < len(self._kept) else None


def _sgd(optimizers: Any, h: Hypers) -> Any:
    if not h["momentum"]:
        return optimizers.sgd(h["lr"])
    return (optimizers.nesterov if h["nesterov"] else optimizers.momentum)(h["lr"], h["momentum"])


def _rmsprop(optimizers: Any, h: Hypers) -> Any:
    if not h["momentum"]:
        return optimizers.rmsprop(h["lr"], h["alpha"], h["eps"])
    return optimizers.rmsprop_momentum(h["lr"], h["alpha"], h["eps"], h["momentum"])


ARGUMENTS = Arguments(
    {
        "b1": lambda h: h["betas"][0],
        "b2": lambda h: h["betas"][1],
        "eps": "eps",
        "gamma": "alpha",
        "momentum": "momentum",
    },
    {},
)

PEERS = [
    Peer(
        "SGD",
        _sgd,
        {"m": 1},
        [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    ),
    Peer(
        "Adagrad",
        lambda optimizers, h: optimizers.adagrad(h["lr"], h["momentum"]),
        {"v": 1, "m": 2},
        [{}, {"lr": 0.1, "momentum": 0.5}],
    ),
    Peer(
        "RMSprop",
        _rmsprop,
        {"v": 1, "m": 2},
        [{}, {"momentum": 0.9, "eps": 1e-2, "alpha": 0.8}],
    ),
    Peer(
        "Adam",
        lambda optimizers, h: optimizers.adam(h["lr"], *h["betas"], h["eps"]),
        {"m": 1, "v": 2},
        [{}, {"lr": 0.01, "eps": 1e-2, "betas": (0.8, 0.99)}],
    ),
    Peer(
        "Adamax",
        lambda optimizers, h: optimizers.adamax(h["lr"], *h["betas"], h["eps"]),
        {"m": 1, "u": 2},
        [{}, {"lr": 0.01, "eps": 1e-2, "betas": (0.8, 0.99)}],
    ),
    Peer(
        "SM3",
        lambda optimizers, h: optimizers.sm3(h["lr"], h["momentum"]),
        {"m": 1, "mu": 2},
        [{}, {"lr": 0.01, "momentum": 0.5}],
        without={"empty": "no maximum over no elements"},
    ),
]
