"""The bytes that a rule must move in one step, whoever executes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy

from samestep import step as stepping
from samestep import tree
from samestep.parity.trajectory import as_recorded
from samestep.rule import Rule

from .models import Shape

__all__ = ["DTYPES", "moved"]

DTYPES = {"float32": "float32", "bfloat16": "float16"}
"""The dtypes that can be timed, and NumPy's dtype of the same width."""


def moved(rule: Rule, shapes: Sequence[Shape], dtype: str) -> int:
    """Bytes read and written: the gradient once; the parameter and every slot both ways."""
    return sum(
        count * _of_one(rule, shape, DTYPES[dtype]) for shape, count in Counter(shapes).items()
    )


def _of_one(rule: Rule, shape: Shape, dtype: str) -> int:
    param = numpy.broadcast_to(numpy.zeros((), dtype), shape)  # of any size, in no memory
    slots = stepping.init_slots(as_recorded(rule), numpy, param)
    state = sum(array.nbytes for _, array in tree.leaves(slots))
    return int(3 * param.nbytes + 2 * state)
