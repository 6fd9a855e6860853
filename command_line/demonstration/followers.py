"""The libraries' own optimizers, stepped with given gradients, for comparison.

Each takes its hyperparameters from a rule and everything else as its library sets it. A library is
imported only where it is used, since it may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import entry_points
from typing import NamedTuple

import numpy

from samestep.declaration import Hyper
from samestep.parity.subjects.importing import stepping
from samestep.rule import Rule

from .network import Arrays

__all__ = ["OWN", "Follower"]


class Follower(NamedTuple):
    """An optimizer that steps on given gradients, and the rule that it is compared with."""

    name: str
    rule: str
    follow: Callable[[Rule, Arrays, Iterable[Arrays]], Iterator[Arrays]]
    """Takes a rule, parameters and the gradients of every step; yields the new parameters."""


def _follow(library: str, rule: Rule, params: Arrays, grads: Iterable[Arrays]) -> Iterator[Arrays]:
    """Step the optimizer of a library that is the rule, with the rule's numbers.

    Args:
        library: its entry point in the groups ``samestep.natives`` and ``samestep.subjects``.
        rule: the rule.
        params: float32 arrays by path.
        grads: the gradients of every step.
    """
    (natives,) = entry_points(group="samestep.natives", name=library)
    fields = rule.fields()
    numbers = {n: v for n, v in rule.hypers.items() if isinstance(fields[n], Hyper)}
    make = natives.load().counterpart(rule.name, numbers)
    stepper = stepping(library).Runner(make, {}, "float32").start(params)
    for given in grads:
        stepper.step(given)
        yield {path: v.astype(numpy.float32) for path, v in stepper.params().items()}


OWN = {
    "torch": [Follower("torch.optim.AdamW", "AdamW", partial(_follow, "torch"))],
    "jax": [
        Follower("optax.adan", "Adan", partial(_follow, "optax")),
        Follower("optax.adamw", "AdamW", partial(_follow, "optax")),
    ],
    "mlx": [Follower("mlx.optimizers.AdamW", "AdamW", partial(_follow, "mlx"))],
}
"""By framework. ``eps_root`` of optax.adan is the rule's, which is 0."""
