"""The state of any optimizer under our names for slots.

Libraries call the mean of the gradient ``exp_avg``, ``mu``, ``m`` or ``_momentums``, and some keep
it with another sign or another scale. The tables that convert states between libraries know this.
An optimizer that is in no table uses the names that its rule has in other libraries, or names that
mean the same everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy

from samestep.checkpoints.correspondence import About, Kept, Native
from samestep.checkpoints.state import CheckpointError
from samestep.rule import registry

__all__ = ["apart", "called", "names_by_rule", "of_native"]

Table = Mapping[str, Native]


def of_native(native: Native, state: Mapping[str, Any], about: About) -> dict[str, Any]:
    """Our slots of a native optimizer's state; missing slots are left out."""
    inside = registry[native.rule](like=native.like).hypers.get("lr_at") == "inside"
    found = {}
    for name in native.slots:
        try:
            value = native.slot(name, state, about)
        except (CheckpointError, KeyError, ZeroDivisionError):
            continue
        if value is not None:
            found[called(name, inside)] = value
    return found


def called(slot: str, lr_inside: bool) -> str:
    """The name of a slot; a momentum that includes lr has a name of its own."""
    return "m with lr" if slot == "m" and lr_inside else slot


def names_by_rule(tables: Iterable[Table], rule: str, probe: Any) -> dict[str, str]:
    """Our slots by their names in other libraries.

    Args:
        tables: tables of native optimizers whose names for slots agree.
        rule: the rule of the optimizer; without it in any table, only unambiguous names are taken.
        probe: an array of one 1, of the kind that the tables convert.
    """
    every = [native for table in tables for native in table.values()]
    own = [native for native in every if native.rule == rule]
    meant: dict[str, set[str]] = defaultdict(set)
    for native in own or every:
        for ours, theirs in _names(native, probe):
            meant[theirs].add(ours)
    return {theirs: next(iter(ours)) for theirs, ours in meant.items() if len(ours) == 1}


def _names(native: Native, probe: Any) -> Iterator[tuple[str, str]]:
    about = About(defaultdict(float), "float32", 1)
    for ours, given in native.slots.items():
        if isinstance(given, Kept):
            try:
                converted = given.theirs(probe, about)
            except (TypeError, ValueError, AttributeError, LookupError):
                continue
            same = (name for name, value in converted.items() if float(value) == float(probe))
            yield from ((ours, name) for name in same)
        else:
            yield ours, given


def apart(name: str, value: Any) -> Iterator[tuple[str, numpy.ndarray]]:
    """The arrays of a slot by name; several are ``v.0``, ``v.1`` and so on."""
    if isinstance(value, (tuple, list)):
        for at, part in enumerate(value):
            yield f"{name}.{at}", numpy.array(part, dtype=numpy.float64)
    elif value is not None:
        yield name, numpy.array(value, dtype=numpy.float64)
