"""A rule whose methods are watched: none may fail, and each must return what its name says."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from . import step as stepping
from .arrays import listed, parts
from .checks import shapes
from .declaration import Hyper, Storage
from .groups import Chosen, Groups
from .kept import as_seen
from .made import HERE
from .moves import Move
from .neutral import XP, Neutral, renamed

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "CLOSE",
    "KINDS",
    "another",
    "combined",
    "described",
    "is_same",
    "not_floating",
    "plain",
    "unwritten",
    "variants",
    "watched",
]


class _Method(NamedTuple):
    """A method that an author defines: its arguments, and the types and words of its result."""

    arguments: str
    types: tuple[type, ...]
    returns: str


CLOSE = 1e-7
"""The relative difference of two results in float64 that sums in another order may have."""

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
    "moved": _Method(
        "xp grad param state s", (Move, dict), f"(move, slots): a samestep.vocabulary.Move, {NEW}"
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
RETURNING = ("direction", "step", "moved", "local")
"""The methods that return slots."""
KINDS = (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError)
ZERO_D = "it must be a 0-d array, such as xp.sum(grad * grad); numbers come from scalars()"
NO_INTEGERS = (
    "; slots are kept in the dtype of the parameter (xp.astype(x, param.dtype)), or as "
    "init=samestep.vocabulary.scalar says in the compute dtype, exact up to 2^24"
)
NOT_SUMMED = (
    "has another gradient, or parameter, than local had for the sums: the step of a wrapper around "
    "it changes that. Change the gradient in prepare, which comes before the sums"
)


def watched(rule: Rule) -> Any:
    """The rule as ``plain`` makes it, with methods that check what they return."""
    return plain(rule, _watched_class)


def plain(rule: Rule, kind: Callable[[type], type] = lambda cls: cls) -> Any:
    """The rule with a step size of 1 and plain numbers, of the class that ``kind`` makes of its."""
    values = dict(rule._values)
    for name, field in rule._hypers.items():
        if isinstance(field, Storage):
            values[name] = field.default
        values[name] = as_seen(rule).get(name, values[name])
        if isinstance(field, Hyper):
            step_size = name == "lr" and field.contains(1.0)
            values[name] = 1.0 if step_size else _number(field, values[name])
    made: Any = object.__new__(kind(type(rule)))
    vars(made).update({name: getattr(rule, name) for name in rule._carried})
    made._store(values, tuple(plain(own, kind) for own in rule.inside), Groups(rule.name))
    return made


def _number(field: Hyper, value: Any) -> Any:
    """The number; of a schedule or an array the default, or one that switches something on."""
    if isinstance(value, tuple):
        return tuple(map(_number, field.each, value))
    known = type(value) in (int, float, type(None))
    return value if known else field.default or another(field, field.default)


def variants(rule: Rule) -> Iterator[Rule]:
    """The rule, and with the numbers of each of its groups, or of the groups of a rule inside."""
    yield rule
    for place in range(len(rule.groups.groups)):
        yield rule.groups.applied(rule, Chosen(numbers=place))
    for inside in rule.inside:
        for other in variants(inside):
            if other is not inside:
                yield rule._copy(rule._values, (other,))


def combined(rule: Any, s: Any) -> list[dict[str, Any]]:
    """What ``combine`` of a watched rule gives with other coefficients, for all it was called."""
    calls = vars(rule.bare).get("_calls", ())
    combine = super(type(rule), rule.bare).combine
    return [combine(xp, sums, shared, s) for xp, sums, shared, _ in calls]


def _dicts_of(rule: Rule) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The dicts, by name, that the methods of somebody's rule, or of a rule inside, may change."""
    for cls in () if rule.is_own() else type(rule).__mro__:
        own = {} if cls.__module__.startswith("samestep.") else dict(vars(cls))
        for function in filter(inspect.isfunction, vars(cls).values() if own else ()):
            own |= inspect.getclosurevars(function).nonlocals
            own |= inspect.getclosurevars(function).globals
        yield from ((name, value) for name, value in own.items() if isinstance(value, dict))
    for inside in rule.inside:
        yield from _dicts_of(inside)


@contextmanager
def unwritten(rule: Rule) -> Iterator[None]:
    """A context of a trial that takes back what a rule writes into dicts.

    Raises:
        ValueError: it has written into one, and nothing else has failed.
    """
    dicts = [(*item, item[1].copy()) for item in _dicts_of(rule)]
    written = []
    try:
        yield
    finally:
        for name, now, before in dicts:
            if now.keys() != before.keys() or any(now[key] is not before[key] for key in now):
                now.clear()
                now.update(before)
                written.append(name)
    if written:
        raise ValueError(
            f"{rule.name} writes into {written[0]}, which other rules and later steps read; what a "
            "step keeps is a slot, and what it need not compute twice is in a functools.cache"
        )


def another(field: Hyper, value: Any) -> Any:
    """Another number, or tuple of numbers, that a field allows."""
    if isinstance(value, tuple):
        return tuple(map(another, field.each, value))
    start, whole = value or 0.0, isinstance(field.default, int)
    allowed = (
        number
        for number in (start / 2, 0.5, start + 1, 2.0)
        if number != value and field.contains(number) and not (whole and number % 1)
    )
    return next(allowed, value)


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
    def called(self: Any, *args: Any) -> Any:
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
        words = _unfit(name, found, given, early=self.steps_early)
        if words:
            raise _told(ValueError(f"{rule}.{name} returned {words}"))
        if name in RETURNING:
            slots = found[0] if name == "local" else found[1]
            fixed = self.fixed_slots.intersection(slots)
            if fixed:
                words = f"{rule}.{name} returned slots {listed(fixed)}; they are declared as fixed"
                raise _told(ValueError(words))
            vars(self).setdefault("_returned", set()).update(slots)
        if name == "local":
            vars(self)["_summed"] = tuple(named.values()), found
        elif name in ("direction", "prepare", "step") and _sums_differ(self, **named):
            raise _told(ValueError(f"{rule}.{name} {NOT_SUMMED}"))
        elif name == "combine":
            vars(self).setdefault("_calls", []).append(args)
        return found

    return called


def _sums_differ(rule: Any, grad: Any, param: Any, **_: Any) -> bool:
    """Whether ``local`` had another gradient, or another parameter and gives other sums for it."""
    if "_summed" not in vars(rule):
        return False
    (xp, summed, before, *others), (_, sums) = vars(rule)["_summed"]
    if not is_same(grad, summed) or is_same(param, before):
        return not is_same(grad, summed)
    _, again = super(type(rule), rule).local(xp, grad, param, *others)
    return not all(is_same(value, again[name]) for name, value in sums.items())


def is_same(one: Neutral, other: Neutral) -> bool:
    """Whether two arrays have the same values."""
    return numpy.array_equal(one.values, other.values, equal_nan=True)


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


def _unfit(name: str, found: Any, given: dict[str, Any], early: Any) -> str:
    """What is wrong with the result of a method, in words, or nothing.

    ``early``: the change of a rule that steps early is there for those that ask for it alone.
    """
    _, types, returns = METHODS[name]
    several = len(types) > 1 and isinstance(found, (tuple, list))
    results = [*found] if several else [found]
    if len(results) != len(types) or not all(map(isinstance, results, types)):
        return f"{described(found)}; it must return {returns}"
    like: Any = given.get("direction", given.get("param"))
    first, last = results[0], results[-1]
    if isinstance(first, Move) and not early and not _is_one_step(first, like):
        return f"a Move whose change does not lead from {like!r} to its param; both are one step"
    if isinstance(first, Neutral) and first.shape != like.shape:
        return f"an array of shape {first.shape} for {like!r}; the shapes must be equal"
    slots = first if name == "local" else last if several else {}
    for slot, value in slots.items():
        old = vars(given["state"]).get(slot, value)
        if not all(isinstance(part, Neutral) for part in parts(value)):
            return f"slot {slot} as {described(value)}; it must be an array"
        same = shapes(value) == shapes(old)
        unfit = not_floating(value) if same else f"shape {shapes(value)}; it must be {shapes(old)}"
        if unfit:
            return f"slot {slot} of {unfit}"
    return _unfit_terms(name, last) if name in ("local", "combine", "scalars") else ""


def _is_one_step(move: Move, param: Neutral) -> bool:
    """Whether both forms of a move lead to one place, but for rounding."""
    one, other = move.param.values, (param + move.change).values
    scale = numpy.max(numpy.abs(one), initial=0.0, where=numpy.isfinite(one))
    near = {"rtol": CLOSE, "atol": CLOSE * scale}
    return one.shape == other.shape and numpy.allclose(one, other, equal_nan=True, **near)


def _unfit_terms(name: str, terms: dict[str, Any]) -> str:
    """What is wrong with a term of a sum, a shared array or a coefficient, in words, or nothing."""
    number = name == "scalars"
    for term, value in terms.items():
        if any(getattr(part, "shape", ()) != () for part in _flat(value)):
            return f"{term} of shape {shapes(value)}; it must be {'a number, or ' * number}0-d"
        if not number and not isinstance(value, Neutral):
            return f"{term} as {described(value)}; {ZERO_D}"
    return ""


def _flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, tuple) else [value]


def described(value: Any) -> str:
    """A result in words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(described, value))})"
    known = {Neutral: "an array", dict: "a dict", type(None): "None"}
    return known.get(type(value), f"{type(value).__name__}")


def not_floating(value: Any) -> str:
    """The dtype of an array that no slot has, with what to do, or nothing."""
    wrong = [str(p.dtype) for p in parts(value) if not XP.isdtype(p.dtype, "real floating")]
    return wrong[0] + NO_INTEGERS if wrong else ""
