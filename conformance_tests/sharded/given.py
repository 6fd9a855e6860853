"""Parameters and gradients that every engine is given, and what an engine made of them.

The loss of :class:`Given` models is linear in the parameters, so that its gradient is exactly what
was given: the engine carries it, through its own backward pass and its own averages, without a
rounding error, and a step can be compared to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy

from samestep.rule import Rule

__all__ = [
    "SHAPES",
    "STEPS",
    "Arrays",
    "Outcome",
    "compared",
    "entered",
    "gradients",
    "parameters",
]

STEPS = 20
SHAPES = {
    "even": (8, 4),
    "again": (8, 4),
    "uneven": (7, 5),
    "wide": (3, 8),
    "square": (4, 4),
    "kernel": (4, 3, 2, 2),
    "short": (2, 6),
    "vector": (5,),
    "one": (1,),
}
"""On two ranks one of them has less of some, and on four it has nothing of some; two are alike."""
LIMIT = {"float32": 1e-6, "float64": 1e-14}
"""What sums in another order may change in all steps.

It is relative to the largest element that the array has had: rounding errors of a mean are as large
as what was added to it, even where its last value is nearly 0.
"""

Arrays = dict[str, numpy.ndarray]


Make = TypeVar("Make")


def entered(
    engines: dict[str, tuple[tuple[int, ...], Make]],
) -> Callable[..., Callable[[Make], Make]]:
    """A decorator that enters what makes an engine under a name, with numbers of processes."""

    def engine(name: str, *worlds: int) -> Callable[[Make], Make]:
        def known(make: Make) -> Make:
            engines[name] = worlds, make
            return make

        return known

    return engine


class Outcome(NamedTuple):
    """What an engine makes of a rule."""

    kind: str
    """``"equal bits"``, ``"within the bound"``, ``"refused"`` or ``"wrong"``."""
    said: str
    """The words of a refusal, or how much is wrong."""


def parameters(rule: Rule, dtype: str, names: Iterable[str] = SHAPES) -> Arrays:
    """The first values of the parameters that a rule can step, by name."""
    random = numpy.random.default_rng(0)
    values = {name: random.standard_normal(SHAPES[name]) for name in names}
    return {n: v.astype(dtype) for n, v in values.items() if v.ndim >= rule.min_ndim}


def gradients(rule: Rule, dtype: str, step: int, names: Iterable[str] = SHAPES) -> Arrays:
    """Of one step; they change sign, have several sizes and hold zeros."""
    random = numpy.random.default_rng(1 + step)
    found = {}
    for name, param in parameters(rule, dtype, names).items():
        values = random.standard_normal(param.shape) * 10.0 ** (step % 3 - 1)
        values[random.random(param.shape) < 0.05] = 0
        found[name] = values.astype(dtype)
    return found


def compared(found: list[Arrays | str], alone: list[Arrays], dtype: str) -> Outcome:
    """What the ranks have found, against one process. A rank that has refused has found words.

    Args:
        found: by rank, the arrays after the last step.
        alone: the arrays of one process after each step.
        dtype: of the parameters.
    """
    words = {each for each in found if isinstance(each, str)}
    if words:
        same = len(words) == 1 and all(isinstance(each, str) for each in found)
        return Outcome("refused" if same else "wrong", "; ".join(sorted(words)))
    worst, equal = 0.0, True
    for arrays in found:
        assert not isinstance(arrays, str)
        wanted = alone[-1]
        assert arrays.keys() == wanted.keys(), (arrays.keys(), wanted.keys())
        for name, value in arrays.items():
            assert value.shape == wanted[name].shape, name
            assert value.dtype == wanted[name].dtype, name
            size = max(float(numpy.abs(each[name]).max()) for each in alone)
            size = max(size, float(numpy.finfo(dtype).tiny))
            worst = max(worst, float(numpy.abs(value - wanted[name]).max()) / size)
            equal = equal and value.tobytes() == wanted[name].tobytes()
            assert isinstance(found[0], dict)
            if value.tobytes() != found[0][name].tobytes():
                return Outcome("wrong", f"{name} is not the same on all ranks")
    if equal:
        return Outcome("equal bits", "")
    kind = "within the bound" if worst <= LIMIT[dtype] else "wrong"  # NaN is wrong
    return Outcome(kind, f"{worst:.1e} of the largest element")
