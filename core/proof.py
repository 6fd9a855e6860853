"""The proof of somebody's own rule: what its class declares, tried once on small arrays.

It is tried when a rule is first used, with the options that it has then. The package's own rules
are proved by the conformance suite, and are not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy

from . import step as stepping
from .declaration import Hyper
from .kept import orients, saying
from .made import HERE, SHAPED
from .trial import alike, moves, steps, unknown
from .watched import (
    KINDS,
    another,
    combined,
    is_same,
    plain,
    unwritten,
    variants,
    watched,
)

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["SUITE", "prove", "reads_order", "sums_segments", "tried"]

KERNEL = (8, 4, 2, 2, 2)
"""A kernel of a convolution in the order of torch; MLX has the inputs last."""
SEVERAL = (4, 2), (3,), (5,)
"""The shapes of several parameters."""

FORGOTTEN = {"weight_decay": (0.0, 0.1), "maximize": (False, True)}
"""What a step of one's own may forget, with values that must make a difference."""
LATE = 5_039_998
"""So many steps are followed by one whose number most periods divide, and that most delays are
before."""

SUITE: set[type] = set()
"""Somebody's classes that the conformance suite proves, with a test for each property."""

_proved: WeakKeyDictionary[type, set[int]] = WeakKeyDictionary()
"""Of each class, the hashes of the options that have been tried."""
_orders: WeakKeyDictionary[type, dict[int, bool | Exception]] = WeakKeyDictionary()
"""Of each class, by the hash of its options, whether it reads the order of a kernel's axes."""
_sums: WeakKeyDictionary[type, dict[int, bool]] = WeakKeyDictionary()
"""Of each class, by the hash of its options, whether parameters may be segments of a vector."""


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
        for each in variants(branch):
            with unwritten(branch):
                key = _key(each)
                if key not in known:
                    tried(each)
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
            with numpy.errstate(all="ignore"), unwritten(rule):
                one, other = (steps(each, [shape], order=order) for each, order in (here, there))
            found: bool | Exception = not alike(one, other)
        except KINDS as error:
            found = ValueError(str(error))  # without the arrays that the traceback holds
        known[key] = found  # once it is known, as other threads may read it
    return known[key]


def sums_segments(rule: Rule) -> bool:
    """Whether a rule may step several parameters as one vector; see ``segments.segmented``."""
    known = _sums.setdefault(type(rule), {})
    key = _key(rule)
    if rule.sees_axes:
        return False
    if key not in known:
        try:
            with numpy.errstate(all="ignore"), unwritten(rule):
                one, other = (steps(plain(rule), SEVERAL, segmented=e) for e in (False, True))
            known[key] = alike(one, other)
        except Exception:  # of a rule that does something else to a vector
            known[key] = False
    return known[key]


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
    whole, size, free = steps(rule, [shape]), int(numpy.prod(shape)), rule.min_ndim < 2
    if not alike(whole, steps(rule, [shape])):
        raise ValueError(
            f"{rule.name}: the same arrays gave another result the second time; a step must "
            "depend on its arguments only, and not on a random number or on what was kept"
        )
    declared, word = _declared(rule)
    for name in ("local", "combine") if rule._own_need != "tree" else ():
        if getattr(getattr(rule, name, None), "__module__", HERE[0]) not in HERE:
            raise ValueError(
                f"{declared} has {name}, which is called for {word} = 'tree' only; declare that, "
                f"or remove {name}"
            )
    _refuse_numbers_of_groups(rule)
    for own in _nested(rule):
        if not own.is_own():
            _refuse_left_out(own)
            _refuse_forgotten(own)
            _refuse_impatient(own)
    _try_turned(rule)
    for one, other in [] if rule.sees_axes else _reshaped(shape, rule.min_ndim):
        if not alike(whole if one == shape else steps(rule, [one]), steps(rule, [other])):
            raise ValueError(
                f"{declared} the step of an array of shape {one} is not the step of the same "
                f"numbers in the shape {other}; a rule that reads axes declares {word} = 'axes', "
                "'factored' or 'matrix', and other numbers for some parameters are groups=[...]"
            )
    half = (size // 2,) if free else (shape[0] // 2, *shape[1:])
    if rule.needs == "element" and not alike(whole, steps(rule, [half, half])):
        raise ValueError(
            f"{declared} the step of an array is not made of the steps of its pieces; a rule that "
            f"reads other elements, in a norm or a mean for example, declares {word} = 'tensor'"
        )
    for ndim in {rule.min_ndim, max(1, rule.min_ndim)}:
        try:
            steps(rule, [_shape(ndim)])
        except Exception as error:
            raise ValueError(
                f"{rule.name} declares min_ndim = {rule.min_ndim}, but fails for a parameter of "
                f"shape {_shape(ndim)}; declare the least number that it takes. {error}"
            ) from error
    steps(rule, [shape], traced=True)
    if rule.inside and not rule.is_own() and rule.sees_axes and rule._own_need not in SHAPED:
        _try_alone(rule)


def _declared(rule: Rule) -> tuple[str, str]:
    """The beginning of a message about a need, and the name of its declaration."""
    mine = rule
    while mine.is_own() and mine.inside:
        mine = mine.inside[0]
    word = "reads" if mine.inside else "needs"
    return f"{mine.name} declares {word} = {mine._own_need!r}, but", word


def _nested(rule: Rule) -> Iterator[Rule]:
    """The rule and all rules inside."""
    yield rule
    for inside in rule.inside:
        yield from _nested(inside)


def _refuse_left_out(rule: Rule) -> None:
    """Raise if no method returns a slot, which then stays as it is; ``rule`` has taken steps."""
    returned = vars(rule.bare).get("_returned", ())
    for name in rule.slots().keys() & rule._slots.keys() - {*returned}:
        if not rule._slots[name].fixed and type(rule).gather.__module__ in HERE:
            raise ValueError(
                f"{rule.name} keeps {name}, which no method returns, so that it stays as it is; "
                f"return it, or declare {name} with fixed=True"
            )


def _refuse_forgotten(rule: Rule) -> None:
    """Raise if weight decay, or maximize, is given and makes no difference."""
    shape = _shape(max(2, rule.min_ndim))
    for name, values in FORGOTTEN.items() if rule.hypers.keys() >= FORGOTTEN.keys() else ():
        both = [saying(rule, {name: value}) for value in values]
        if rule.hypers[name] and all(
            alike(*[steps(each, [shape], taken=taken) for each in both]) for taken in (None, LATE)
        ):
            raise ValueError(
                f"{rule.name} takes {name}, and its step is the same with it and without; a step "
                "of one's own is made with self.prepared and self.descended, which apply it"
            )


def _refuse_impatient(rule: Rule) -> None:
    """Raise if a step moves the parameter that waits."""
    shape = _shape(max(2, rule.min_ndim))
    does = moves(rule, shape, rule.waits) if rule.waits and not rule.inside else ""
    if does:
        raise ValueError(
            f"{rule.name} declares waits = {rule.waits}, but {does} in these steps; a "
            "step of one's own is made with self.descended, or with s.rate, which is 0 in them"
        )


def _try_turned(rule: Rule) -> None:
    """Raise if a factored rule tells rows from columns.

    A rule around it that sees the outputs first may, so that the one inside is tried.
    """
    while orients(rule) and rule.inside:
        rule = rule.inside[0]
    if rule.needs != "factored" or rule.min_ndim > 2 or _is_proved(rule):
        return
    declared, word = _declared(rule)
    way, turned = (steps(rule, [_shape(2)], order=order) for order in ((0, 1), (1, 0)))
    if not alike(way, turned):
        raise ValueError(
            f"{declared} the step of a matrix turned on its side is not the step turned; a "
            f"rule that tells rows from columns declares {word} = 'axes'"
        )


def _try_alone(rule: Rule) -> None:
    """Try a wrapper around a rule of elements, in place of one that reads axes itself."""
    from .rules.sgd import SGD  # noqa: PLC0415 # which imports this module

    alone = rule._copy(rule._values, (watched(SGD()),))
    try:
        steps(alone, [_shape(2)])
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
            combined(rule, stepping.Record(unknown(each.coefficients(numpy, 3)))) for each in rules
        )
        for before, after in zip(own, other, strict=True):
            if not all(is_same(value, after[found]) for found, value in before.items()):
                raise ValueError(
                    f"{rule.name}.combine reads {name}, of which each group of parameters may have "
                    f"its own; read it in local, or declare {name} with whole=True"
                )
    for inside in rule.inside:
        _refuse_numbers_of_groups(inside)
