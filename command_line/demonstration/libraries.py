"""The libraries' own optimizers, stepped with given gradients, for comparison.

Each takes its hyperparameters from a rule and everything else as its library sets it. A library is
imported only where it is used, since it may be missing.
"""

# ruff: noqa: PLC0415  (imports inside functions, as said above)

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy

from samestep.rule import Rule

from .network import Arrays

__all__ = ["OWN", "Follower"]


class Follower(NamedTuple):
    """An optimizer that steps on given gradients, and the rule that it is compared with."""

    name: str
    rule: str
    follow: Callable[[Rule, Arrays, Iterable[Arrays]], Iterator[Arrays]]
    """Takes a rule, parameters and the gradients of every step; yields the new parameters."""


def _torch_adamw(rule: Any, params: Arrays, grads: Iterable[Arrays]) -> Iterator[Arrays]:
    import torch

    tensors = {path: torch.tensor(values) for path, values in params.items()}
    optimizer = torch.optim.AdamW(
        tensors.values(), lr=rule.lr, betas=rule.betas, eps=rule.eps, weight_decay=rule.weight_decay
    )
    for given in grads:
        for path, tensor in tensors.items():
            tensor.grad = torch.tensor(given[path])
        optimizer.step()
        yield {path: tensor.numpy().copy() for path, tensor in tensors.items()}


def _optax_adan(optax: Any, rule: Any) -> Any:
    beta1, beta2, beta3 = rule.betas
    return optax.adan(
        rule.lr, beta1, beta2, beta3, rule.eps, eps_root=0.0, weight_decay=rule.weight_decay
    )


def _optax_adamw(optax: Any, rule: Any) -> Any:
    return optax.adamw(rule.lr, *rule.betas, eps=rule.eps, weight_decay=rule.weight_decay)


def _optax(
    make: Callable[[Any, Any], Any], rule: Any, start: Arrays, grads: Iterable[Arrays]
) -> Iterator[Arrays]:
    import jax.numpy as xp
    import optax  # type: ignore[import-untyped]  # ships no types

    transformation = make(optax, rule)
    params: Any = {path: xp.asarray(values) for path, values in start.items()}
    state = transformation.init(params)
    for given in grads:
        native = {path: xp.asarray(values) for path, values in given.items()}
        updates, state = transformation.update(native, state, params)
        params = optax.apply_updates(params, updates)
        yield {path: numpy.asarray(array) for path, array in params.items()}


def _mlx_adamw(rule: Any, start: Arrays, grads: Iterable[Arrays]) -> Iterator[Arrays]:
    import mlx.core as xp
    from mlx import optimizers

    params = {path: xp.array(values) for path, values in start.items()}
    optimizer = optimizers.AdamW(rule.lr, list(rule.betas), rule.eps, rule.weight_decay)
    for given in grads:
        native = {path: xp.array(values) for path, values in given.items()}
        params = optimizer.apply_gradients(native, params)
        yield {path: numpy.array(array) for path, array in params.items()}


OWN = {
    "torch": [Follower("torch.optim.AdamW", "AdamW", _torch_adamw)],
    "jax": [
        Follower("optax.adan", "Adan", partial(_optax, _optax_adan)),
        Follower("optax.adamw", "AdamW", partial(_optax, _optax_adamw)),
    ],
    "mlx": [Follower("mlx.optimizers.AdamW", "AdamW", _mlx_adamw)],
}
"""By framework. ``eps_root`` of optax.adan, which Adan does not have, is set to 0."""
