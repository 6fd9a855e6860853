"""State dicts that age: what wrote a group, and what the rule has had since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from samestep.arrays import listed
from samestep.declaration import Option
from samestep.kept import KEPT, alike
from samestep.quirks import RENAMED, updated
from samestep.rule import Rule
from samestep.version import __version__
from samestep.wrapper import Wrapper

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["RECORD", "completed", "unpickled", "written_by"]

RECORD = "written_by"
"""The entry of a saved group that says what wrote it. An optimizer's own groups have none."""
COMMON = {name for name, item in vars(Rule).items() if isinstance(item, Option)}
"""Options of every rule: a group that has them all is one of ours."""

Group = dict[str, Any]


def written_by(rule: Rule) -> dict[str, Any]:
    """The version of samestep, the version of each rule, and the names of its numbers."""
    versions = {own.name: type(own).version for own in _all(rule)}
    return {"samestep": __version__, "rules": versions, "fields": [*rule.hypers]}


def completed(optimizer: RuleOptimizer, group: Group, saved: Group) -> Group:
    """A saved group, with the defaults of what its version did not have yet.

    Raises:
        ValueError: another version or another rule has written it.
    """
    who, rule = optimizer.rule.name, optimizer._own(group)
    saved = _translated(optimizer, group, saved)
    found = saved.pop(RECORD, None)
    record: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    versions, fields = record.get("rules", {}), record.get("fields")
    by = f" It was written by samestep {record['samestep']}." if "samestep" in record else ""
    for own in _all(rule):
        there = versions.get(own.name, 1)
        if (not versions or own.name in versions) and there != type(own).version:
            raise ValueError(
                f"{who}: the state dict is of version {there} of {own.name}, which is at version "
                f"{type(own).version} here; the state means something else.{by}"
            )
    later = {*(fields or ())} & {*saved} - {*rule.hypers}
    if later:
        raise ValueError(f"{who}: there is no {listed(later)} here, as in the state dict.{by}")
    absent, known = {*rule.hypers} - {*saved}, rule.all_fields()
    if fields is not None:
        same = all(own.name in versions for own in _all(rule))
        added = absent - {*fields} if same else set()
    elif {*saved} >= COMMON:
        added = {name for name in absent if isinstance(known[name], Option)}
    else:
        added = set()
    if absent - added:
        where = next((f" for parameter {name!r}" for name, _ in optimizer._named(group)), "")
        raise ValueError(
            f"{who}: the state dict has no {listed(absent - added)}{where}; it is another "
            "optimizer's. samestep.torch.from_state_dict reads the state dicts of torch.optim, and "
            f"samestep.restore takes what it returns.{by}"
        )
    return saved | {name: known[name].default for name in sorted(added)}


def unpickled(optimizer: RuleOptimizer, groups: list[Group], records: list[Any]) -> list[Group]:
    """The groups of a pickled optimizer, with the defaults of what its version did not have yet.

    Args:
        optimizer: the optimizer, whose rule has been unpickled.
        groups: its groups.
        records: what has written each; empty where they were pickled before there were records.

    Raises:
        ValueError: another version of a rule has written them.
    """
    found = []
    for place, group in enumerate(groups):
        record = {RECORD: records[place]} if records else {}
        named = {n: group[n] for n in ("params", "param_names", "places", "branch") if n in group}
        usual = named | optimizer._own(group).hypers
        found.append(completed(optimizer, usual, group | record))
    return found


def _translated(optimizer: RuleOptimizer, group: Group, saved: Group) -> Group:
    """A saved group with quirks in place of the options that they once were.

    Raises:
        ValueError: it has other quirks than the optimizer.
    """
    rule: Any = optimizer._own(group)
    while isinstance(rule, Wrapper):
        rule = rule.rule
    options = {n for quirk in rule.quirks_known() if quirk.formerly for n in quirk.formerly[:1]}
    known = {name: saved[name] for name in {*options, "quirks"} & {*saved}}
    found = updated(rule.published(), known)
    theirs = tuple(found.pop("quirks", ()))
    if theirs != rule.quirks:
        raise ValueError(
            f"{optimizer.rule.name}: the state dict is that of a rule with the quirks "
            f"{listed(theirs)}, the optimizer has {listed(rule.quirks)}; options must be equal"
        )
    gone = {*known} - {*found}
    kept = {name: found.get(name, value) for name, value in saved.items() if name not in gone}
    for old, new in RENAMED.items():
        if old in kept and old not in group:
            kept[new] = kept.pop(old)
    for name in {*KEPT} & {*group}:
        if alike(name, kept.get(name), group[name]):
            kept[name] = group[name]
    return kept | ({"quirks": theirs} if theirs else {})


def _all(rule: Rule) -> Iterator[Rule]:
    """The rule and the rules inside."""
    yield rule
    for inside in rule.inside:
        yield from _all(inside)
