"""Predicates that choose no parameter, such as a path that the model does not have.

A mask that asks for names and excludes no parameter has such a path too. A group or a route may
well be for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from .conditions import described, patterns
from .groups import NamelessError, Parameter, Predicate, called, parameter
from .notice import warn

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["unmatched", "warn_unmatched"]


class _Asked(NamedTuple):
    """A predicate, the parameters that it was asked about, and those that it chose."""

    what: str
    predicate: Predicate
    seen: list[Parameter]
    chosen: list[Parameter]


def warn_unmatched(rule: Rule, params: Iterable[tuple[str, Any]]) -> None:
    """Warn of every predicate of a rule that chooses none of the parameters.

    Args:
        rule: the rule.
        params: path and shape of every parameter.

    Raises:
        NamelessError, TypeError: a predicate asks for a name where there is none, or fails.
    """
    for words in unmatched(rule, params):
        warn(words)


def unmatched(rule: Rule, params: Iterable[tuple[str, Any]]) -> list[str]:
    """A sentence for every predicate of a rule that chooses none of the parameters."""
    found: dict[tuple[int, int], _Asked] = {}

    def ask(rule: Rule, path: str, shape: Any) -> None:
        choices, inside = rule.choices(path, shape)
        seen = parameter(path, shape)
        for at, (what, predicate, chosen) in enumerate(choices):
            new = _Asked(f"{rule.name}: {what}", predicate, [], [])
            asked = found.setdefault((id(rule), at), new)
            asked.seen.append(seen)
            asked.chosen.extend([seen] * chosen)
        for each in inside:
            ask(each, path, shape)

    for path, shape in params:
        ask(rule, path, tuple(shape))
    return [words for asked in found.values() for words in _said(asked)]


def _said(asked: _Asked) -> list[str]:
    what, predicate, seen, chosen = asked
    names = ", ".join(map(called, seen[:3])) + (", ..." if len(seen) > 3 else "")
    among = f"of the {len(seen)} parameters ({names})"
    if not chosen and any(map(predicate, seen)):
        before = "what it fits, an earlier predicate has taken"
        return [f"{what}, {described(predicate)}, takes none {among}; {before}"]
    if not chosen:
        return [f"{what}, {described(predicate)}, fits none {among}"]
    absent = [part for part in patterns(predicate) if not any(map(part, seen))]
    all_of_several = what.endswith(": mask") and len(chosen) == len(seen) > 1
    if all_of_several and not absent and _asks_for_names(predicate, seen[0]):
        return [f"{what}, {described(predicate)}, asks for names and excludes none {among}"]
    return [f"{what}: {part!r} in it fits none {among}" for part in absent]


def _asks_for_names(predicate: Predicate, about: Parameter) -> bool:
    """Whether a predicate reads a path."""
    try:
        predicate(parameter("", about.shape))
    except NamelessError:
        return True
    return False
