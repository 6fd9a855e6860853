"""Whether a library's optimizer takes the steps of a rule, with all of the rule's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

import numpy

from samestep import quirks
from samestep.arrays import is_array, listed
from samestep.declaration import Hyper
from samestep.kept import saying
from samestep.rule import Rule
from samestep.trial import alike, positions
from samestep.watched import plain

from .state import CheckpointError

__all__ = ["refuse_lost"]

LR = 0.3
"""A step size by which what it multiplies is told from what it does not multiply."""
CLOSE = 1e-12
"""The relative difference of steps in float64 that order of operations may make."""


def refuse_lost(who: str, ours: Rule, theirs: Rule, taken: Iterable[str]) -> None:
    """Raise if numbers of a rule get lost on the way to a library, or options that matter.

    Args:
        who: the optimizer of the library.
        ours: the rule.
        theirs: the rule that the library computes, with the numbers that it is given.
        taken: the names of these numbers.

    Raises:
        CheckpointError: a number that is not taken is another one, or the steps differ.
    """
    here, there = ours.hypers, theirs.hypers
    others = {n: here.get(n, ()) for n in {*here, *there}}
    others = {n: v for n, v in others.items() if not _equal(v, there.get(n, ()))}
    fields = ours.fields()
    left = [n for n in others if isinstance(fields.get(n), Hyper) and n not in taken]
    if not others or not (left or _differ(ours, theirs)):
        return
    lost = left or [n for n, v in others.items() if _differ(theirs, theirs.replace(**{n: v}))]
    names = sorted(lost or others)
    for does, instead in _quirks(ours, theirs) if "quirks" in names else ():
        raise CheckpointError(f"{ours!r} {does}, and {who} {instead}")
    raise CheckpointError(
        f"{ours!r}: {who} does not take {listed(names)}, and computes as with "
        f"{listed(f'{name}={there[name]!r}' for name in names)}"
    )


def _quirks(ours: Rule, theirs: Rule) -> Iterator[tuple[str, str]]:
    """Of each quirk that one of two rules has, what both do."""
    mine, others = ({*quirks.named(type(rule), rule.quirks)} for rule in (ours, theirs))
    for quirk in sorted(mine ^ others, key=attrgetter("name")):
        said = quirk.said(ours)
        yield said if quirk in mine else said[::-1]


def _equal(one: Any, other: Any) -> bool:
    known = one is other or not (is_array(one) or is_array(other))
    return known and bool(one == other)


def _differ(one: Rule, other: Rule) -> bool:
    shape = 8, 4
    with numpy.errstate(all="ignore"):
        here, there = (positions(saying(plain(rule), {"lr": LR}), [shape]) for rule in (one, other))
        return not alike(here, there, close=CLOSE)
