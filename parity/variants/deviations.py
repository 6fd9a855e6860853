"""The deviations of a rule: quirks of libraries, and common mistakes.

They replace parts that every rule has (see ``samestep.quirks``), so they need not know the rule.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from samestep.quirks import Quirk
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .averages import of_averages
from .corrections import of_corrections, of_eps
from .descents import of_ratios, of_steps
from .deviation import Deviation
from .matrices import of_matrices
from .mistaken_numbers import of_numbers
from .wrappers import of_wrappers

__all__ = ["deviations"]

KINDS = (of_numbers, of_averages, of_corrections, of_ratios, of_eps, of_steps, of_matrices)


def deviations(rule: type[Rule]) -> tuple[Deviation, ...]:
    """The deviations of a rule; those that explain exactly come first."""
    known: Any = rule
    return _deviations(known)


def _known(quirk: Quirk) -> Deviation:
    """A library's quirk as a deviation."""
    return Deviation(quirk.name, quirk.says, quirk.instead, quirk.methods, quirk.rules)


@cache
def _deviations(rule: Any) -> tuple[Deviation, ...]:
    if issubclass(rule, Wrapper):
        return (*of_numbers(rule), *of_wrappers(rule))
    if isinstance(rule.needs, property):  # a route
        return ()
    found = [deviation for kind in KINDS for deviation in kind(rule)]
    found = [*map(_known, rule.quirks_known()), *found]
    found.sort(key=lambda deviation: deviation.loose)
    return tuple({deviation.name: deviation for deviation in found}.values())
