"""Numbers of a parameter group under the names that torch.optim and others have for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from samestep.checkpoints.correspondence import About, Native
from samestep.rule import Rule

from .libraries import LIBRARIES

__all__ = ["refuse_foreign"]


def refuse_foreign(rule: Rule, group: Mapping[str, Any], ours: Collection[str]) -> None:
    """Raise for a number that a library reads in a group, if its value is not the rule's.

    Args:
        rule: the rule of the group.
        group: the group, with all of the rule's numbers.
        ours: the numbers of all rules that the parameters of the group have, in a route.

    Raises:
        TypeError: such a number; it has another name here.
    """
    rules = [rule]
    for one in rules:
        rules.extend(one.inside)
    for name in {*group} - {*ours}:
        for one in rules:
            for library in LIBRARIES.values():
                for native in library.table.values():
                    if one.name in (native.rule, *native.also):
                        _refuse_other(one, native, library.name, name, group)


def _refuse_other(
    rule: Rule, native: Native, library: str, name: str, group: Mapping[str, Any]
) -> None:
    ours = {**native.also.get(rule.name, {}), **group}
    constant = native.values(About({}))
    for field, value in native.values(About({name: group[name]})).items():
        if field not in constant and ours.get(field) != value:
            here = f"give it {field}={value!r}" if field in rule.fields() else f"use {native.rule}"
            raise TypeError(
                f"{rule.name}: a parameter group has {name!r}: {group[name]!r}, as in {library}; "
                f"{here}"
            )
