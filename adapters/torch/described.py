"""The numbers that a state dict's groups do not have: of schedules, a mask, or ``groups=``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samestep.arrays import listed
from samestep.checkpoints.description import describe, differing_numbers
from samestep.counts import standing
from samestep.names import unwrapped
from samestep.notice import warn
from samestep.rule import Rule

from .counting import calls_in

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["described", "warn_of_numbers"]

Group = dict[str, Any]


def described(optimizer: RuleOptimizer, group: Group) -> dict[str, Any]:
    """A group's entries for its record.

    ``last``: the last step of all. ``numbers``: pairs of a description and the names of its
    parameters, of rules whose numbers are not all in the group. There is none where a number can
    be read by waiting for a device only.
    """
    rule = optimizer._rule_of(group)
    found: dict[int, tuple[Any, list[str]]] = {}
    last = max(calls_in(optimizer) - 1, 0)
    try:
        for name, param in () if _is_plain(rule) else optimizer._named(group):
            own = rule.of(name, param.shape)
            if id(own) not in found:
                found[id(own)] = describe(standing(own, group), last), []
            found[id(own)][1].append(str(name))
    except TypeError:
        return {}
    return {"last": last, "numbers": [*found.values()]}


def _is_plain(rule: Rule) -> bool:
    """Whether a group has all numbers of the rule of each of its parameters."""
    groups = any(any(own.groups.arguments().values()) for own in (rule, *rule.inside))
    return rule.constant and not groups and all(map(_is_plain, rule.inside))


def warn_of_numbers(
    optimizer: RuleOptimizer, group: Group, loaded: Group, saved: Group, record: Any
) -> None:
    """Warn of numbers that a schedule, a mask or ``groups=`` has set on one side only.

    Args:
        optimizer: the optimizer.
        group: its group.
        loaded: the group after loading.
        saved: the group in the state dict.
        record: what wrote it; an earlier version did not describe numbers.
    """
    numbers = record.get("numbers") if isinstance(record, Mapping) else None
    rule = optimizer._rule_of(loaded)
    if numbers is None or (not numbers and _is_plain(rule)):
        return
    named = [*optimizer._named(group)]
    own = unwrapped([str(name) for name, _ in named])
    theirs = [(name, one) for one, names in numbers for name in names]
    of = dict(zip(unwrapped([name for name, _ in theirs]), (one for _, one in theirs), strict=True))
    plain = None if numbers else describe(optimizer._rule_of(saved))
    differing: dict[str, list[str]] = {}
    for (name, param), short in zip(named, own, strict=True):
        there = plain or of.get(short)
        if there is not None:
            here = standing(rule.of(name, param.shape), saved)
            for words in differing_numbers(here, there, record["last"]):
                differing.setdefault(words, []).append(str(name))
    for words, names in differing.items():
        of_them = "" if len(names) == len(named) else f" for {listed(names[:5])}"
        warn(
            f"{optimizer.rule.name}: a state dict loads no schedule, mask and groups=: {words} "
            f"(in the state dict){of_them}"
        )
