"""The optimizers of jax.example_libraries.optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samestep.parity.backend import Snapshot

from . import Arguments, Peer, nested

NAME = "jax-example"
LIBRARIES = ("jax",)

Hypers = Mapping[str, Any]


def run(
    peer: Peer, hypers: Hypers, params: Mapping[str, Any], grads: Sequence[Mapping[str, Any]]
) -> list[Snapshot]:
    """Step one of JAX's example optimizers in float64.

    ``make`` gets the module and our hyperparameters. A slot is its place in a parameter's state,
    which begins with the parameter.
    """
    import jax  # noqa: PLC0415
    from jax.example_libraries import optimizers  # noqa: PLC0415

    with jax.enable_x64(True):
        native = {path: jax.numpy.asarray(array) for path, array in params.items()}
        init, update, get_params = peer.make(optimizers, hypers)
        if peer.rule != "SM3":  # which keeps shapes in its state, and they must stay numbers
            update = jax.jit(update)
        state = init(native)

        def snapshot() -> Snapshot:
            taken = {"param": get_params(state)}
            kept = [
                jax.tree.unflatten(definition, leaves)
                for definition, leaves in zip(state.subtree_defs, state.packed_state, strict=True)
            ]
            parts = jax.tree.unflatten(state.tree_def, [_Parts(part) for part in kept])
            for slot, place in peer.slots.items():
                taken[slot] = {path: part[place] for path, part in parts.items()}
            return nested(taken)

        snapshots = [snapshot()]
        for t, step in enumerate(grads):
            native = {path: jax.numpy.asarray(grad) for path, grad in step.items()}
            state = update(t, native, state)
            snapshots.append(snapshot())
    return snapshots


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
