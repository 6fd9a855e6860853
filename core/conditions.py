"""Conditions on a parameter's path and number of dimensions, which route it to a rule.

    Where(min_ndim=2) & ~Where(path="*embed*")

A condition is a predicate of a ``Parameter``, as ``mask``, ``groups`` and ``route`` take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .groups import Parameter, Predicate, holds

__all__ = ["Condition", "Where", "described"]


class Condition:
    """A predicate of parameters to combine with others, by ``&``, ``|`` and ``~``."""

    def __call__(self, parameter: Parameter) -> bool:
        """Whether it holds."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__()")

    def __and__(self, other: Predicate) -> Condition:
        return _All((self, _checked(self, "&", other)))

    def __or__(self, other: Predicate) -> Condition:
        return _Any((self, _checked(self, "|", other)))

    def __rand__(self, other: Predicate) -> Condition:
        return _All((_checked(self, "&", other), self))

    def __ror__(self, other: Predicate) -> Condition:
        return _Any((_checked(self, "|", other), self))

    def __invert__(self) -> Condition:
        return _Not(self)


@dataclass(frozen=True, repr=False)
class Where(Condition):
    """A predicate of parameters that says what it asks for; combine with ``&``, ``|`` and ``~``.

    Args:
        path: a pattern of the dotted path, as of file names: ``*`` is any text, ``?`` any letter,
            ``[ab]`` one of these and ``[!ab]`` none: ``"encoder.*.weight"``.
        ndim: number of dimensions.
        min_ndim: the same, at least.
        max_ndim: the same, at most.

    Raises:
        TypeError: what is asked for is no pattern or no whole number.
    """

    path: str | None = None
    ndim: int | None = None
    min_ndim: int | None = None
    max_ndim: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kind, words = (str, "a pattern") if name == "path" else (int, "a whole number")
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise TypeError(f"Where({name}={value!r}): {name} must be {words}")

    def __call__(self, parameter: Parameter) -> bool:
        """Whether all that was asked for is so."""
        return (
            (self.path is None or fnmatchcase(parameter.path, self.path))
            and self.ndim in (None, parameter.ndim)
            and (self.min_ndim is None or parameter.ndim >= self.min_ndim)
            and (self.max_ndim is None or parameter.ndim <= self.max_ndim)
        )

    def __repr__(self) -> str:
        asked = ", ".join(f"{n}={v!r}" for n, v in vars(self).items() if v is not None)
        return f"Where({asked})"


@dataclass(frozen=True, repr=False)
class _All(Condition):
    """All of several predicates, asked in order until one does not hold."""

    predicates: tuple[Predicate, ...]

    def __call__(self, parameter: Parameter) -> bool:
        return all(_holds(predicate, parameter) for predicate in self.predicates)

    def __repr__(self) -> str:
        return f"({' & '.join(map(described, self.predicates))})"


@dataclass(frozen=True, repr=False)
class _Any(Condition):
    """Any of several predicates, asked in order until one holds."""

    predicates: tuple[Predicate, ...]

    def __call__(self, parameter: Parameter) -> bool:
        return any(_holds(predicate, parameter) for predicate in self.predicates)

    def __repr__(self) -> str:
        return f"({' | '.join(map(described, self.predicates))})"


@dataclass(frozen=True, repr=False)
class _Not(Condition):
    """A condition that holds where another does not."""

    condition: Condition

    def __call__(self, parameter: Parameter) -> bool:
        return not self.condition(parameter)

    def __repr__(self) -> str:
        return f"~{self.condition!r}"


def _holds(predicate: Predicate, parameter: Parameter) -> bool:
    return holds(predicate, predicate, parameter)


def _checked(one: Condition, sign: str, other: Any) -> Predicate:
    if not callable(other):
        raise TypeError(
            f"{one!r} {sign} {other!r}: both must be predicates, such as Where(path='embed.*') or "
            "a callable of a parameter"
        )
    predicate: Predicate = other
    return predicate


def described(predicate: Any) -> str:
    """A predicate in a message: a condition as it is written, a function by its name."""
    own = isinstance(predicate, Condition) or not hasattr(predicate, "__name__")
    return repr(predicate) if own else str(predicate.__name__)
