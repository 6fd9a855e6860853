"""Optimizers of MLX by the name of their rule."""

from __future__ import annotations

from typing import Any

from samestep.creating import Names, called, decaying

from .optimizer import RuleOptimizer

__all__ = ["create"]


def create(name: str, *, no_decay: Names = None, **numbers: Any) -> RuleOptimizer:
    """The optimizer by the name of its rule, as a configuration has it.

        create("adamw", lr=3e-4, weight_decay=0.1, no_decay=("*bias", "*norm*"))

    Args:
        name: the name of a rule; capitals, hyphens and underscores make no difference.
        no_decay: patterns of the paths of parameters that do not decay, or a predicate.
        numbers: what ``samestep.mlx`` takes for the rule, also ``execution`` and its kin.

    Raises:
        ValueError: there is no such rule; the message has the names that are similar.
    """
    made: RuleOptimizer = called(name, "samestep.mlx")(**decaying(no_decay, numbers))
    return made
