"""The arguments of schedules: which values they may have, and how they are kept."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy

__all__ = ["DECAY", "KINDS", "NOT_NEGATIVE", "STEPS", "Kind", "is_number", "kept", "refuse"]

Kind = tuple[str, type, Callable[[Any], bool]]
"""The values that an argument may have, in words; the type it is kept in; the range."""

NUMBER: Kind = ("a finite number", float, math.isfinite)
POSITIVE: Kind = ("a finite number > 0", float, lambda value: 0 < value < math.inf)
NOT_NEGATIVE: Kind = ("a finite number >= 0", float, lambda value: 0 <= value < math.inf)
DECAY: Kind = ("a number in [0, 1)", float, lambda value: 0 <= value < 1)
STEPS: Kind = ("a whole number of steps > 0", int, lambda value: 0 < value < math.inf)
SOME_STEPS: Kind = ("a whole number of steps >= 0", int, lambda value: 0 <= value < math.inf)
FLAG: Kind = ("True or False", bool, lambda value: True)
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("value", "start", "end", "peak"), NUMBER),
    **dict.fromkeys(("decay_rate", "power", "factor"), POSITIVE),
    "rise": ("a number in (0, 1)", float, lambda value: 0 < value < 1),
    **dict.fromkeys(("steps", "warmup_steps"), SOME_STEPS),
    **dict.fromkeys(("staircase", "inclusive"), FLAG),
    "decay_steps": STEPS,
    "values": ("a sequence of finite numbers", *NUMBER[1:]),
    "boundaries": (
        "a sequence of whole numbers of steps >= 0, each larger than the one before",
        *SOME_STEPS[1:],
    ),
}
"""The kind of each argument, or of its elements, by its name."""


def refuse(who: str, name: str, value: Any, wanted: str, fits: bool) -> None:
    """Raise ``ValueError`` unless the value fits."""
    if not fits:
        raise ValueError(f"{who}({name}={value!r}): {name} must be {wanted}")


def kept(who: str, name: str, value: Any, kind: Kind) -> Any:
    """The argument as a bool, a number or a tuple of numbers; raises if it is of another kind."""
    words, number, inside = kind
    several = isinstance(value, (tuple, list))
    items = tuple(value) if several else (value,)
    fits = several == words.startswith("a sequence") and all(
        isinstance(item, bool) if number is bool else is_number(item) and inside(item)
        for item in items
    )
    if fits and number is int:
        fits = all(item % 1 == 0 for item in items) and all(a < b for a, b in pairwise(items))
    refuse(who, name, value, words, fits)
    parts: tuple[Any, ...] = tuple(map(number, items))
    return parts if several else parts[0]


def is_number(value: Any) -> bool:
    """Whether the value is a number of Python or NumPy, and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, numpy.bool_))
