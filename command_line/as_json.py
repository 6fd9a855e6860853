"""A report as JSON."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from samestep.nonfinite import encoded

__all__ = ["called", "text"]

_plain = partial(encoded, instead=lambda number: None)


def text(value: Any) -> str:
    """Values as JSON text; an infinity or NaN becomes ``null``."""
    return json.dumps(_plain(value), indent=2, allow_nan=False, default=_other)


def _other(value: Any) -> Any:
    """A value of a type that JSON does not have."""
    if is_dataclass(value):
        return _plain({each.name: getattr(value, each.name) for each in fields(value)})
    return called(value)


def called(value: Any) -> str:
    """A value as Python writes it; a schedule that Python writes as an address is "a schedule"."""
    written = repr(value)
    return "a schedule" if callable(value) and " at 0x" in written else written
