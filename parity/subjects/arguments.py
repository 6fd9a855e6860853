"""The hyperparameters of a subject under our names, so that two subjects get the same numbers.

A number of ours is searched under the names of ``NAMES``. Each is one argument, or several that
are the elements of a tuple of ours. The default of the argument tells its form: a list stays a
list, and a negative default takes the negative of our number.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from samestep.declaration import Hyper, Option
from samestep.rule import Rule
from samestep.spelling import NAMES
from samestep.wrapper import Wrapper

from .subject import Subject

__all__ = ["Matched", "as_rule", "hidden", "matched", "numbers_of", "options_of"]

SMALLER = 1e-2
"""A library's own learning rate below this part of ours is taken in place of ours."""


class Matched(NamedTuple):
    """Two subjects with the same numbers where both have them."""

    a: Subject
    b: Subject
    shared: dict[str, Any]
    """The numbers that both have, by our names."""
    own: dict[str, tuple[Any, Any]]
    """Numbers that differ, or that only one side takes (``None`` for the other)."""


def places(subject: Subject, name: str, width: int | None) -> tuple[str, ...] | None:
    """The arguments of a subject for a number of ours, or for a tuple of ``width`` numbers."""
    declared = subject.declared
    for found in NAMES.get(name, (name,)):
        if isinstance(found, tuple):
            if width == len(found) and all(part in declared for part in found):
                return found
        elif found in declared and _fits(declared[found], width):
            return (found,)
    return None


def _fits(default: Any, width: int | None) -> bool:
    """Whether the default of an argument has the form of a number of ours."""
    if isinstance(default, (tuple, list)):
        return width == len(default)
    return default is ... or default is None or (width is None and not isinstance(default, str))


def _width(field: Hyper) -> int | None:
    return len(field.default) if isinstance(field.default, tuple) else None


def _negated(default: Any, field: Hyper) -> bool:
    least = field.ge if field.ge is not None else field.gt
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    return number and default < 0 and least is not None and least >= 0


def value_of(subject: Subject, name: str, field: Hyper) -> Any:
    """A subject's value of a number of ours; ``...`` if it must be given, ``None`` if it is off.

    Raises:
        KeyError: the subject has no such argument.
    """
    width = _width(field)
    where = places(subject, name, width)
    if where is None:
        raise KeyError(name)
    declared = subject.declared
    if len(where) > 1:
        values = tuple(declared[part] for part in where)
        return ... if ... in values else values
    value = declared[where[0]]
    if isinstance(value, list):
        value = tuple(value)
    return -value if _negated(value, field) else value


def given(subject: Subject, name: str, field: Hyper, value: Any) -> Subject:
    """The subject with another value of a number of ours."""
    where = places(subject, name, _width(field))
    assert where is not None
    if len(where) > 1:
        return subject.having(**dict(zip(where, value, strict=True)))
    default = subject.declared[where[0]]
    if isinstance(default, list):
        value = [*value]
    return subject.having(**{where[0]: -value if _negated(default, field) else value})


def _chosen(a: Subject, b: Subject, name: str, field: Hyper) -> Any:
    """The number for both sides: the user's, or else one that switches the feature on."""
    for side in (a, b):
        if _is_given(side, name, field):
            return value_of(side, name, field)
    value = field.default if field.typical is None else field.typical
    return _rate((a, b), value, field) if name == "lr" else value


def _rate(sides: tuple[Subject, Subject], value: float, field: Hyper) -> float:
    """A learning rate for both: a power of two, which every dtype holds exactly.

    It is ours, unless a side's own is smaller by orders of magnitude. A rate that is much too large
    makes steps chaotic, so that no variant reproduces them.
    """
    known = [value_of(side, "lr", field) for side in sides if _has(side, "lr", field)]
    numbers = [rate for rate in known if isinstance(rate, (int, float)) and rate > 0]
    least = min([value, *numbers])
    return 2.0 ** math.floor(math.log2(least if least <= SMALLER * value else value))


def _has(subject: Subject, name: str, field: Hyper) -> bool:
    return places(subject, name, _width(field)) is not None


def _is_given(subject: Subject, name: str, field: Hyper) -> bool:
    where = places(subject, name, _width(field)) or ()
    return any(part in subject.arguments for part in where)


def matched(a: Subject, b: Subject, rule: type[Rule]) -> Matched:
    """Both sides with the same numbers, if both take them; numbers that the user gave stay."""
    shared, own = {}, {}
    fields = {n: f for n, f in rule.fields().items() if isinstance(f, Hyper)}
    for name, field in fields.items():
        has = (_has(a, name, field), _has(b, name, field))
        if all(has):
            value = _chosen(a, b, name, field)
            if not _is_given(a, name, field):
                a = given(a, name, field, value)
            if not _is_given(b, name, field):
                b = given(b, name, field, value)
            if value_of(a, name, field) == value_of(b, name, field):
                shared[name] = value
            else:
                own[name] = (value_of(a, name, field), value_of(b, name, field))
        elif any(has):
            side = a if has[0] else b
            if value_of(side, name, field) is ...:
                side = given(side, name, field, _chosen(a, b, name, field))
                a, b = (side, b) if has[0] else (a, side)
            value = value_of(side, name, field)
            if value is not None:
                own[name] = (value, None) if has[0] else (None, value)
    return Matched(a, b, shared, own)


def numbers_of(subject: Subject, rule: type[Rule]) -> dict[str, Any]:
    """The numbers of a subject under our names; weight decay is 0 if it does not take it."""
    made = as_rule(subject)
    if made is not None:
        inside = {"rule": made.rule} if isinstance(made, Wrapper) else {}
        own = {name: value for name, value in _numbers(made).items() if name in rule.fields()}
        return own | inside
    found: dict[str, Any] = {}
    for name, field in rule.fields().items():
        if not isinstance(field, Hyper):
            continue
        try:
            value = value_of(subject, name, field)
        except KeyError:
            if name == "weight_decay":
                found[name] = 0.0
            continue
        if value is None and field.default is not None:
            value = 0.0 if field.contains(0.0) and _width(field) is None else field.default
        if isinstance(value, tuple) and None in value:
            continue
        if value is not ...:
            found[name] = value
    return found


def hidden(subject: Subject, rule: type[Rule]) -> set[str]:
    """The numbers of a rule that a subject does not take."""
    if as_rule(subject) is not None:
        return set()
    fields = {name: field for name, field in rule.fields().items() if isinstance(field, Hyper)}
    return {name for name, field in fields.items() if not _has(subject, name, field)}


def as_rule(subject: Subject) -> Rule | None:
    """The rule that a subject is, or ``None``."""
    target = subject.target
    if isinstance(target, type) and issubclass(target, Rule):
        return target(**subject.arguments)
    return target if isinstance(target, Rule) else None


def _numbers(made: Rule) -> dict[str, Any]:
    fields = made.fields()
    hypers = made.hypers.items()
    return {name: value for name, value in hypers if isinstance(fields.get(name), Hyper)}


def options_of(subject: Subject, rule: type[Rule]) -> dict[str, Any]:
    """The options of a rule that a subject declares under the same names, with its values."""
    made = as_rule(subject)
    declared = subject.declared if made is None else made.hypers
    found = {}
    for name, field in rule.fields().items():
        if isinstance(field, Option) and name in declared and name != "state_dtype":
            try:
                found[name] = field.validated(rule.__name__, declared[name])
            except ValueError:
                continue
    return found
