"""Numbers that JSON lacks: infinities and NaN in plain data, written and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["decoded", "encoded"]


def _named(number: float) -> Any:
    return {"number": str(number)}


def encoded(value: Any, instead: Callable[[float], Any] = _named) -> Any:
    """Plain data in which every infinity and NaN is replaced by ``instead`` of it.

    Args:
        value: numbers, text, truth values and ``None``, in dicts, lists and tuples. Any other value
            stays as it is.
        instead: by default ``{"number": "inf"}`` and the like, which ``decoded`` reads.

    Returns:
        The same data; tuples have become lists, and keys text.
    """
    if isinstance(value, Mapping):
        return {str(name): encoded(part, instead) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(part, instead) for part in value]
    return instead(value) if isinstance(value, float) and not math.isfinite(value) else value


def decoded(value: Any) -> Any:
    """A number, or a tuple of numbers, from what ``encoded`` has made of it."""
    if isinstance(value, list):
        return tuple(map(decoded, value))
    if isinstance(value, dict) and "number" in value:
        return float(value["number"])
    return value
