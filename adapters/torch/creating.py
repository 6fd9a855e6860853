"""Optimizers of torch by the name of their rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from samestep.creating import Names, called, decaying

from .optimizer import RuleOptimizer

__all__ = ["create"]


def create(
    name: str, params: torch.nn.Module | Iterable[Any], *, no_decay: Names = None, **numbers: Any
) -> RuleOptimizer:
    """The optimizer of a model by the name of its rule, as a configuration has it.

        create("adamw", model, lr=3e-4, weight_decay=0.1, no_decay=("*bias", "*norm*"))

    Args:
        name: the name of a rule; capitals, hyphens and underscores make no difference.
        params: a model, whose parameters have their names then; or what the classes take.
        no_decay: patterns of the paths of parameters that do not decay, or a predicate.
        numbers: what the class of the rule takes, also ``execution`` and its kin.

    Raises:
        ValueError: there is no such rule; the message has the names that are similar.
    """
    given = params.named_parameters() if isinstance(params, torch.nn.Module) else params
    made: RuleOptimizer = called(name, "samestep.torch")(given, **decaying(no_decay, numbers))
    return made
