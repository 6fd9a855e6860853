"""Questions about arrays of any framework, and casts between their dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache
from operator import attrgetter
from typing import Any

import numpy

__all__ = [
    "cast",
    "cast_like",
    "compute_dtype",
    "differentiated",
    "dtype_name",
    "is_array",
    "is_narrow",
    "known",
    "library_of",
    "listed",
    "map_parts",
    "parts",
    "traced",
    "widest",
    "without_autocast",
]

Array = Any
LIBRARIES = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "mlx": "mlx", "numpy": "numpy"}
"""By the first name of a class's module."""


def is_array(value: Any) -> bool:
    """Whether ``value`` is a 0-d array of some framework (a traced learning rate, for example)."""
    return hasattr(value, "dtype") and getattr(value, "shape", None) == ()


@cache
def library_of(kind: type) -> str:
    """The library of an array by the modules of its classes, ``"jax"`` for jaxlib's."""
    roots = [base.__module__.partition(".")[0] for base in kind.__mro__]
    return next((LIBRARIES[root] for root in roots if root in LIBRARIES), roots[0])


def is_narrow(value: Any) -> bool:
    """Whether ``value`` is a 0-d array in which a number has two or three digits."""
    return is_array(value) and dtype_name(value.dtype) in ("bfloat16", "float16")


def known(value: Any) -> Any:
    """The number in a 0-d array whose value can be read; any other value unchanged.

    A value cannot be read while a framework traces or differentiates. It is not read from an
    accelerator of torch, where reading waits for the device and breaks the capture of a CUDA graph.
    One of few digits stays what it is, and is no number of a rule.
    """
    if not is_array(value) or is_narrow(value):
        return value
    away = getattr(getattr(value, "device", None), "type", "cpu") != "cpu"
    if away or differentiated(value):
        return value
    try:
        return value.item() if hasattr(value, "item") else numpy.asarray(value).item()
    except Exception:  # every framework has its own error for a value that is being traced
        return value


def differentiated(array: Any) -> bool:
    """Whether derivatives may be taken through an array: torch records it, or JAX traces it."""
    kind: Any = type(array)
    return traced(kind) or bool(getattr(array, "requires_grad", False))


@cache
def traced(kind: type) -> bool:
    """Whether arrays of a type are those of JAX while it traces."""
    return "Tracer" in map(attrgetter("__name__"), kind.__mro__)  # JAX


def dtype_name(dtype: Any) -> str:
    """Name of a dtype of any framework, such as ``"float32"``."""
    return str(dtype).rpartition(".")[2]


def compute_dtype(xp: Any, dtype: Any) -> Any:
    """The dtype of the arithmetic: float64 for float64, float32 for all narrower dtypes."""
    return xp.float64 if dtype == xp.float64 else xp.float32


def widest(xp: Any, params: Sequence[Array]) -> Any:
    """The widest compute dtype of several arrays."""
    return xp.float64 if any(p.dtype == xp.float64 for p in params) else xp.float32


def cast(xp: Any, value: Any, dtype: Any) -> Any:
    """An array in ``dtype``, or a tuple with every array in it; unchanged if it has that dtype."""
    if isinstance(value, (numpy.generic, tuple, list)):
        if isinstance(value, (tuple, list)):
            return tuple([cast(xp, part, dtype) for part in value])
        value = numpy.asarray(value)  # NumPy turns 0-d results into scalars
    return value if value.dtype == dtype else xp.astype(value, dtype)


def without_autocast(xp: Any, arrays: Iterable[Array]) -> ExitStack:
    """A context in which torch computes in the dtypes of arrays; others always do."""
    context = ExitStack()
    if hasattr(xp, "autocast"):
        for kind in {array.device.type for array in arrays}:
            if xp.amp.is_autocast_available(kind) and xp.is_autocast_enabled(kind):
                context.enter_context(xp.autocast(kind, enabled=False))
    return context


def cast_like(xp: Any, value: Any, like: Any) -> Any:
    """An array in the dtype of ``like``; of a tuple, each in the dtype of its counterpart."""
    if isinstance(like, (tuple, list)):
        return tuple([cast_like(xp, *pair) for pair in zip(value, like, strict=True)])
    return cast(xp, value, like.dtype)


def listed(names: Any) -> str:
    """Names in alphabetical order, separated by commas; ``none`` if there are none."""
    return ", ".join(sorted(map(str, names))) or "none"


def map_parts(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """``function(value, *others)``; of tuples, the tuple of ``function`` at every place."""
    if isinstance(value, (tuple, list)):
        return tuple(map_parts(function, *group) for group in zip(value, *others, strict=True))
    return function(value, *others)


def parts(value: Any) -> tuple[Any, ...]:
    """A slot's value, an array or a tuple of arrays, as a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
