"""Predicates that choose no parameter, such as a path that the model does not have.

A mask that asks for names and excludes no parameter has such a path too. A group or a route may
well be for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .conditions import described, patterns
from .groups import NamelessError, Parameter, Predicate, called, parameter
from .names import AROUND
from .notice import warn

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["unmatched", "warn_hidden", "warn_unmatched"]


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


def warn_hidden(rule: Rule, params: Iterable[tuple[str, Any]]) -> None:
    """Warn of every predicate that would fit a path without a ``module`` that may be DDP's."""
    for asked in _asked(rule, params):
        for words in _hidden(asked):
            warn(words)


def unmatched(rule: Rule, params: Iterable[tuple[str, Any]]) -> list[str]:
    """A sentence for every predicate of a rule that chooses none of the parameters."""
    return [words for asked in _asked(rule, params) for words in _said(asked)]


def _asked(rule: Rule, params: Iterable[tuple[str, Any]]) -> Iterable[_Asked]:
    """Every predicate of a rule with the parameters that it is asked about."""
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
    return found.values()


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


def _hidden(asked: _Asked) -> Iterable[str]:
    """A sentence for each part of a predicate, about the first parameter of which it holds."""
    what, predicate, seen, _ = asked
    wrapped = [(p, path) for p in seen if AROUND in (path := called(p)).split(".")]
    parts: list[Any] = patterns(predicate) or [predicate]
    for part in parts:
        for own, path in wrapped:
            bare = ".".join(name for name in path.split(".") if name != AROUND)
            with suppress(Exception):  # a function may know the paths that there are, and no other
                if part(parameter(bare, own.shape)) and not part(own):
                    yield (
                        f"{what}, {described(part)}, does not fit {path!r} and would fit {bare!r}. "
                        f"DDP's {AROUND!r} is left out where all names have it; give the names of "
                        f"the model inside (ddp.{AROUND}.named_parameters())"
                    )
                    break


def _asks_for_names(predicate: Predicate, about: Parameter) -> bool:
    """Whether a predicate reads a path."""
    try:
        predicate(parameter("", about.shape))
    except NamelessError:
        return True
    return False
