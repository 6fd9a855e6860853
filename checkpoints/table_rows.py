"""Rows of a library's table: what it calls the numbers and the slots of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samestep.arrays import listed

from .correspondence import About, Field, Kept, Native

__all__ = ["always", "choice", "factored", "row", "truth"]


def row(
    rule: str,
    numbers: str,
    slots: str = "",
    like: str | None = None,
    *,
    fields: Mapping[str, Field] | None = None,
    kept: Mapping[str, Kept] | None = None,
    **facts: Any,
) -> Native:
    """A row of a library's table: what it calls the numbers and the slots of a rule.

    Args:
        rule: the rule's name.
        numbers: our names, separated by spaces. One that is another there is followed by the other:
            ``lr=learning_rate``; ``betas=b1,b2`` if each element has a name of its own;
            ``decay_rate=-beta2_decay`` if it has the other sign.
        slots: the same for slots: ``m=exp_avg``; ``m=-momentums``.
        like: the dialect whose values the other fields have.
        fields: numbers that need a conversion of their own.
        kept: slots that need one.
        facts: as for ``Native``.
    """
    words = [word.partition("=") for word in numbers.split()]
    named = {ours: _field(theirs or ours) for ours, _, theirs in words}
    pairs = [word.partition("=") for word in slots.split()]
    found = {ours: _slot(theirs or ours) for ours, _, theirs in pairs}
    return Native(rule, {**named, **(fields or {})}, {**found, **(kept or {})}, like, **facts)


def _field(name: str) -> str | Field:
    if name.startswith("-"):
        theirs = name[1:]
        return Field(lambda about: -about.numbers[theirs], lambda value, _: {theirs: -value})
    if "," not in name:
        return name
    names = name.split(",")
    return Field(
        lambda about: tuple(about.numbers[each] for each in names),
        lambda value, _: dict(zip(names, value, strict=True)),
    )


def _slot(name: str) -> str | Kept:
    if not name.startswith("-"):
        return name
    theirs = name[1:]
    return Kept(
        lambda state, _: None if state.get(theirs) is None else -state[theirs],
        lambda value, _: {theirs: -value},
        (theirs,),
    )


def always(ours: Any) -> Field:
    """An option of ours that the library fixes, or says by others: a value, or how it is read."""
    return Field(ours if callable(ours) else lambda _: ours, lambda _, __: {})


def truth(name: str) -> Field:
    """An option that is on or off there, and may be a word here."""
    return Field(lambda about: about.numbers[name], lambda value, _: {name: bool(value)})


def choice(ours: str, theirs: str, words: Mapping[Any, Any]) -> dict[str, Field]:
    """An option of ours by its name, from the word of ours for each of theirs, the usual first."""

    def read(about: About) -> Any:
        given = about.numbers[theirs]
        if given not in words:
            raise ValueError(f"{theirs} is {given!r}, which is none of {listed(map(repr, words))}")
        return words[given]

    def written(value: Any, _: About) -> dict[str, Any]:
        return {theirs: next(word for word, own in words.items() if own == value)}

    return {ours: Field(read, written)}


def factored(full: str, rows: str, columns: str) -> Kept:
    """Averages per row and column, or in full, under names of their own."""

    def ours(state: Mapping[str, Any], _: About) -> Any:
        if state.get(full) is not None:
            return (state[full],)
        pair = state.get(rows), state.get(columns)
        return None if any(part is None for part in pair) else pair

    def theirs(value: Any, _: About) -> dict[str, Any]:
        return dict(zip((rows, columns) if len(value) > 1 else (full,), value, strict=True))

    return Kept(ours, theirs, (rows, columns, full))
