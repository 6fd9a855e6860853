"""Deviations in rules that orthogonalise their momentum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from samestep.parity.ulp import rounded
from samestep.parts.matrix import as_matrix, orthogonalize
from samestep.rule import Rule
from samestep.vocabulary import ema

from .deviation import Deviation

__all__ = ["of_matrices"]


def of_matrices(rule: type[Rule]) -> Iterator[Deviation]:
    """Another precision, scale or look-ahead."""
    if "ns_steps" not in rule.fields():
        return
    yield Deviation(
        "iterates in bfloat16",
        "orthogonalises in bfloat16",
        "does not",
        methods=lambda cls: {"iterates_in": "bfloat16", "direction": _direction},
        loose=True,
    )
    yield Deviation(
        "scale by the longer side",
        "multiplies the step by 0.2 sqrt(max(outputs, inputs))",
        "multiplies the step by sqrt(max(1, outputs / inputs))",
        methods=lambda cls: {"scaled_by": _by_longer_side, "direction": _direction},
    )
    yield Deviation(
        "scale by the last two axes",
        "multiplies the step by sqrt(max(1, rows / columns)) of the last two axes",
        "multiplies the step by sqrt(max(1, outputs / inputs))",
        methods=lambda cls: {"scaled_by": _by_last_axes, "direction": _direction},
    )
    yield Deviation(
        "look ahead, both corrected",
        "looks ahead with m corrected as in the next step, and the gradient as in this one",
        "looks ahead with neither corrected",
        methods=lambda cls: {"coefficients": _correcting(cls), "direction": _direction},
    )


def _direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
    m = ema(state.m, grad, s.weights)
    of_m, of_grad = getattr(s, "ahead", s.weights)
    look = of_m * m + of_grad * grad if self.nesterov else m
    matrix = as_matrix(xp, look)
    scaled_by: Callable[..., float] = getattr(type(self), "scaled_by", _by_shape)
    scale = scaled_by(*matrix.shape, param.shape)
    dtype = getattr(self, "iterates_in", None)
    ready = orthogonalize(xp, matrix, self.ns_steps) if dtype is None else _iterated(self, matrix)
    return xp.reshape(scale * ready, param.shape), {"m": m}


def _by_shape(outputs: int, inputs: int, shape: Any) -> float:
    return math.sqrt(max(1.0, outputs / max(1, inputs)))


def _by_longer_side(outputs: int, inputs: int, shape: Any) -> float:
    return 0.2 * math.sqrt(max(outputs, inputs))


def _by_last_axes(outputs: int, inputs: int, shape: Any) -> float:
    return math.sqrt(max(1.0, shape[-2] / max(1, shape[-1])))


def _correcting(cls: Any) -> Any:
    def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        decay, rest = cls.coefficients(self, xp, t)["weights"]
        ahead = decay / (1 - decay ** (t + 1)), rest / (1 - decay**t)
        return {**cls.coefficients(self, xp, t), "ahead": ahead}

    return coefficients


def _iterated(self: Any, matrix: numpy.ndarray) -> numpy.ndarray:
    """``orthogonalize`` with every product rounded once."""
    dtype = self.iterates_in

    def to(x: Any) -> numpy.ndarray:
        return rounded(numpy.asarray(x), dtype)

    tall = matrix.shape[0] > matrix.shape[1]
    x = to(matrix.T if tall else matrix)
    x = to(x / max(float(to(numpy.linalg.norm(x))), 1e-7))
    for _ in range(self.ns_steps):
        gram = to(x @ x.T)
        x = to(3.4445 * x + to(-4.7750 * gram + 2.0315 * (gram @ gram)) @ x)
    return x.T if tall else x
