"""What processes say that do not step the same, in words that are the same in all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["differing", "numbers_of"]

Said = tuple[str | None, tuple[str, ...], tuple[str, ...]]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def differing(who: str, said: Sequence[Said]) -> str:
    """Why processes do not go on.

    Args:
        who: the rule.
        said: what each process says: its error, each parameter that it steps, and the numbers with
            which it does.
    """
    for rank, (error, *_) in enumerate(said):
        if error is not None:
            return f"{who}: process {rank} of {len(said)} cannot take the step: {error}"
    if any(params != said[0][1] for _, params, _ in said):
        found = _apart([params for _, params, _ in said]) or "the same ones in another order"
        return (
            f"{who}: {len(said)} processes step different parameters: {found}. The sums of a step "
            "are over the parameters that have a gradient: give one to all processes, of zeros "
            "where there is none, or to no process"
        )
    found = _apart([numbers for *_, numbers in said]) or "the same ones in another order"
    return (
        f"{who}: {len(said)} processes step with different numbers: {found}. Give all processes "
        "the same rules, numbers and state"
    )


def _apart(said: Sequence[tuple[str, ...]]) -> str:
    """What not all processes say, and who says it."""
    words = []
    for one in dict.fromkeys(one for each in said for one in each):
        ranks = [str(rank) for rank, each in enumerate(said) if one in each]
        if len(ranks) < len(said):
            words.append(f"{one} in {', '.join(ranks)} only")
    return "; ".join(words[:5])


def numbers_of(rule: Rule, step: Any = None) -> tuple[str, ...]:
    """A rule's kind and numbers in words, which are the same in all processes.

    Args:
        rule: the rule; an array among its numbers, which may be on a device, is not read.
        step: the number of calls so far, for the values of schedules, where it is known.
    """
    if step is not None and not rule.constant:
        rule = rule.at(step)
    return tuple(_ADDRESS.sub("", words) for words in _words(rule))


def _words(rule: Rule) -> Iterator[str]:
    yield repr(rule.bare)
    for name, value in ({} if rule.has_arrays else rule.hypers).items():
        yield f"{name} = {value!r}"
    for own in (rule, *rule.inside):
        for name, value in own.groups.arguments().items():
            if value:
                yield f"{name} = {value!r}"
