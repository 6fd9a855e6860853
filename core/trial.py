"""Trials of a rule: a few steps on small arrays, whose results are compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from . import step as stepping
from .arrays import map_parts, parts
from .moves import pointed
from .neutral import XP, Neutral, renamed
from .segments import SEGMENTS
from .watched import CLOSE, described, not_floating

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["alike", "moves", "positions", "steps", "unknown"]

STEPS = (1.0, 1e3, 1e-3, 1.0, 1.0)
"""The size of the gradient in each step: limits are reached in one, and not in another."""
SPARSE, BROKEN = 3, 4
"""The step whose gradient is 0 in the last half, and the one that has infinity and NaN there."""


def steps(
    rule: Rule,
    pieces: Sequence[tuple[int, ...]],
    traced: bool = False,
    order: Sequence[int] | None = None,
    segmented: bool = False,
    taken: int | None = None,
) -> list[Any]:
    """The numbers in parameters and slots after every step, by name, in one vector each.

    Args:
        rule: the rule.
        pieces: shapes of the parameters, which have the same numbers whatever they are cut into.
        traced: whether the values of the step and of coefficients are unknown to the rule.
        order: the order of axes in which a parameter is stepped, of which only the numbers of the
            parameter are returned, in the order of its shape.
        segmented: whether the parameters are one vector to the kernel.
        taken: the number of steps before the first one; ``None`` for so many that a rule waits in
            that one at most.
    """
    taken = max(0, *(waiting - 1 for waiting in _waits(rule))) if taken is None else taken
    sizes = [int(numpy.prod(shape)) for shape in pieces]
    numbers = numpy.arange(1.0, sum(sizes) + 1)

    def cut(vector: Any) -> list[Neutral]:
        ends = numpy.cumsum(sizes)[:-1]
        return [
            Neutral(part.reshape(shape).transpose(order or range(len(shape))))
            for part, shape in zip(numpy.split(vector, ends), pieces, strict=True)
        ]

    params = cut(numpy.cos(numbers))
    slots = []
    for param in params:
        _refuse_unfit_start(rule, param)
        slots.append(stepping.init_slots(rule, XP, param))
        stepping.check_slots(rule, "a small parameter", slots[-1], param.shape)
    common, found = stepping.init_shared(rule, XP, params), []
    if segmented:
        slots, params = [_in_vector(slots, sizes)], [_Segmented(numpy.cos(numbers))]
    for place, size in enumerate(STEPS):
        gradient = size * numpy.sin(numbers * (place + 1))
        if place == SPARSE:
            gradient[len(gradient) // 2 :] = 0.0
        if place == BROKEN:
            gradient[-2:] = (numpy.inf, numpy.nan)[-len(gradient) :]
        grads: list[Neutral] = [_Segmented(gradient)] if segmented else cut(gradient)
        step = Neutral(numpy.asarray(taken + place)) if traced else taken + place
        groups = zip(grads, params, slots, strict=True)
        entries = [stepping.Entry(rule, step, *arrays) for arrays in groups]
        enter = (lambda s, param: unknown(s)) if traced else None
        try:
            results, common = stepping.run(XP, entries, common, enter=enter, totals=_totals)
            params, slots = map(list, zip(*results, strict=True))
        except (TypeError, ValueError) as error:
            if place == BROKEN and isinstance(error.__cause__, numpy.linalg.LinAlgError):
                break  # NumPy decomposes no NaN
            raise
        if order is not None:
            back = numpy.argsort(order)
            found.append([Neutral(param.values.transpose(back)) for param in params])
            continue
        found.append(params)
        found += [[own[name] for own in slots] for name in slots[0] if name != SEGMENTS]
        if rule.has_point:
            at = zip(params, slots, strict=True) if not segmented else ()
            found.append([pointed(rule, param, stepping.Record(own)) for param, own in at])
    return found


def positions(rule: Rule, *given: Any, **more: Any) -> list[Any]:
    """The parameters of ``steps`` alone."""
    return steps(rule, *given, **more)[:: 1 + len(rule.slots()) + rule.has_point]


def moves(rule: Rule, shape: tuple[int, ...], count: int) -> str:
    """What a parameter does in so many first steps, of which a trial has five; or nothing."""
    param = Neutral(numpy.cos(numpy.arange(1.0, numpy.prod(shape) + 1)))
    after = positions(rule, [shape], taken=0)[: min(count, BROKEN)]
    if not all(numpy.isfinite(_vector(found)).all() for found in after):
        return "has a direction that is not finite"
    return "" if all(alike([[param]], [found]) for found in after) else "moves the parameter"


def _waits(rule: Rule) -> Iterator[int]:
    yield rule.waits
    for inside in rule.inside:
        yield from _waits(inside)


def unknown(s: Any) -> Any:
    """Coefficients as 0-d arrays, which compilers make of them."""
    if isinstance(s, dict):
        return {name: unknown(value) for name, value in s.items()}
    return map_parts(lambda n: n if isinstance(n, Neutral) else Neutral(numpy.asarray(n)), s)


def _refuse_unfit_start(rule: Rule, param: Neutral) -> None:
    """Raise if the first value of a slot is no array, or cannot be made."""
    for name, item in rule.slots().items():
        words = "it must be an array, such as xp.zeros_like(param)"
        try:
            made = item.init.make(XP, renamed(param, "param"), rule.owner(name))
        except Exception as error:
            raise TypeError(f"{rule.name}: init of slot {name} fails: {error}; {words}") from error
        if not all(isinstance(part, Neutral) for part in parts(made)):
            raise TypeError(f"{rule.name}: init of slot {name} returned {described(made)}; {words}")
        if unfit := not_floating(made):
            raise TypeError(f"{rule.name}: init of slot {name} returned an array of {unfit}")


def alike(some: list[Any], others: list[Any], *, close: float = CLOSE) -> bool:
    """Whether arrays of two runs have the same numbers; only arrays of equal size are compared."""
    for one, other in zip(map(_vector, some), map(_vector, others), strict=False):
        scale = numpy.max(numpy.abs(one), initial=0.0, where=numpy.isfinite(one))
        near = {"rtol": close, "atol": close * scale}
        if one.shape == other.shape and not numpy.allclose(one, other, equal_nan=True, **near):
            return False
    return True


def _vector(values: list[Any]) -> Any:
    """All numbers of an array in pieces; of tuples, the first ones' numbers come first."""
    groups = zip(*map(parts, values), strict=True)
    found = (part.values.ravel() for group in groups for part in group)
    return numpy.concatenate([numpy.zeros(0), *found])  # of no points of evaluation, none


# Several parameters in one vector.


class _Segmented(Neutral):
    """A vector of several parameters, of which a rule can see the elements only.

    Whether a rule looks at more may depend on the numbers, so that a result does not show it.
    """

    __slots__ = ()
    rank = 2

    def _whole(self, *_: Any) -> Any:
        raise TypeError(f"it looks at more of {self!r} than each element")

    __len__ = __matmul__ = __rmatmul__ = _whole
    T = property(_whole)
    mT = property(_whole)  # noqa: N815

    @property
    def shape(self) -> Any:
        """The shape, for the package only."""
        return self.values.shape if _is_ours() else self._whole()

    @property
    def ndim(self) -> Any:
        """The number of axes, for the package only."""
        return self.values.ndim if _is_ours() else self._whole()

    def __getitem__(self, index: Any) -> Neutral:
        return super().__getitem__(index) if _is_ours() else self._whole()


class _Repeated(_Segmented):
    """A 0-d array of each parameter, repeated for its elements."""

    __slots__ = ()
    rank = 1


def _is_ours() -> bool:
    """Whether what a rule's step goes through, and no rule, asks for an attribute."""
    module = str(sys._getframe(2).f_globals.get("__name__"))
    rules = "samestep.parts.", "samestep.rules.", "samestep.vocabulary"
    return module.startswith("samestep.") and not module.startswith(rules)


def _totals(vector: Neutral, places: Neutral) -> Neutral:
    if isinstance(vector, _Repeated) or vector.values.dtype.kind != "f":
        raise TypeError("only floating numbers of elements are summed in segments")
    return _Repeated(numpy.add.reduceat(vector.values, places.values[:-1]))


def _in_vector(slots: list[dict[str, Any]], sizes: list[int]) -> dict[str, Any]:
    """The slots of a vector of parameters; 0-d ones are a column."""

    def gathered(*values: Neutral) -> Neutral:
        if not values[0].ndim:
            return _Repeated([[value.values] for value in values])
        return _Segmented(numpy.concatenate([value.values.ravel() for value in values]))

    found = {name: map_parts(gathered, *(own[name] for own in slots)) for name in slots[0]}
    owners = numpy.repeat(numpy.arange(len(sizes)), sizes)
    places = numpy.cumsum([0, *sizes])[:, None]
    return found | {SEGMENTS: (Neutral(owners), Neutral(places))}
