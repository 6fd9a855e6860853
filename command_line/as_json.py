"""A report as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["called", "plain", "text"]


def text(value: Any) -> str:
    """Values as JSON text; a number that is not finite becomes ``null``."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """A value in types that JSON has; any other object becomes its text in Python."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, (tuple, list)):
        return [*map(plain, value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else called(value)


def called(value: Any) -> str:
    """A value as Python writes it; a schedule that Python writes as an address is "a schedule"."""
    written = repr(value)
    return "a schedule" if callable(value) and " at 0x" in written else written
