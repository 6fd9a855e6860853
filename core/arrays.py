"""What the core asks of arrays of any framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

__all__ = ["cast", "cast_like", "dtype_name", "is_array", "known", "listed", "map_parts", "parts"]

Array = Any


def is_array(value: Any) -> bool:
    """Whether ``value`` is a 0-d array of some framework (a traced learning rate, for example)."""
    return hasattr(value, "dtype") and getattr(value, "shape", None) == ()


def known(value: Any) -> Any:
    """The number in a 0-d array if it is at hand; the array itself if not; all else as it is.

    It is not at hand while a framework traces or differentiates, nor on an accelerator of torch,
    where reading it would wait for the device, and break a CUDA graph that is being captured.
    """
    if not is_array(value):
        return value
    away = getattr(getattr(value, "device", None), "type", "cpu") != "cpu"
    traced = any(base.__name__ == "Tracer" for base in type(value).__mro__)  # JAX
    if away or traced or getattr(value, "requires_grad", False):
        return value
    try:
        return value.item() if hasattr(value, "item") else numpy.asarray(value).item()
    except Exception:  # every framework has its own error for a value that is being traced
        return value


def dtype_name(dtype: Any) -> str:
    """Name of a dtype of any framework, such as ``"float32"``."""
    return str(dtype).rpartition(".")[2]


def cast(xp: Any, value: Any, dtype: Any) -> Any:
    """An array, or every one of a tuple, in that dtype."""

    def one(array: Any) -> Any:
        if isinstance(array, numpy.generic):  # NumPy turns 0-d results into scalars
            array = numpy.asarray(array)
        return array if array.dtype == dtype else xp.astype(array, dtype)

    return map_parts(one, value)


def cast_like(xp: Any, value: Any, like: Any) -> Any:
    """An array, or every one of a tuple, in the dtype of what stands in its place in ``like``."""
    return map_parts(lambda old, new: cast(xp, new, old.dtype), like, value)


def listed(names: Any) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(map(str, names))) or "none"


def map_parts(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """``function`` of an array, or of every one of a tuple; with what stands in its place."""
    if isinstance(value, (tuple, list)):
        return tuple(map_parts(function, *group) for group in zip(value, *others, strict=True))
    return function(value, *others)


def parts(value: Any) -> tuple[Any, ...]:
    """The arrays of a slot's value, which is one or a tuple of them."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
