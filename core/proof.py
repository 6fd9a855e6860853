"""The proof of somebody's own rule: what its class declares, tried once on small arrays.

It is tried when a rule is first used, with the options that it has then. The package's own rules
are proved by the conformance suite, and are not tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy

from . import step as stepping
from .arrays import map_parts, parts
from .declaration import Hyper
from .kept import orients, saying
from .made import SHAPED
from .neutral import XP, Neutral, renamed
from .shaping import SEGMENTS
from .watched import (
    HERE,
    KINDS,
    another,
    combined,
    described,
    dicts_of,
    is_same,
    not_floating,
    plain,
    refuse_writing,
    variants,
    watched,
)

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["SUITE", "joins", "prove", "reads_order", "tried"]

STEPS = (1.0, 1e3, 1e-3, 1.0, 1.0)
"""The size of the gradient in each step: limits are reached in one, and not in another."""
KERNEL = (8, 4, 2, 2, 2)
"""A kernel of a convolution in the order of torch; MLX has the inputs last."""
SPARSE, BROKEN = 3, 4
"""The step whose gradient is 0 in the last half, and the one that has infinity and NaN there."""
CLOSE = 1e-7
"""The relative difference of two results in float64 that sums in another order may have."""

SEVERAL = (4, 2), (3,), (5,)
"""The shapes of several parameters."""

FORGOTTEN = {"weight_decay": (0.0, 0.1), "maximize": (False, True)}
"""What a step of one's own may forget, with values that must make a difference."""

SUITE: set[type] = set()
"""Somebody's classes that the conformance suite proves, with a test for each property."""

_proved: WeakKeyDictionary[type, set[int]] = WeakKeyDictionary()
"""Of each class, the hashes of the options that have been tried."""
_orders: WeakKeyDictionary[type, dict[int, bool | Exception]] = WeakKeyDictionary()
"""Of each class, by the hash of its options, whether it reads the order of a kernel's axes."""
_joins: WeakKeyDictionary[type, dict[int, bool]] = WeakKeyDictionary()
"""Of each class, by the hash of its options, whether parameters may be joined in a vector."""


def prove(rule: Rule) -> None:
    """Try what somebody's own rule declares, or a rule inside it, once for its class and options.

    Numbers are tried again where there are other coefficients, as of one that may be ``None``.

    Raises:
        TypeError, ValueError: as in ``tried``.
    """
    for branch in rule.branches:
        if _is_proved(branch):
            continue
        known = _proved.setdefault(type(branch), set())
        dicts = [(*item, item[1].copy()) for item in dicts_of(branch)]
        for each in variants(branch):
            key = _key(each)
            if key not in known:
                tried(each)
                refuse_writing(branch, dicts)
                known.add(key)


def _key(rule: Rule, *more: Any) -> int:
    """A hash of what decides what a step does: options, slots, and which coefficients there are."""
    known = rule._known
    if "form" not in known:
        try:
            tried = plain(rule)
            decays = bool(tried.hypers.get("weight_decay"))
            known["form"] = decays, _form(tried.coefficients(numpy, 1))
        except Exception as error:  # which the trial names
            known["form"] = type(error)
    return hash((rule.bare, *rule.slots(), known["form"], *more))


def _form(value: Any) -> Any:
    """Names and places of coefficients, without the numbers."""
    if isinstance(value, dict):
        return tuple((name, _form(each)) for name, each in value.items())
    if isinstance(value, tuple):
        return tuple(map(_form, value))
    return value if isinstance(value, (bool, str)) else value is None


def _is_proved(rule: Rule) -> bool:
    """Whether the suite proves all of a rule, as it does the package's own."""
    own = rule.is_own() or rule.published() in SUITE
    return own and all(map(_is_proved, rule.inside))


def reads_order(rule: Rule, ndim: int) -> bool | Exception:
    """Whether the step of a kernel depends on the order of its axes after the outputs.

    That order is another one in each framework. Of a rule that takes no kernel of ``ndim`` axes,
    the error with which it fails.
    """
    if _is_proved(rule):
        return False
    known = _orders.setdefault(type(rule), {})
    key = _key(rule, ndim)
    if key not in known:
        shape, first = (*KERNEL, *[1] * ndim)[:ndim], tuple(range(ndim))
        tried = watched(rule)
        here, there = (tried, first), (tried, (0, *first[2:], 1))
        if not orients(rule):  # it is told the layout, of OIHW and of HWIO
            here, there = (saying(tried, {"layout": "oi"}), first), (tried, (*first[2:], 1, 0))
        try:
            with numpy.errstate(all="ignore"):
                one, other = (_steps(each, [shape], order=order) for each, order in (here, there))
            found: bool | Exception = not _alike(one, other)
        except KINDS as error:
            found = ValueError(str(error))  # without the arrays that the traceback holds
        known[key] = found  # once it is known, as other threads may read it
    return known[key]


def joins(rule: Rule) -> bool:
    """Whether a rule may step several parameters as one vector; see ``shaping.segmented``."""
    known = _joins.setdefault(type(rule), {})
    key = _key(rule)
    if rule.sees_axes:
        return False
    if key not in known:
        with numpy.errstate(all="ignore"):
            try:
                one, other = (_steps(plain(rule), SEVERAL, joined=each) for each in (False, True))
                known[key] = _alike(one, other)
            except Exception:  # of a rule that does something else to a vector
                known[key] = False
    return known[key]


def _totals(vector: Neutral, places: Neutral) -> Neutral:
    if vector.values.dtype.kind != "f":
        raise TypeError("only floating numbers are summed in segments")
    return Neutral(numpy.add.reduceat(vector.values, places.values[:-1]))


def _joined(slots: list[dict[str, Any]], sizes: list[int]) -> dict[str, Any]:
    """The slots of a vector of parameters; 0-d ones are a column."""

    def gathered(*values: Neutral) -> Neutral:
        if not values[0].ndim:
            return Neutral([[value.values] for value in values])
        return Neutral(numpy.concatenate([value.values.ravel() for value in values]))

    found = {name: map_parts(gathered, *(own[name] for own in slots)) for name in slots[0]}
    owners = numpy.repeat(numpy.arange(len(sizes)), sizes)
    places = numpy.cumsum([0, *sizes])[:, None]
    return found | {SEGMENTS: (Neutral(owners), Neutral(places))}


def _shape(ndim: int) -> tuple[int, ...]:
    return (8, 4, *(2,) * ndim)[:ndim]


def _reshaped(shape: tuple[int, ...], least: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Pairs of shapes that hold the same numbers, the other with ``least`` to 5 axes."""
    size = int(numpy.prod(shape))
    for ndim in range(max(1, least), 6):
        yield shape, (size >> ndim - 1, *(2,) * (ndim - 1))
    if not least:
        yield (1,), ()


def tried(rule: Rule) -> None:
    """Raise if a rule is not what its class declares.

    The numbers of the rule are taken, but for schedules, traced numbers and the step size.

    Raises:
        TypeError, ValueError: the message names the class, the method, and what must be there.
    """
    with numpy.errstate(all="ignore"):
        _try(watched(rule))


def _try(rule: Rule) -> None:
    shape = _shape(max(2, rule.min_ndim))
    whole, size, free = _steps(rule, [shape]), int(numpy.prod(shape)), rule.min_ndim < 2
    if not _alike(whole, _steps(rule, [shape])):
        raise ValueError(
            f"{rule.name}: the same arrays gave another result the second time; a step must "
            "depend on its arguments only, and not on a random number or on what was kept"
        )
    mine = rule
    while mine.is_own() and mine.inside:
        mine = mine.inside[0]
    word = "reads" if mine.inside else "needs"
    declared = f"{mine.name} declares {word} = {mine._own_need!r}, but"
    for name in ("local", "combine") if rule._own_need != "tree" else ():
        if getattr(getattr(rule, name, None), "__module__", HERE[0]) not in HERE:
            raise ValueError(
                f"{declared} has {name}, which is called for {word} = 'tree' only; declare that, "
                f"or remove {name}"
            )
    _refuse_numbers_of_groups(rule)
    _refuse_forgotten(rule, shape)
    if rule.needs == "factored" and rule.min_ndim < 3:
        way, turned = (_steps(rule, [_shape(2)], order=order) for order in ((0, 1), (1, 0)))
        if not _alike(way, turned):
            raise ValueError(
                f"{declared} the step of a matrix turned on its side is not the step turned; a "
                f"rule that tells rows from columns declares {word} = 'axes'"
            )
    for one, other in [] if rule.sees_axes else _reshaped(shape, rule.min_ndim):
        if not _alike(whole if one == shape else _steps(rule, [one]), _steps(rule, [other])):
            raise ValueError(
                f"{declared} the step of an array of shape {one} is not the step of the same "
                f"numbers in the shape {other}; a rule that reads axes declares {word} = 'axes', "
                "'factored' or 'matrix', and other numbers for some parameters are groups=[...]"
            )
    half = (size // 2,) if free else (shape[0] // 2, *shape[1:])
    if rule.needs == "element" and not _alike(whole, _steps(rule, [half, half])):
        raise ValueError(
            f"{declared} the step of an array is not made of the steps of its pieces; a rule that "
            f"reads other elements, in a norm or a mean for example, declares {word} = 'tensor'"
        )
    for ndim in {rule.min_ndim, max(1, rule.min_ndim)}:
        try:
            _steps(rule, [_shape(ndim)])
        except Exception as error:
            raise ValueError(
                f"{rule.name} declares min_ndim = {rule.min_ndim}, but fails for a parameter of "
                f"shape {_shape(ndim)}; declare the least number that it takes. {error}"
            ) from error
    _steps(rule, [shape], traced=True)
    if rule.inside and not rule.is_own() and rule.sees_axes and rule._own_need not in SHAPED:
        _try_alone(rule)


def _refuse_forgotten(rule: Rule, shape: tuple[int, ...]) -> None:
    """Raise if weight decay, or maximize, is given and makes no difference."""
    for name, values in FORGOTTEN.items():
        runs = (_steps(saying(rule, {name: value}), [shape]) for value in values)
        if not rule.is_own() and rule.hypers.get(name) and _alike(*runs):
            raise ValueError(
                f"{rule.name} takes {name}, and its step is the same with it and without; a step "
                "of one's own is made with self.prepared and self.descended, which apply it"
            )


def _try_alone(rule: Rule) -> None:
    """Try a wrapper around a rule of elements, in place of one that reads axes itself."""
    from .rules.sgd import SGD  # noqa: PLC0415 # which imports this module

    alone = rule._copy(rule._values, (watched(SGD()),))
    try:
        _steps(alone, [_shape(2)])
    except KINDS:
        return  # it reads numbers that only the other rule has
    _try(alone)


def _refuse_numbers_of_groups(rule: Rule) -> None:
    """Raise if ``combine`` reads a number that groups may change; ``rule`` has taken steps."""
    for name, field in rule.all_fields().items() if rule._own_need == "tree" else ():
        if not isinstance(field, Hyper) or field.whole:
            continue
        rules = rule, saying(rule, {name: another(field, rule.hypers[name])})
        own, other = (
            combined(rule, stepping.Record(_unknown(each.coefficients(numpy, 3)))) for each in rules
        )
        for before, after in zip(own, other, strict=True):
            if not all(is_same(value, after[found]) for found, value in before.items()):
                raise ValueError(
                    f"{rule.name}.combine reads {name}, of which each group of parameters may have "
                    f"its own; read it in local, or declare {name} with whole=True"
                )
    for inside in rule.inside:
        _refuse_numbers_of_groups(inside)


def _steps(
    rule: Rule,
    pieces: Sequence[tuple[int, ...]],
    traced: bool = False,
    order: Sequence[int] | None = None,
    joined: bool = False,
) -> list[Any]:
    """The numbers in parameters and slots after every step, by name, in one vector each.

    Args:
        rule: the rule.
        pieces: shapes of the parameters, which have the same numbers whatever they are cut into.
        order: the order of axes in which a parameter is stepped, of which only the numbers of the
            parameter are returned, in the order of its shape.
        traced: whether the values of the step and of coefficients are unknown to the rule.
        joined: whether the parameters are one vector to the kernel.
    """
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
    if joined:
        slots = [_joined(slots, sizes)]
        params = [Neutral(numpy.cos(numbers))]
    for taken, size in enumerate(STEPS):
        gradient = size * numpy.sin(numbers * (taken + 1))
        if taken == SPARSE:
            gradient[len(gradient) // 2 :] = 0.0
        if taken == BROKEN:
            gradient[-2:] = (numpy.inf, numpy.nan)[-len(gradient) :]
        grads = [Neutral(gradient)] if joined else cut(gradient)
        step = Neutral(numpy.asarray(taken)) if traced else taken
        groups = zip(grads, params, slots, strict=True)
        entries = [stepping.Entry(rule, step, *arrays) for arrays in groups]
        enter = (lambda s, param: _unknown(s)) if traced else None
        try:
            results, common = stepping.run(XP, entries, common, enter=enter, totals=_totals)
            params, slots = map(list, zip(*results, strict=True))
        except (TypeError, ValueError) as error:
            if taken == BROKEN and isinstance(error.__cause__, numpy.linalg.LinAlgError):
                break  # NumPy decomposes no NaN
            raise
        if order is not None:
            back = numpy.argsort(order)
            found.append([Neutral(param.values.transpose(back)) for param in params])
            continue
        found.append(params)
        found += [[own[name] for own in slots] for name in slots[0] if name != SEGMENTS]
    return found


def _unknown(s: Any) -> Any:
    """Coefficients as 0-d arrays, which compilers make of them."""
    if isinstance(s, dict):
        return {name: _unknown(value) for name, value in s.items()}
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


def _alike(some: list[Any], others: list[Any]) -> bool:
    """Whether arrays of two runs have the same numbers; only arrays of equal size are compared."""
    for one, other in zip(map(_vector, some), map(_vector, others), strict=False):
        scale = numpy.max(numpy.abs(one), initial=0.0, where=numpy.isfinite(one))
        near = {"rtol": CLOSE, "atol": CLOSE * scale}
        if one.shape == other.shape and not numpy.allclose(one, other, equal_nan=True, **near):
            return False
    return True


def _vector(values: list[Any]) -> Any:
    """All numbers of an array in pieces; of tuples, the first ones' numbers come first."""
    groups = zip(*map(parts, values), strict=True)
    return numpy.concatenate([part.values.ravel() for group in groups for part in group])
