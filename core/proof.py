"""The proof of somebody's own rule: what its class declares, tried once on small arrays.

It is tried when a rule is first used, with the options that it has then. The package's own rules
are proved by the conformance suite, and are not tried.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy

from . import step as stepping
from .arrays import map_parts, parts
from .checks import shapes
from .declaration import Hyper, Storage
from .groups import Groups
from .kept import as_seen
from .neutral import XP, Neutral, renamed

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["SUITE", "prove", "reads_order", "tried"]

STEPS = (1.0, 1e3, 1e-3, 1.0, 1.0)
"""The size of the gradient in each step: limits are reached in one, and not in another."""
KERNEL = (8, 4, 2, 2)
ORDERS = (0, 1, 2, 3), (0, 2, 3, 1)
"""A kernel of a convolution, and the orders of its axes in torch, which it has, and in MLX."""
SPARSE, BROKEN = 3, 4
"""The step whose gradient is 0 in the last half, and the one that has infinity and NaN there."""
CLOSE = 1e-7
"""The relative difference of two results in float64 that sums in another order may have."""


class _Method(NamedTuple):
    """A method that an author defines: its arguments, and the types and words of its result."""

    arguments: str
    types: tuple[type, ...]
    returns: str


NEW = "and a dict of new slots"
METHODS = {
    "scalars": _Method("xp t", (dict,), "a dict of numbers, {name: number}"),
    "direction": _Method(
        "xp grad param state s",
        (Neutral, dict),
        f"(direction, slots): an array shaped like the parameter, {NEW}",
    ),
    "step": _Method(
        "xp grad param state s", (Neutral, dict), f"(param, slots): the new parameter, {NEW}"
    ),
    "local": _Method(
        "xp grad param state s",
        (dict, dict),
        "(slots, sums): a dict of new slots, and a dict of 0-d arrays to sum",
    ),
    "combine": _Method("xp sums shared s", (dict,), "a dict of 0-d arrays, {name: array}"),
    "prepare": _Method("xp grad param state s", (Neutral,), "the gradient, an array"),
    "redirect": _Method("xp direction grad s", (Neutral,), "the direction, an array"),
}
KINDS = (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError)
NO_INTEGERS = (
    "; slots are kept in the dtype of the parameter (xp.astype(x, param.dtype)), or as "
    "init=samestep.vocabulary.scalar says in the compute dtype, exact up to 2^24"
)
HERE = ("samestep.moves", "samestep.rule", "samestep.wrapper")
"""Where the methods are defined that a rule has not defined."""

SUITE: set[type] = set()
"""Somebody's classes that the conformance suite proves, with a test for each property."""

_proved: WeakKeyDictionary[type, set[int]] = WeakKeyDictionary()
"""Of each class, the hashes of the options that have been tried."""
_orders: WeakKeyDictionary[type, dict[int, bool]] = WeakKeyDictionary()
"""Of each class, by the hash of its options, whether it reads the order of a kernel's axes."""


def prove(rule: Rule) -> None:
    """Try what somebody's own rule declares, or a rule inside it, once for its class and options.

    Raises:
        TypeError, ValueError: as in ``tried``.
    """
    for branch in rule.branches:
        if _is_own(branch):
            continue
        known = _proved.setdefault(type(branch), set())
        key = hash((branch.bare, *branch.slots()))
        if key not in known:
            tried(branch)
            known.add(key)


def _is_own(rule: Rule) -> bool:
    """Whether the suite proves all of a rule, as it does the package's own."""
    own = type(rule).__module__.startswith("samestep.rules.") or rule.published() in SUITE
    return own and all(map(_is_own, rule.inside))


def reads_order(rule: Rule) -> bool:
    """Whether the step of a kernel depends on the order of its axes after the outputs.

    That order is another one in each framework. A rule that takes no kernel does not read it.
    """
    if _is_own(rule):
        return False
    known = _orders.setdefault(type(rule), {})
    key = hash((rule.bare, *rule.slots()))
    if key not in known:
        with numpy.errstate(all="ignore"), contextlib.suppress(*KINDS):
            known[key] = False
            one, other = (_steps(_watched(rule), [KERNEL], order=order) for order in ORDERS)
            known[key] = not _alike(one, other)
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
        _try(_watched(rule))


def _try(rule: Rule) -> None:
    shape = _shape(max(2, rule.min_ndim))
    whole, size, free = _steps(rule, [shape]), int(numpy.prod(shape)), rule.min_ndim < 2
    if not _alike(whole, _steps(rule, [shape])):
        raise ValueError(
            f"{rule.name}: the same arrays gave another result the second time; a step must "
            "depend on its arguments only, and not on a random number or on what was kept"
        )
    word = "reads" if hasattr(rule, "reads") else "needs"
    declared = f"{rule.name} declares {word} = {rule._own_need!r}, but"
    for name in ("local", "combine") if rule._own_need != "tree" else ():
        if getattr(getattr(rule, name, None), "__module__", HERE[0]) not in HERE:
            raise ValueError(
                f"{declared} has {name}, which is called for {word} = 'tree' only; declare that, "
                f"or remove {name}"
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


def _steps(
    rule: Rule,
    pieces: Sequence[tuple[int, ...]],
    traced: bool = False,
    order: tuple[int, ...] | None = None,
) -> list[Any]:
    """The numbers in parameters and slots after every step, by name, in one vector each.

    Args:
        rule: the rule.
        pieces: shapes of the parameters, which have the same numbers whatever they are cut into.
        order: the order of axes in which a parameter is stepped, of which only the numbers of the
            parameter are returned, in the order of its shape.
        traced: whether the values of the step and of coefficients are unknown to the rule.
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
    for taken, size in enumerate(STEPS):
        gradient = size * numpy.sin(numbers * (taken + 1))
        if taken == SPARSE:
            gradient[len(gradient) // 2 :] = 0.0
        if taken == BROKEN:
            gradient[-2:] = (numpy.inf, numpy.nan)[-len(gradient) :]
        grads = cut(gradient)
        step = Neutral(numpy.asarray(taken)) if traced else taken
        groups = zip(grads, params, slots, strict=True)
        entries = [stepping.Entry(rule, step, *arrays) for arrays in groups]
        enter = (lambda s, param: _unknown(s)) if traced else None
        results, common = stepping.run(XP, entries, common, enter=enter)
        params, slots = map(list, zip(*results, strict=True))
        if order is not None:
            back = numpy.argsort(order)
            found.append([Neutral(param.values.transpose(back)) for param in params])
            continue
        found.append(params)
        found += [[own[name] for own in slots] for name in slots[0]]
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
            raise TypeError(
                f"{rule.name}: init of slot {name} returned {_described(made)}; {words}"
            )
        if unfit := _not_floating(made):
            raise TypeError(f"{rule.name}: init of slot {name} returned an array of {unfit}")


def _not_floating(value: Any) -> str:
    """The dtype of an array that no slot has, with what to do, or nothing."""
    wrong = [str(p.dtype) for p in parts(value) if not XP.isdtype(p.dtype, "real floating")]
    return wrong[0] + NO_INTEGERS if wrong else ""


def _alike(some: list[Any], others: list[Any]) -> bool:
    """Whether arrays of two runs have the same numbers; only arrays of equal size are compared."""
    for one, other in zip(map(_vector, some), map(_vector, others), strict=True):
        scale = numpy.max(numpy.abs(one), initial=0.0, where=numpy.isfinite(one))
        near = {"rtol": CLOSE, "atol": CLOSE * scale}
        if one.shape == other.shape and not numpy.allclose(one, other, equal_nan=True, **near):
            return False
    return True


def _vector(values: list[Any]) -> Any:
    """All numbers of an array in pieces; of tuples, the first ones' numbers come first."""
    groups = zip(*map(parts, values), strict=True)
    return numpy.concatenate([part.values.ravel() for group in groups for part in group])


# A rule whose methods are watched.


def _watched(rule: Rule) -> Any:
    """The rule, with methods that check what they return, a step size of 1, and plain numbers."""
    values = dict(rule._values)
    for name, field in rule._hypers.items():
        number = isinstance(field, Hyper)
        if isinstance(field, Storage) or (number and not _is_plain(values[name])):
            values[name] = field.default
        values[name] = as_seen(rule).get(name, values[name])
        if isinstance(field, Hyper) and name == "lr" and field.contains(1.0):
            values[name] = 1.0
    made: Any = object.__new__(_watched_class(type(rule)))
    vars(made).update({name: getattr(rule, name) for name in rule._carried})
    made._store(values, tuple(map(_watched, rule.inside)), Groups(rule.name))
    return made


def _is_plain(value: Any) -> bool:
    return all(type(n) in (int, float, type(None)) for n in parts(value))


def _watched_class(cls: Any) -> Any:
    """The class with its author's methods watched; it is not registered."""
    methods = {name: getattr(cls, name, None) for name in METHODS}
    own = {n: f for n, f in methods.items() if f is not None and f.__module__ not in HERE}
    body = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    body |= {"dialects": cls.dialects, "_published": cls.published(), "quirks": cls.quirks}
    body |= {name: _watching(cls.__name__, name, own[name]) for name in own}
    return types.new_class(cls.__name__, (cls,), {"register": False}, lambda s: s.update(body))


def _watching(rule: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """An author's method that must not fail, and must return what its name says."""
    arguments, _, returns = METHODS[name]

    @wraps(function)
    def watched(self: Any, *args: Any) -> Any:
        given = dict(zip(arguments.split(), args, strict=False))
        named = {n: _named(value, n) for n, value in given.items()}
        what = f" for a parameter of shape {given['param'].shape}" if "param" in given else ""
        try:
            found = function(self, *named.values())
        except Exception as error:
            if getattr(error, "told", False):
                raise
            kind = type(error) if type(error) in KINDS else TypeError
            wants = "" if isinstance(error, AttributeError) else f"; it must return {returns}"
            words = f"{rule}.{name} fails{what}: {error}{wants}"
            raise _told(kind(words)) from error
        words = _unfit(name, found, given)
        if words:
            raise _told(ValueError(f"{rule}.{name} returned {words}"))
        return found

    return watched


def _told(error: Exception) -> Exception:
    """An error that names rule and method, and stays as it is on its way out."""
    vars(error)["told"] = True
    return error


def _named(value: Any, name: str) -> Any:
    """An argument of a rule's method, whose arrays must not be written into."""
    if not isinstance(value, stepping.Record):
        return renamed(value, name)
    kind = _Coefficients if name == "s" else stepping.Record
    return kind({n: renamed(v, f"{name}.{n}") for n, v in vars(value).items()})


class _Coefficients(stepping.Record):
    """The ``s`` of a rule."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            raise AttributeError(f"{error}; scalars() must return it") from None


def _unfit(name: str, found: Any, given: dict[str, Any]) -> str:
    """What is wrong with the result of a method, in words, or nothing."""
    _, types, returns = METHODS[name]
    several = len(types) > 1 and isinstance(found, (tuple, list))
    results = [*found] if several else [found]
    if len(results) != len(types) or not all(map(isinstance, results, types)):
        return f"{_described(found)}; it must return {returns}"
    like: Any = given.get("direction", given.get("param"))
    first, last = results[0], results[-1]
    if isinstance(first, Neutral) and first.shape != like.shape:
        return f"an array of shape {first.shape} for {like!r}; the shapes must be equal"
    slots = first if name == "local" else last if several else {}
    for slot, value in slots.items():
        old = vars(given["state"]).get(slot, value)
        if not all(isinstance(part, Neutral) for part in parts(value)):
            return f"slot {slot} as {_described(value)}; it must be an array"
        same = shapes(value) == shapes(old)
        unfit = _not_floating(value) if same else f"shape {shapes(value)}; it must be {shapes(old)}"
        if unfit:
            return f"slot {slot} of {unfit}"
    for term, value in last.items() if name in ("local", "combine", "scalars") else ():
        if any(getattr(part, "shape", ()) != () for part in _flat(value)):
            return f"{term} of shape {shapes(value)}; it must be a number, or 0-d"
    return ""


def _flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, tuple) else [value]


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, value))})"
    known = {Neutral: "an array", dict: "a dict", type(None): "None"}
    return known.get(type(value), f"{type(value).__name__}")
