"""Scion's linear minimisation oracles: where a ball reaches furthest along a momentum.

    spectral      sqrt(outputs/inputs) NS(m)
    spectral_max  max(1, sqrt(outputs/inputs)) NS(m)
    column        sqrt(outputs) m / ||column||
    sign          sign(m) / inputs
    row           m / (sqrt(inputs) ||row||)
    rms           m / RMS(m)

``normalized`` says whether inputs count in that, in another way than the norm has it.
"""

from __future__ import annotations

import math
from typing import Any

from samestep.declaration import option
from samestep.vocabulary import rms, sign, sqrt

from .matrix import apart, as_matrix
from .moments import lost, quotient
from .orthogonal import orthogonalized

__all__ = ["lost", "nearest"]

Array = Any

norm = option(
    "spectral",
    "norm of the ball, of matrices; that of vectors is rms",
    choices=("spectral", "spectral_max", "column", "sign", "row", "rms"),
    says={
        "spectral": "steps along the orthogonalised momentum",
        "spectral_max": "steps along the orthogonalised momentum, times 1 at least",
        "column": "gives the columns of its step one length",
        "sign": "steps along the signs of its momentum",
        "row": "gives the rows of its step one length",
        "rms": "gives its step the root mean square 1",
    },
)
normalized = option(
    None,
    "whether a step is smaller for more inputs; None is yes, but for column",
    choices=(None, True, False),
    says={
        None: "counts the inputs as the norm has it",
        True: "divides its step for the number of inputs",
        False: "does not divide its step for the number of inputs",
    },
)


def nearest(rule: Any, xp: Any, m: Array, s: Any) -> Array:
    """The point of the ball of radius 1 that is furthest along ``m``."""
    kind = rule.norm if m.ndim > 1 else "rms"
    if kind == "rms":
        return quotient(xp, m, rms(xp, m) + s.eps, s.vanishes)
    matrix = as_matrix(xp, m)
    outputs, inputs = matrix.shape
    counted = rule.normalized if rule.normalized is not None else kind != "column"
    if kind == "sign":
        found = sign(xp, matrix) / (inputs if counted else 1)
    elif kind in ("spectral", "spectral_max"):
        taps = math.prod(apart(rule, m.shape)[1])
        scale = math.sqrt(outputs / max(1, inputs // taps) if counted else outputs) / taps
        scale = max(1.0, scale) if kind == "spectral_max" else scale
        found = scale * orthogonalized(rule, xp, matrix)
    else:
        axis = 0 if kind == "column" else 1
        length = sqrt(xp, xp.sum(matrix * matrix, axis=axis, keepdims=True))
        factor = inputs / math.sqrt(outputs) if kind == "column" else math.sqrt(inputs)
        if not counted:
            factor = 1 / math.sqrt(outputs) if kind == "column" else 1.0
        found = quotient(xp, matrix, factor * length + s.eps, s.vanishes)
    return xp.reshape(found, m.shape)
