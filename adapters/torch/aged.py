"""State dicts that age: what wrote a group, and what the rule has had since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from samestep.arrays import listed
from samestep.declaration import Option
from samestep.kept import KEPT, PLAIN, alike, kept_by, roles, rule_of
from samestep.quirks import RENAMED, updated
from samestep.rule import Rule
from samestep.version import __version__
from samestep.wrapper import Wrapper

from .described import described

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["RECORD", "completed", "unpickled", "written_by"]

RECORD = "written_by"
"""The entry of a saved group that says what wrote it. An optimizer's own groups have none."""
COMMON = {name for name, item in vars(Rule).items() if isinstance(item, Option)}
"""Options of every rule: a group that has them all is one of ours."""

Group = dict[str, Any]


def written_by(optimizer: RuleOptimizer, group: Group) -> dict[str, Any]:
    """The origin of a group of a state dict.

    The version of samestep, the versions of the group's rules from the outermost inwards, the names
    of their numbers, the axes of parameters that are not kept as the rule sees them, and numbers
    that are not in the group.
    """
    rule = optimizer._rule_of(group)
    versions = {own.name: type(own).version for own in _all(rule)}
    own = {"rules": versions, "fields": [*rule.hypers], "kept": _kept(optimizer, group)}
    return {"samestep": __version__, **own, **described(optimizer, group)}


def _kept(optimizer: RuleOptimizer, group: Group) -> dict[str, str]:
    """A letter for each axis of the parameters of a group that have a layout or batch axes."""
    rule, found = optimizer._own(group), {}
    for name, param in optimizer._named(group) if rule.needs != "element" else ():
        try:
            own = rule_of(rule, name, param)
        except ValueError:  # to be asked about at the first step
            continue
        if kept_by(own, param.ndim) != PLAIN:
            found[str(name)] = roles(own, param.ndim)
    return found


def completed(optimizer: RuleOptimizer, group: Group, saved: Group) -> Group:
    """A saved group, with what its version did not have yet.

    An option then has its default, as it had when the state was computed. A number is the
    optimizer's.

    Raises:
        ValueError: another version or another rule has written it.
    """
    who, rule = optimizer.rule.name, optimizer._own(group)
    saved = _translated(optimizer, group, saved)
    found = saved.pop(RECORD, None)
    record: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    versions, fields = record.get("rules", {}), record.get("fields")
    by = f" It was written by samestep {record['samestep']}." if "samestep" in record else ""
    names = [own.name for own in _all(rule)]
    if versions and [*versions] != [*dict.fromkeys(names)]:
        raise ValueError(
            f"{who}: the state dict is that of {' around '.join(versions)}, the optimizer is "
            f"{' around '.join(names)}.{by}"
        )
    for own in _all(rule):
        there = versions.get(own.name, 1)
        if there != type(own).version:
            raise ValueError(
                f"{who}: the state dict is of version {there} of {own.name}, which is at version "
                f"{type(own).version} here; the state means something else.{by}"
            )
    later = {*(fields or ())} & {*saved} - {*rule.hypers}
    if later:
        raise ValueError(f"{who}: there is no {listed(later)} here, as in the state dict.{by}")
    absent, known = {*rule.hypers} - {*saved}, rule.all_fields()
    if fields is not None:
        added = absent - {*fields}
    elif {*saved} >= COMMON:
        added = {n for n in absent if isinstance(known[n], Option) or known[n].default is None}
    else:
        added = set()
    if absent - added:
        where = next((f" for parameter {name!r}" for name, _ in optimizer._named(group)), "")
        raise ValueError(
            f"{who}: the state dict has no {listed(absent - added)}{where}; it is another "
            "optimizer's. samestep.torch.from_state_dict reads the state dicts of torch.optim, and "
            f"samestep.restore takes what it returns.{by}"
        )
    if "kept" in record:
        _check_axes(optimizer, group, saved, record["kept"])
    return saved | {
        n: known[n].default if isinstance(known[n], Option) else group[n] for n in sorted(added)
    }


def _check_axes(optimizer: RuleOptimizer, group: Group, saved: Group, kept: Any) -> None:
    """Refuse the state of a parameter that is kept in another way, whose shapes may be equal.

    Parameters are found by name if both sides have names, else by place.
    """
    names = [str(name) for name, _ in optimizer._named(group)]
    theirs = saved.get("param_names", saved.get("places", optimizer._places(group)))
    theirs = names if {*group} & {*saved} >= {"param_names"} else map(str, theirs)
    ours, seen = _kept(optimizer, group), "the rule sees it"
    for name, there in zip(names, theirs, strict=True):
        own, other = ours.get(name, seen), kept.get(there, seen)
        if own != other:
            raise ValueError(
                f"{optimizer.rule.name}: {name!r} is kept as {other} in the state dict, and as "
                f"{own} here (o: outputs, i: inputs, b: batch); axes must be equal"
            )


def unpickled(optimizer: RuleOptimizer, groups: list[Group], records: list[Any]) -> list[Group]:
    """The groups of a pickled optimizer, each ``completed``.

    Options that its version did not have yet have their defaults, and such numbers are those of the
    unpickled rule.

    Args:
        optimizer: the optimizer, whose rule has been unpickled.
        groups: its groups.
        records: what has written each; empty where they were pickled before there were records.

    Raises:
        ValueError: another version of a rule, or a rule with other quirks, has written them.
    """
    found = []
    for place, group in enumerate(groups):
        record = {RECORD: records[place]} if records else {}
        named = {n: group[n] for n in ("params", "param_names", "branch") if n in group}
        usual = named | {"places": [*optimizer._places(group)]} | optimizer._own(group).hypers
        found.append(completed(optimizer, usual, group | record))
    return found


def _translated(optimizer: RuleOptimizer, group: Group, saved: Group) -> Group:
    """A saved group in the terms of today.

    Quirks are in place of the options that they once were, numbers have the names that they have
    now, and what means the same way of keeping parameters is in our word for it.

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
        if alike(name, kept, group[name]):
            kept[name] = group[name]
    return kept | ({"quirks": theirs} if theirs else {})


def _all(rule: Rule) -> Iterator[Rule]:
    """The rule and the rules inside."""
    yield rule
    for inside in rule.inside:
        yield from _all(inside)
