"""Deviations in rules that orthogonalise their momentum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from samestep.parity.ulp import rounded
from samestep.parts.orthogonal import coefficients, orthogonalized
from samestep.quirks import calls, with_calls
from samestep.rule import Rule

from .deviation import Deviation

__all__ = ["of_matrices"]


def of_matrices(rule: type[Rule]) -> Iterator[Deviation]:
    """Another precision."""
    if calls(rule, orthogonalized):
        yield Deviation(
            "iterates in bfloat16",
            "orthogonalises in bfloat16",
            "does not",
            methods=with_calls({orthogonalized: lambda now: _in_bfloat16}),
            loose=True,
        )


def _in_bfloat16(rule: Any, xp: Any, matrix: Any) -> numpy.ndarray:
    """``orthogonalized`` with every product rounded once."""

    def to(x: Any) -> numpy.ndarray:
        return rounded(numpy.asarray(x), "bfloat16")

    steps, safety = coefficients(rule)
    kind, eps = rule.ns_guard
    tall = matrix.shape[0] > matrix.shape[1]
    x = to(matrix.T if tall else matrix)
    size = safety * float(to(numpy.linalg.norm(x)))
    x = to(x / (size + eps if kind == "sum" else max(size, eps)))
    for a, b, c in steps:
        gram = to(x @ x.T)
        x = to(a * x + to(b * gram + c * (gram @ gram)) @ x)
    return x.T if tall else x
