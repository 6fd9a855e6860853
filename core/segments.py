"""Parameters of any shapes one after another in a vector, of which each is a segment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .arrays import map_parts
from .once import once
from .placed_namespace import ALIKE, ELEMENTWISE

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["SEGMENTS", "segmented"]

Array = Any
Slots = dict[str, Any]

SEGMENTS = "segments"
"""The name beside the slots of a vector of several parameters of where each of them is.

Two arrays: the parameter of every element, and a column of the places where parameters begin, and
of the end.
"""

OF_DTYPES = "bool can_cast complex64 finfo float16 float32 float64 iinfo isdtype result_type"
NUMBERS = "e inf nan pi int8 int16 int32 int64 uint8 uint16 uint32 uint64"
APART = frozenset((*ELEMENTWISE, *ALIKE, *OF_DTYPES.split(), *NUMBERS.split()))
"""What a namespace has that leaves the elements of a vector apart."""


@once
def segmented(
    function: Callable[..., Any], totals: Callable[[Array, Array], Array]
) -> Callable[..., Any]:
    """``advance`` or ``local`` for parameters of any shapes, one after another in a vector.

    The rule sees a 0-d array repeated for each element of its parameter. It may sum a parameter and
    take its mean, and look at no other elements; ``proof.sums_segments`` says whether it does. A
    slot that is 0-d is a column, with one number per parameter.

    Args:
        function: ``advance`` or ``local``.
        totals: the framework's sums of the segments of a vector, and the places where they begin.
    """
    return partial(_segmented, function, totals)


def _segmented(
    function: Callable[..., Any],
    totals: Callable[[Array, Array], Array],
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> Any:
    owners, places = slots[SEGMENTS]
    places = places[:, 0]

    def repeated(column: Array) -> Array:
        return column[:, 0][owners] if column.ndim > 1 else column

    def single(value: Array) -> Array:
        return xp.broadcast_to(value, param.shape)[places[:-1]]

    def column(old: Array, new: Array) -> Array:
        return xp.reshape(single(new), (-1, 1)) if old.ndim > 1 else new

    def total(x: Array) -> Array:
        return totals(x, places)[owners]

    old = {name: value for name, value in slots.items() if name != SEGMENTS}
    seen = {name: map_parts(repeated, value) for name, value in old.items()}
    first, second = function(_Totals(xp, total), rule, grad, param, seen, common, s)
    new = first if isinstance(first, dict) else second
    new = {name: map_parts(column, value, new[name]) for name, value in old.items()}
    new[SEGMENTS] = slots[SEGMENTS]
    if isinstance(first, dict):  # local: slots and sums
        return new, {name: xp.sum(single(value)) for name, value in second.items()}
    return first, new


class _Totals:
    """An array namespace whose sums run over each parameter of a vector by itself.

    What else there is of it computes every element by itself.
    """

    def __init__(self, xp: Any, total: Callable[[Array], Array]) -> None:
        self._xp, self.sum = xp, total

    def __getattr__(self, name: str) -> Any:
        if name in APART:
            return getattr(self._xp, name)
        raise (AttributeError if name[:2] == "__" else TypeError)(
            f"xp.{name} may look at the elements of several parameters, which are one vector here; "
            "a step that reads more than sums and means is executed with execution='reference'"
        )

    def mean(self, x: Array) -> Array:
        """The mean of each parameter."""
        return self.sum(x) / self.sum(self._xp.ones_like(x))
