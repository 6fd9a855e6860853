"""What optimizers keep, under our names: as the correspondences of native optimizers have them.

Libraries call the mean of the gradient ``exp_avg``, ``mu``, ``m`` or ``_momentums``, and some keep
it with another sign, or divided by the weight that it has gathered. The tables that carry states
from library to library know that, and are asked here. For an optimizer that is in none of them the
names count that its rule has elsewhere, or that mean one thing everywhere.
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
    """Our slots from a native optimizer's state; missing slots are left out."""
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
    """A momentum that includes lr is another momentum than one that does not."""
    return "m with lr" if slot == "m" and lr_inside else slot


def names_by_rule(tables: Iterable[Table], rule: str, probe: Any) -> dict[str, str]:
    """Our slots by the names of others for them.

    Args:
        tables: the optimizers of libraries that call what they keep alike.
        rule: whose slots are meant; where no table has it, names that always mean the same.
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
    """A slot's array, or its arrays, ``v.0`` and ``v.1``."""
    if isinstance(value, (tuple, list)):
        for at, part in enumerate(value):
            yield f"{name}.{at}", numpy.array(part, dtype=numpy.float64)
    elif value is not None:
        yield name, numpy.array(value, dtype=numpy.float64)
