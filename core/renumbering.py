"""A rule with another number, as a schedule of its framework gives one in every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import weight_decay as decay_families

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["at_rate", "renumbered"]

KEPT = (
    *("bare", "needs", "min_ndim", "phases", "reduces", "sees_axes", "fixed_slots", "withholds"),
    *("constant", "has_arrays", "_schedules", "_switched_on", "_ways"),
)
"""What a rule has found out about itself that no number changes, if it stays one and not 0."""


def renumbered(rule: Rule, changes: Mapping[str, Any]) -> Rule | None:
    """The rule as ``replace`` makes it of other floats; ``None`` where more than these may change.

    Only the numbers are validated, since everything else is as it was.
    """
    own = {name: value for name, value in changes.items() if name in rule._hypers}
    inside = rule.inside
    if len(own) < len(changes):
        below = {name: value for name, value in changes.items() if name not in own}
        (inner,) = inside if len(inside) == 1 and rule._through else (None,)
        found = None if inner is None else renumbered(inner, below)
        if found is None:
            return None
        inside = (found,)
    if rule.groups.groups or not all(_stays(rule._values[n], v) for n, v in own.items()):
        return None
    valid = {name: rule._hypers[name].validated(rule.name, value) for name, value in own.items()}
    made: Rule = object.__new__(type(rule))
    known = vars(rule)
    vars(made).update({name: known[name] for name in (*rule._carried, *KEPT) if name in known})
    made._store({**rule._values, **valid}, inside, rule.groups)
    made._refuse_combinations()
    decay_families.refuse_peakless(made)
    return made


def at_rate(rule: Rule, lr: Any) -> Rule:
    """The rule with a learning rate that its schedule gave, and still with the largest of it."""
    if rule.hypers["lr"] is lr:
        return rule
    of_peak = rule.hypers.get("decay") in decay_families.OF_PEAK
    changes = {"lr": lr, **({"peak_lr": decay_families.peak_of(rule.hypers)} if of_peak else {})}
    return renumbered(rule, changes) or rule.replace(**changes)


def _stays(before: Any, after: Any) -> bool:
    """Whether both are floats, and both 0 or neither: slots may be there for one of them only."""
    return type(before) is float and type(after) is float and (not before) is (not after)
