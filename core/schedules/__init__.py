"""Schedules: hyperparameters that change from step to step, as pure functions of the step.

    rule = samestep.AdamW(lr=CosineDecay(1e-3, 10_000))

The step is the 0-based index of the next step, as in optax: the first update reads
``schedule(0)``. A Python number gives a float, computed in float64. An array of any framework,
traced or not, gives an array of that framework, without a branch on values: in its own dtype, or in
the default floating dtype for integers.

A value is exactly ``start`` at step 0 and exactly ``end`` from the last step on. Schedules with the
same arguments are equal, and ``repr`` of a schedule is the call that makes it.
"""

from .base import Constant, Schedule, make_schedule
from .named import one_cycle, warmup_cosine, warmup_inverse_sqrt, warmup_stable_decay
from .shapes import (
    CosineDecay,
    ExponentialDecay,
    HalfLife,
    InverseSquareRoot,
    InverseTimeDecay,
    Join,
    Linear,
    OneMinusSquareRoot,
    PiecewiseConstant,
    PolynomialDecay,
    Scaled,
)

__all__ = [
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "HalfLife",
    "InverseSquareRoot",
    "InverseTimeDecay",
    "Join",
    "Linear",
    "OneMinusSquareRoot",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Scaled",
    "Schedule",
    "make_schedule",
    "one_cycle",
    "warmup_cosine",
    "warmup_inverse_sqrt",
    "warmup_stable_decay",
]
