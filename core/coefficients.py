"""The coefficients of a step: what depends on hyperparameters and counts only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as host

from .arrays import cast, is_array
from .counts import Counts, advanced, counts_of, withheld

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["Record", "scalars"]

PYTHON = (float, int, bool)
"""The types of numbers that coefficients known on the host have."""


class Record:
    """A dict read by attribute: the ``state`` and the ``s`` of a rule's arithmetic."""

    def __init__(self, values: Mapping[str, Any], param: Any = None) -> None:
        own = vars(self)
        own.update(values)
        for name, value in values.items():
            if type(value) is dict:
                own[name] = Record(value)

    def __getattr__(self, name: str) -> Any:
        there = ", ".join(vars(self)) or "none"
        raise AttributeError(f"there is no {name} here; there are {there}")

    def __setattr__(self, name: str, value: Any) -> None:
        words = "cannot be set here, where other parameters read it; return new slots"
        raise AttributeError(f"{name} {words}")


def _settled(value: Any) -> Any:
    """Host results as plain Python numbers, in dicts and tuples too."""
    if isinstance(value, dict):
        found = {}
        for name, item in value.items():  # most are plain already, and need no call
            found[name] = item if type(item) in PYTHON else _settled(item)
        return found
    if isinstance(value, tuple):
        for item in value:
            if type(item) not in PYTHON:
                return tuple(map(_settled, value))
        return value
    return value.item() if isinstance(value, (host.generic, host.ndarray)) else value


def _of_dtype(xp: Any, value: Any, dtype: Any) -> Any:
    """Traced results with arrays in the compute dtype; plain numbers are unchanged."""
    if isinstance(value, dict):
        return {k: _of_dtype(xp, v, dtype) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_of_dtype(xp, v, dtype) for v in value)
    if isinstance(value, host.generic) or not is_array(value):
        return _settled(value)
    return value if xp.isdtype(value.dtype, "bool") else cast(xp, value, dtype)


def scalars(
    rule: Rule,
    xp: Any,
    step: Any,
    dtype: Any,
    common: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The coefficients of the step after ``step``: they depend on hyperparameters and counts only.

    Args:
        rule: the rule.
        xp: namespace of the arrays of the step.
        step: the number of steps taken: an int, a 0-d integer array when traced, or ``Counts``.
        dtype: compute dtype of the arrays and of traced scalars.
        common: the shared state before the step; a rule that withholds steps counts them there.

    Returns:
        Python numbers computed in float64 if all is known on the host, else 0-d arrays.
    """
    if rule.withholds or isinstance(step, Counts):
        now, step, on_host = _counted(rule, xp, counts_of(step), dtype, common or {})
    else:
        now, on_host = rule if rule.constant else rule.at(step), isinstance(step, int)
    if on_host and not now.has_arrays:
        with host.errstate(all="ignore"):
            settled: dict[str, Any] = _settled(now.coefficients(host, step + 1))
        return settled
    t = step + 1 if isinstance(step, int) else xp.astype(advanced(step), dtype)
    now = now.map_numbers(lambda value: _of_dtype(xp, value, dtype))
    traced: dict[str, Any] = _of_dtype(xp, now.coefficients(xp, t), dtype)
    return traced


def _counted(
    rule: Rule, xp: Any, counts: Counts, dtype: Any, common: Mapping[str, Any]
) -> tuple[Rule, Any, bool]:
    """The rule as it is after these counts, the parameter's updates, and if all are known."""
    own = withheld(xp, rule, common, counts.calls, most=counts.calls)
    now = rule if rule.constant else rule.withholding(own).at(counts.calls)
    own |= {name: own[name] - count for name, count in counts.missed if name in own}
    own = {name: _of_dtype(xp, count, dtype) for name, count in own.items()}
    on_host = isinstance(counts.updates, int) and not any(map(is_array, own.values()))
    return now.withholding(own) if own else now, counts.updates, on_host
