"""One rule of a map, and reading it from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samestep.spelling import did_you_mean

from .carrying import Refused
from .patterns import Pattern
from .steps import Merge, Reshape, Split, Step, Transpose

__all__ = ["MapRule", "check_keys", "checked", "parsed"]

KEYS = ("from", "to", "ndim", "merge", "transpose", "reshape", "was", "split")


@dataclass(frozen=True)
class MapRule:
    """The patterns of a rule, the new paths, and the steps that change the arrays."""

    where: str
    """Name of the rule, for messages."""
    sources: tuple[Pattern, ...]
    targets: tuple[Pattern, ...]
    ndim: int | None
    ndim_after: int | None
    steps: tuple[Step, ...]

    def match(self, path: str, ndim: int) -> tuple[int, dict[str, str]] | None:
        """The index of the pattern that matches a parameter, and the text in each gap."""
        if self.ndim not in (None, ndim):
            return None
        for place, pattern in enumerate(self.sources):
            captures = pattern.match(path)
            if captures is not None:
                return place, captures
        return None

    def inverse(self) -> MapRule:
        """The inverse rule.

        Raises:
            ValueError: the rule has no inverse.
        """
        lost = {*self.sources[0].captures} - {*self.targets[0].captures}
        if lost:
            raise ValueError(
                f"{self.where}: there is no way back, as {{{min(lost)}}} is not in the new name"
            )
        try:
            steps = tuple(step.inverse() for step in reversed(self.steps))
        except Refused as error:
            raise ValueError(f"{self.where}: {error}") from None
        return MapRule(
            f"{self.where}, backwards",
            self.targets,
            self.sources,
            self.ndim_after,
            self.ndim,
            steps,
        )

    def __str__(self) -> str:
        old, new = (", ".join(map(str, patterns)) for patterns in (self.sources, self.targets))
        limit = "" if self.ndim is None else f" of ndim {self.ndim}"
        return ", ".join((f"{self.where}: {old}{limit} -> {new}", *map(str, self.steps)))


def parsed(where: str, table: Any) -> MapRule:
    """A rule from a dict or a table of TOML.

    Raises:
        ValueError: the table is not a rule; the message begins with ``where``.
    """
    table = checked(where, table, Mapping)
    check_keys(where, table, KEYS)
    merge, split = table.get("merge"), table.get("split")
    for one, other, many in (("from", "merge", "from"), ("to", "split", "into")):
        if one in table and other in table:
            raise ValueError(f"{where}: {one} and {other} are both given; {other} has its {many}")
    if "from" not in table and merge is None:
        raise ValueError(f"{where}: there is no from")
    if merge is not None and "to" not in table and split is None:
        raise ValueError(f"{where}: there is no to, which what is merged needs")
    steps: list[Step] = []
    sources: tuple[Pattern, ...]
    targets: tuple[Pattern, ...]
    if merge is None:
        sources = (_pattern(f"{where}: from", table["from"]),)
    else:
        sources = _several(f"{where}: merge", merge, "from")
        steps.append(Merge(*_cut(f"{where}: merge", merge, len(sources))))
    ndim = _ndim(where, table)
    steps += _steps(where, table, ndim)
    if split is None:
        targets = (_pattern(f"{where}: to", table.get("to", sources[0].text)),)
    else:
        targets = _several(f"{where}: split", split, "into")
        steps.append(Split(*_cut(f"{where}: split", split, len(targets))))
    _check_captures(where, sources, targets, table.get("reshape", ()))
    after = len(table["reshape"]) if "reshape" in table else ndim
    return MapRule(where, sources, targets, ndim, after, tuple(steps))


def _ndim(where: str, table: Mapping[str, Any]) -> int | None:
    ndim: int | None = table.get("ndim")
    if ndim is not None and (type(ndim) is not int or ndim < 0):
        raise ValueError(f"{where}: ndim is {ndim!r}; it must be a whole number >= 0")
    return ndim


def _steps(where: str, table: Mapping[str, Any], ndim: int | None) -> list[Step]:
    """The steps between merging and splitting."""
    steps: list[Step] = []
    if "transpose" in table:
        axes = _numbers(f"{where}: transpose", table["transpose"])
        if sorted(axes) != [*range(len(axes))]:
            raise ValueError(
                f"{where}: transpose is {[*axes]}; it must have every axis from 0 to "
                f"{max(len(axes) - 1, 0)} once"
            )
        if ndim not in (None, len(axes)):
            raise ValueError(f"{where}: transpose has {len(axes)} axes, and ndim is {ndim}")
        steps.append(Transpose(axes))
    if "reshape" in table:
        was = _sizes(f"{where}: was", table["was"]) if "was" in table else None
        if was is not None and ndim not in (None, len(was)):
            raise ValueError(f"{where}: was has {len(was)} sizes, and ndim is {ndim}")
        steps.append(Reshape(_sizes(f"{where}: reshape", table["reshape"]), was))
    elif "was" in table:
        raise ValueError(f"{where}: was is given, and no reshape")
    return steps


def _cut(where: str, table: Mapping[str, Any], count: int) -> tuple[int, int, Any]:
    """Axis, number and sizes of pieces."""
    axis = table.get("axis")
    if type(axis) is not int:
        raise ValueError(f"{where}: axis is {axis!r}; it must be a whole number")
    sizes = None
    if "sizes" in table:
        sizes = _numbers(f"{where}: sizes", table["sizes"])
        if len(sizes) != count or min(sizes) < 0:
            raise ValueError(f"{where}: sizes is {[*sizes]}; it must have {count} numbers >= 0")
    return axis, count, sizes


def _several(where: str, table: Any, key: str) -> tuple[Pattern, ...]:
    """The patterns of a merge or a split: different patterns with the same gaps."""
    table = checked(where, table, Mapping)
    check_keys(where, table, ("axis", key, "sizes"))
    texts = _sequence(f"{where}: {key}", table.get(key))
    if not texts or len({*map(str, texts)}) < len(texts):
        raise ValueError(f"{where}: {key} is {[*texts]}; it must have different paths")
    patterns = tuple(_pattern(f"{where}: {key}", text) for text in texts)
    for pattern in patterns:
        if {*pattern.captures} != {*patterns[0].captures}:
            raise ValueError(
                f"{where}: {pattern.text!r} must have the same gaps as {patterns[0].text!r}"
            )
    return patterns


def _check_captures(
    where: str, sources: Sequence[Pattern], targets: Sequence[Pattern], sizes: Sequence[Any]
) -> None:
    known = {*sources[0].captures}
    for text in (*(target.text for target in targets), *filter(_is_text, sizes)):
        missing = {*Pattern(text).captures} - known
        if missing:
            there = ", ".join(f"{{{name}}}" for name in sources[0].captures) or "no gaps"
            raise ValueError(
                f"{where}: {text!r} has {{{min(missing)}}}; {sources[0].text!r} has {there}"
            )


def _is_text(size: Any) -> bool:
    return isinstance(size, str)


def _sizes(where: str, value: Any) -> tuple[int | str, ...]:
    sizes = tuple(_sequence(where, value))
    for size in sizes:
        if isinstance(size, str):
            _pattern(where, size)
        elif type(size) is not int or size < -1:
            raise ValueError(f"{where}: {size!r} must be a size, -1, or '{{name}}' of a gap")
    if sizes.count(-1) > 1:
        raise ValueError(f"{where} is {[*sizes]}; only one may be -1")
    return sizes


def _numbers(where: str, value: Any) -> tuple[int, ...]:
    numbers = tuple(_sequence(where, value))
    for number in numbers:
        if type(number) is not int:
            raise ValueError(f"{where} is {[*numbers]}; it must be of whole numbers")
    return numbers


def _sequence(where: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{where} is {value!r}; it must be a list")
    return value


def _pattern(where: str, text: Any) -> Pattern:
    if not isinstance(text, str):
        raise ValueError(f"{where} is {text!r}; it must be a text")
    try:
        return Pattern(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def checked(where: str, value: Any, kind: type) -> Any:
    """``value``; raises if it has another type."""
    words = {bool: "true or false", list: "a list"}.get(kind, "a table")
    if not isinstance(value, kind):
        raise ValueError(f"{where} is {value!r}; it must be {words}")
    return value


def check_keys(where: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise if the table has an unknown key."""
    allowed = tuple(allowed)
    for key in table:
        if key not in allowed:
            raise ValueError(
                f"{where}: there is no key {key!r}; there are {', '.join(allowed)}"
                + did_you_mean(key, allowed, quoted=True)
            )
