"""Results that are made once, whichever thread asks for them first."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import TypeVar

__all__ = ["once"]

Function = TypeVar("Function", bound=Callable[..., object])


def once(function: Function) -> Function:
    """A function whose result for some arguments is one object, also in several threads.

    ``functools.cache`` computes a result in every thread that asks for it before it is there. Two
    classes made so have one name and are not equal.
    """
    known, lock = cache(function), RLock()

    @wraps(function)
    def result(*args: object) -> object:
        with lock:
            return known(*args)

    return result  # type: ignore[return-value]
