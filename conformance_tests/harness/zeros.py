"""Where derivatives of a step are at their edges: zero gradients, parameters and state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy

from samestep.rule import Rule

__all__ = ["STARTS", "numbered", "starts"]

STARTS = ("one zero", "a row of zeros", "all zero", "all and parameters zero")
"""What is zero in the gradients."""


def starts(rule: Rule) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Gradients and parameters in float64, by what is zero in them."""
    random = numpy.random.default_rng(0)
    shapes = {"w": (3, 2), "b": (2, 3) if rule.min_ndim else (4,)}
    for zero in STARTS:
        grads = {path: random.standard_normal(shape) for path, shape in shapes.items()}
        params = {path: random.standard_normal(shape) for path, shape in shapes.items()}
        if zero == "one zero":
            grads["w"][1, 0] = 0.0
        elif zero == "a row of zeros":
            grads["w"][1] = 0.0
        else:
            grads = {path: 0 * grad for path, grad in grads.items()}
        if "parameters" in zero:
            params = {path: 0 * param for path, param in params.items()}
        yield zero, grads, params


def numbered(rule: Rule, number: Callable[[int], Any]) -> Rule:
    """The rule with ``number(place)`` added to each of its numbers."""
    places = count()

    def added(value: Any) -> Any:
        by = number(next(places))
        return value if value is None else value + by

    return rule.map_numbers(added)
