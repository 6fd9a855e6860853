"""The entries of a parameter's state: one tensor each, of a slot of several arrays too.

Code that walks through the state of an optimizer, such as ``torch.distributed.checkpoint``, expects
a tensor in every entry. The arrays of a slot ``v`` are the entries ``v.0``, ``v.1`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["entries_of", "slots_in"]


def entries_of(slots: Mapping[Any, Any]) -> dict[Any, Any]:
    """The entries of slots; what is no tuple stays as it is."""
    found: dict[Any, Any] = {}
    for name, value in slots.items():
        if isinstance(name, str) and isinstance(value, (tuple, list)):
            found |= {f"{name}.{place}": part for place, part in enumerate(value)}
        else:
            found[name] = value
    return found


def slots_in(entries: Mapping[Any, Any]) -> dict[Any, Any]:
    """The slots, of several arrays as tuples; the inverse of ``entries_of``."""
    found: dict[Any, Any] = {}
    several: dict[str, dict[str, Any]] = {}
    for name, value in entries.items():
        slot, _, place = name.rpartition(".") if isinstance(name, str) else ("", "", "")
        if slot and place.isdecimal():
            found[slot] = several.setdefault(slot, {})
            several[slot][place] = value
        else:
            found[name] = value
    for slot, parts in several.items():
        places = [*map(str, range(len(parts)))]
        if {*places} == parts.keys():
            found[slot] = tuple(map(parts.__getitem__, places))
    return found
