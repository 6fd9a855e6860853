"""The numbers that a parameter group holds, and the rule that is made of them."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy

import torch
from samestep import renumbering
from samestep.arrays import is_narrow
from samestep.rule import Rule

__all__ = ["Held", "alike", "is_fixed", "on_host", "renumbered", "rule_with"]


class Held(NamedTuple):
    """The values in a group that its rule was made from.

    ``fixed``: a value changes only by being replaced; a tensor could change in place.
    """

    names: tuple[str, ...]
    values: list[Any]
    fixed: bool
    numbers: tuple[Any, ...]


def rule_with(numbers: tuple[Any, ...]) -> Rule:
    """The rule of a group: the one that it was made with, and its hyperparameters in order."""
    own: Rule = numbers[0]
    return own.replace(**dict(zip(own.hypers, numbers[1:], strict=True)))


def renumbered(
    held: Held | None, rule: Rule | None, group: dict[str, Any]
) -> tuple[Held, Rule] | None:
    """What a group holds and its rule, after other floats; ``None`` after any other change."""
    if held is None or rule is None or not held.fixed:
        return None
    values = [*map(group.get, held.names)]
    changes = {}
    for name, old, new in zip(held.names, held.values, values, strict=True):
        if new is not old:
            if type(new) is not float or type(old) is not float:
                return None
            if new != old:
                changes[name] = new
    found = renumbering.renumbered(rule, changes) if changes else rule
    if found is None:
        return None
    return held._replace(values=values, numbers=(held.numbers[0], *values[1:])), found


def on_host(value: Any, differentiable: bool) -> Any:
    """A hyperparameter for the rule: an array of NumPy or a CPU tensor becomes numbers.

    A tensor that gradients are to flow to stays a tensor.
    """
    if isinstance(value, numpy.ndarray):
        value = value.tolist()
    if isinstance(value, (tuple, list)):
        return tuple(on_host(item, differentiable) for item in value)
    if isinstance(value, torch.Tensor) and value.device.type == "cpu":
        stays = (differentiable and value.requires_grad) or is_narrow(value)
        return value if stays else value.item()
    return value


def alike(one: Any, other: Any) -> bool:
    """Whether hyperparameters are equal: numbers by value and type, everything else by identity."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    plain = isinstance(one, (float, int, str)) and type(one) is type(other)
    return one is other or (plain and bool(one == other))


def is_fixed(value: Any) -> bool:
    """Whether a hyperparameter changes only by being replaced, unlike an array or a list."""
    if isinstance(value, tuple):
        return all(map(is_fixed, value))
    return value is None or callable(value) or isinstance(value, (Real, str, numpy.generic))
