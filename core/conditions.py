"""Conditions on a parameter's path and number of dimensions, for ``mask``, ``groups``, ``route``.

An example is ``Where(min_ndim=2) & ~Where(path="*embed*")``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .groups import Parameter, Predicate, holds

__all__ = ["Condition", "Where", "described", "patterns"]


class Condition:
    """A predicate of parameters that ``&``, ``|`` and ``~`` combine with others."""

    def __call__(self, parameter: Parameter) -> bool:
        """Whether the condition holds for a parameter."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__()")

    def __and__(self, other: Predicate) -> Condition:
        return _Joined("&", (self, _checked(self, "&", other)))

    def __or__(self, other: Predicate) -> Condition:
        return _Joined("|", (self, _checked(self, "|", other)))

    def __rand__(self, other: Predicate) -> Condition:
        return _Joined("&", (_checked(self, "&", other), self))

    def __ror__(self, other: Predicate) -> Condition:
        return _Joined("|", (_checked(self, "|", other), self))

    def __invert__(self) -> Condition:
        return _Not(self)


@dataclass(frozen=True, repr=False)
class Where(Condition):
    """A predicate of parameters by path and dimensions; combine with ``&``, ``|`` and ``~``.

    Args:
        path: a pattern of the dotted path, such as ``"encoder.*.weight"``: ``*`` is any text,
            ``?`` any character, ``[ab]`` one of these and ``[!ab]`` any other.
        ndim: number of dimensions.
        min_ndim: the least number of dimensions.
        max_ndim: the largest number of dimensions.

    Raises:
        TypeError: ``path`` is not a string, or another argument not a whole number.
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
        """Whether the parameter fits all arguments."""
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
class _Joined(Condition):
    """All (``&``) or any (``|``) of several predicates, asked in order until one decides."""

    sign: str
    predicates: tuple[Predicate, ...]

    def __call__(self, parameter: Parameter) -> bool:
        decide = all if self.sign == "&" else any
        return decide(holds(each, each, parameter) for each in self.predicates)

    def __repr__(self) -> str:
        return f"({f' {self.sign} '.join(map(described, self.predicates))})"


@dataclass(frozen=True, repr=False)
class _Not(Condition):
    """The negation of a condition."""

    condition: Condition

    def __call__(self, parameter: Parameter) -> bool:
        return not self.condition(parameter)

    def __repr__(self) -> str:
        return f"~{self.condition!r}"


def _checked(one: Condition, sign: str, other: Any) -> Predicate:
    if not callable(other):
        raise TypeError(
            f"{one!r} {sign} {other!r}: both must be predicates, such as Where(path='embed.*') or "
            "a callable of a parameter"
        )
    predicate: Predicate = other
    return predicate


def described(predicate: Any) -> str:
    """A predicate in a message: the source of a condition, the name of a function."""
    own = isinstance(predicate, Condition) or not hasattr(predicate, "__name__")
    return repr(predicate) if own else str(predicate.__name__)


def patterns(predicate: Any) -> list[Where]:
    """The conditions on the path of which a condition is made."""
    if isinstance(predicate, _Joined):
        return [part for each in predicate.predicates for part in patterns(each)]
    if isinstance(predicate, _Not):
        return patterns(predicate.condition)
    return [predicate] if isinstance(predicate, Where) and predicate.path is not None else []
