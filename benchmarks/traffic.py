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

__all__ = ["DTYPES", "moved", "needed"]

DTYPES = {"float32": "float32", "bfloat16": "float16"}
"""The dtypes that can be timed, and NumPy's dtype of the same width."""


def moved(rule: Rule, shapes: Sequence[Shape], dtype: str) -> int:
    """Bytes read and written: the gradient once; the parameter and every slot both ways."""
    return sum(
        count * _of_one(rule, shape, DTYPES[dtype]) for shape, count in Counter(shapes).items()
    )


def needed(rule: Rule, shapes: Sequence[Shape], dtype: str) -> int:
    """Bytes of parameters, gradients and state."""
    each = Counter(shapes).items()
    sizes = [(count, *_sizes(rule, shape, DTYPES[dtype])) for shape, count in each]
    return sum(count * (2 * param + state) for count, param, state in sizes)


def _of_one(rule: Rule, shape: Shape, dtype: str) -> int:
    param, state = _sizes(rule, shape, dtype)
    return 3 * param + 2 * state


def _sizes(rule: Rule, shape: Shape, dtype: str) -> tuple[int, int]:
    """Bytes of a parameter and of its state."""
    param = numpy.broadcast_to(numpy.zeros((), dtype), shape)  # of any size, in no memory
    slots = stepping.init_slots(as_recorded(rule), numpy, param)
    return int(param.nbytes), int(sum(array.nbytes for _, array in tree.leaves(slots)))
