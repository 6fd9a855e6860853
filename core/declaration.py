"""The declarations of a rule: hyperparameters, options, and state arrays.

The constructor's signature, validation, messages, ``repr``, documentation, checkpoint keys, the
ranges of the tests, and the classes of every framework are derived from them.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy

from .arrays import is_array, is_narrow, known, parts

__all__ = [
    "Field",
    "Hyper",
    "Initial",
    "Option",
    "Shared",
    "Slot",
    "Storage",
    "hyper",
    "option",
    "plain",
    "shared",
    "slot",
]

_REFUSED = object()
DTYPES = ("float32", "float64", "bfloat16", "float16")


def plain(value: Any) -> Any:
    """A value to compare and hash: an array as its number, a traced array as its identity."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    number = known(value)
    return ("array", id(number)) if is_array(number) else number


Bound = Any
"""An end of a range: a number, ``None``, or a tuple of them, one for each number of a tuple."""


class Field:
    """A declared value, read on an instance as ``rule.name``."""

    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    def replaced(self, **changes: Any) -> Any:
        """A copy of the declaration with changes, such as another default."""
        return replace(self, **changes)  # type: ignore[type-var]

    def __get__(self, rule: Any, owner: type | None = None) -> Any:
        if rule is None:
            return self
        if self.name not in rule._values:  # the rule's __getattr__ says why
            raise AttributeError(self.name)
        return rule._values[self.name]


@dataclass(frozen=True, eq=False)
class Hyper(Field):
    """A number, or a tuple of numbers, that may change between steps; made by ``hyper``."""

    default: Any
    meaning: str
    unit: str
    ge: Bound = None
    gt: Bound = None
    le: Bound = None
    lt: Bound = None
    typical: Any = None
    ordered: bool = False
    infinite: bool = False
    whole: bool = False

    @cached_property
    def each(self) -> tuple[Hyper, ...]:
        """The declaration of every number of a tuple, with its own range."""
        if not isinstance(self.default, tuple):
            return (self,)
        ends = {name: getattr(self, name) for name in ("ge", "gt", "le", "lt")}
        own = [
            {name: end[at] if isinstance(end, tuple) else end for name, end in ends.items()}
            for at in range(len(self.default))
        ]
        return tuple(
            self.replaced(default=default, typical=None, **bounds)
            for default, bounds in zip(self.default, own, strict=True)
        )

    @property
    def range(self) -> str:
        """The allowed range in words, such as ``in [0, 1)`` or ``>= 0``."""
        if not self.ordered and len(self.each) > 1:
            return " and ".join(dict.fromkeys(part.range for part in self.each))
        low: Any = self.ge if self.ge is not None else self.gt
        high: Any = self.le if self.le is not None else self.lt
        if self.ordered:
            return f">= {low:g} and in ascending order"
        if low is not None and high is not None:
            left, right = "[" if self.ge is not None else "(", "]" if self.le is not None else ")"
            return f"in {left}{low:g}, {high:g}{right}"
        if low is not None:
            return f"{'>=' if self.ge is not None else '>'} {low:g}"
        if high is not None:
            return f"{'<=' if self.le is not None else '<'} {high:g}"
        return "of any size"

    @property
    def kind(self) -> str:
        """The sort of value, in words."""
        number = "whole number" if isinstance(self.default, int) else "number"
        if isinstance(self.default, tuple):
            return f"{len(self.default)} {number}s"
        return f"a {number}" + (" or None" if self.default is None else "")

    @property
    def _finite(self) -> bool:
        return not (self.infinite or self.ordered or self.default == math.inf)

    def contains(self, number: float) -> bool:
        """Whether a number lies in the range of a single number; NaN never does."""
        return not (
            math.isnan(number)
            or (math.isinf(number) and self._finite)
            or (self.ge is not None and number < self.ge)
            or (self.gt is not None and number <= self.gt)
            or (self.le is not None and number > self.le)
            or (self.lt is not None and number >= self.lt)
        )

    def validated(self, rule: str, value: Any, schedules: bool = True) -> Any:
        """The value to store, or an error that names rule, argument, value and range.

        Args:
            rule: name of the rule, for the message.
            value: the given value: a number, a 0-d array, a schedule, or a tuple of them.
            schedules: whether a schedule is allowed; the value of a schedule must not be one.
        """
        if value is None and self.default is None:
            return None
        several = isinstance(self.default, tuple)
        if several and isinstance(value, numpy.ndarray) and value.ndim == 1:
            value = tuple(value.tolist())
        if not several:
            kept = self._kept(value, schedules)
        elif isinstance(value, (tuple, list)) and len(value) == len(self.default):
            pairs = zip(self.each, value, strict=True)
            kept = tuple(part._kept(item, schedules) for part, item in pairs)
        else:
            kept = _REFUSED
        bounds = tuple(map(known, kept)) if self.ordered and isinstance(kept, tuple) else ()
        if all(isinstance(b, (int, float)) for b in bounds) and list(bounds) != sorted(bounds):
            kept = _REFUSED
        if kept is _REFUSED or (isinstance(kept, tuple) and any(k is _REFUSED for k in kept)):
            raise ValueError(
                f"{rule}({self.name}={value!r}): {self.name} must be "
                f"{self._wanted(value, schedules)} ({self.meaning})"
            )
        return kept

    def _wanted(self, value: Any, schedules: bool) -> str:
        size = len(self.default) if isinstance(self.default, tuple) else None
        values = tuple(map(known, value if isinstance(value, (tuple, list)) else (value,)))
        fits = size == (len(value) if isinstance(value, (tuple, list)) else None)
        if any(map(is_narrow, parts(value))):  # which has two or three digits
            return f"{self.kind} of Python, or of float32 or float64"
        if fits and all(isinstance(v, float) or type(v) is int for v in values):
            endless = math.inf in map(abs, values) and self._finite
            wanted = f"finite and {self.range}" if endless else self.range
            return wanted if not isinstance(self.default, int) else f"{self.kind} {wanted}"
        either = "or" if size is None else "each of which may be"
        either = f", {either} a schedule (a callable of the step)" if schedules else ""
        return f"{self.kind} {self.range}{either}"

    def _kept(self, value: Any, schedules: bool) -> Any:
        number, whole = known(value), isinstance(self.default, int)
        if is_narrow(value):
            return _REFUSED
        if is_array(number) or (callable(number) and schedules):
            return value  # its number is known when a step is taken, if ever
        if isinstance(number, bool) or not isinstance(number, numbers.Real):
            return _REFUSED
        try:
            inside = self.contains(float(number))
        except OverflowError:  # a whole number beyond all floats
            inside = False
        if not inside or (whole and number % 1 != 0):
            return _REFUSED
        if is_array(value) and not isinstance(value, (numpy.ndarray, numpy.generic)):
            return value
        return math.trunc(number) if whole else float(number)


@dataclass(frozen=True, eq=False)
class Option(Field):
    """A choice of an algorithm, fixed for the life of the rule; made by ``option``."""

    default: Any
    meaning: str
    choices: tuple[Any, ...] | None = None
    ge: int | None = None
    says: Mapping[Any, str] = field(default_factory=dict)

    @property
    def range(self) -> str:
        """The allowed values in words."""
        if self.choices is not None:
            return "one of " + ", ".join(map(repr, self.choices))
        if isinstance(self.default, bool):
            return "True or False"
        return f"a whole number >= {self.ge}"

    def validated(self, rule: str, value: Any) -> Any:
        """The value to store, or an error that names rule, argument, value and choices."""
        if self.choices is not None:
            alike = [c for c in self.choices if isinstance(value, type(c)) and value == c]
            valid, value = bool(alike), alike[0] if alike else value
        elif isinstance(self.default, bool):
            valid = isinstance(value, bool)
        else:
            valid = isinstance(value, int) and not isinstance(value, bool)
            valid = valid and (self.ge is None or value >= self.ge)
        if valid:
            return value
        raise self._refusal(rule, value)

    def _refusal(self, rule: str, value: Any) -> ValueError:
        said = f"{self.name} must be {self.range} ({self.meaning})"
        return ValueError(f"{rule}({self.name}={value!r}): {said}")


@dataclass(frozen=True, eq=False)
class Storage(Option):
    """The option that says in which dtype slots are kept: one for all, or a dict by slot."""

    choices: tuple[Any, ...] | None = (None, *DTYPES)

    @property
    def range(self) -> str:
        """The allowed values in words."""
        return f"{super().range}, or a dict of slot and one of them"

    def validated(self, rule: str, value: Any) -> Any:
        """The value to store: a dict as pairs, so that rules stay hashable."""
        if not isinstance(value, (Mapping, tuple)):
            return super().validated(rule, value)
        try:
            pairs = tuple(sorted(dict(value).items()))
        except (TypeError, ValueError):
            return super().validated(rule, value)
        for slot, dtype in pairs:
            if dtype is not None and not (isinstance(dtype, str) and dtype in DTYPES):
                said = f"the dtype of slot {slot} must be {super().range}"
                raise ValueError(f"{rule}(state_dtype={dict(pairs)!r}): {said}")
        return pairs or None


@dataclass(frozen=True)
class Initial:
    """The first value of a slot: ``make(xp, param, rule)`` returns its arrays.

    ``shapes`` returns their shapes from the parameter's shape and the rule; ``None`` means that
    they are not known before the arrays are made. ``dtype`` is ``"state"``; ``"parameter"`` or
    ``"compute"`` for values that must not be rounded; ``"range"`` where float16 has none of them.
    """

    make: Callable[[Any, Any, Any], Any]
    shapes: Callable[[tuple[int, ...], Any], Any] | None = lambda shape, rule: shape
    dtype: str = "state"


ZEROS = Initial(lambda xp, param, rule: xp.zeros_like(param))


@dataclass(frozen=True, eq=False)
class Slot:
    """A state array, or a tuple of arrays, kept for every parameter; made by ``slot``."""

    meaning: str
    init: Initial
    only_if: str | None = None
    start: float | str | Callable[[Any], Any] = 0.0
    fixed: bool = False

    def first(self, rule: Any) -> Any:
        """The number that is added to the first value in the state of a rule."""
        now = rule.at(0)
        value = self.start(now) if callable(self.start) else self.start
        return now.hypers[value] if isinstance(value, str) else value


@dataclass(frozen=True, eq=False)
class Shared:
    """A 0-d state array kept once for all parameters; made by ``shared``."""

    meaning: str
    start: float | str


def hyper(
    default: Any,
    meaning: str,
    *,
    unit: str,
    ge: Bound = None,
    gt: Bound = None,
    le: Bound = None,
    lt: Bound = None,
    typical: Any = None,
    ordered: bool = False,
    infinite: bool = False,
    whole: bool = False,
) -> Any:
    """Declare a hyperparameter.

    Args:
        default: a number, a tuple of numbers, or ``None`` if the rule derives the value. If the
            default is a whole number, only whole numbers are allowed.
        meaning: the effect of the number, in a few words; part of every message about it.
        unit: ``"parameter"``, ``"gradient"``, ``"1/step"``, ``"steps"``, ``"1"`` and so on.
        ge, gt, le, lt: the allowed range. For a tuple of numbers it is the range of each, or a
            tuple of ends: ``gt=(0, 1), lt=(1, None)``.
        typical: a value that switches the feature on, where the default leaves it off.
        ordered: the numbers are a lower and an upper bound.
        infinite: infinity is allowed (always so for bounds, and where it is the default).
        whole: all parameters share the number, and groups cannot change it: ``combine`` reads it,
            or it is the first value of shared state.

    The value given by a user may be a schedule (a callable of the 0-based step) or a 0-d array.
    """
    return Hyper(default, meaning, unit, ge, gt, le, lt, typical, ordered, infinite, whole)


def option(
    default: Any,
    meaning: str,
    *,
    choices: tuple[Any, ...] | None = None,
    ge: int | None = None,
    says: Mapping[Any, str] | None = None,
) -> Any:
    """Declare an option.

    Args:
        default: a bool, a whole number, or one of ``choices``.
        meaning: the effect of the option, in a few words; part of every message about it.
        choices: the allowed values.
        ge: the least allowed whole number.
        says: what a rule with a value does, after its name: ``{True: "looks ahead"}``. Braces are
            filled with the rule's numbers. Without it a comparison shows the value and ``meaning``.
    """
    return Option(default, meaning, choices, ge, says or {})


def slot(
    meaning: str,
    *,
    init: Callable[[Any, Any], Any] | Initial | None = None,
    start: float | str | Callable[[Any], Any] = 0.0,
    only_if: str | None = None,
    fixed: bool = False,
) -> Any:
    """Declare a state array per parameter.

    Args:
        meaning: what it holds.
        init: ``init(xp, param)`` gives the first value; zeros shaped like the parameter if absent.
            An ``Initial`` also gives the shapes, so that a state of other parameters is refused.
        start: a value that is added to the first value: a number, the name of a hyperparameter, or
            a function of the rule, whose schedules have been resolved at step 0.
        only_if: name of a hyperparameter; the slot exists only if its value is not zero.
        fixed: the first value stays, and no step returns the slot.
    """
    given: Any = init
    if not isinstance(init, Initial):
        own = Initial(lambda xp, param, rule: given(xp, param), shapes=None)
        init = ZEROS if given is None else own
    return Slot(meaning, init, only_if, start, fixed)


def shared(meaning: str, *, start: float | str) -> Any:
    """Declare a 0-d state array for all parameters together.

    Args:
        meaning: the content of the array.
        start: the first value: a number, or the name of the hyperparameter that gives it.
    """
    return Shared(meaning, start)
