"""A comparison as JSON, for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from samestep.parity import Comparison, Subject

from .account import Account, shown

__all__ = ["SCHEMA", "as_json", "plain"]

SCHEMA = 1
"""Raised when a key changes its meaning or goes."""


def as_json(account: Account) -> str:
    """Everything that the text says, and the curves; what is not finite is null."""
    return json.dumps(plain(account), indent=2, allow_nan=False)


def plain(account: Account) -> dict[str, Any]:
    """The same as values that JSON has."""
    found = account.found
    return {
        "schema": SCHEMA,
        **_compared(found),
        "headline": " ".join((" and ".join(account.names), account.headline)),
        "explained": found.explained,
        "reasons": [_values(vars(reason)) for reason in found.reasons],
        "reproduced": account.reproduced,
        "narrow": None if found.narrow is None else _compared(found.narrow),
        "rule": None if found.rule is None else found.rule.__name__,
        "shared": _values(found.shared),
        "own": {name: list(map(_value, values)) for name, values in found.own.items()},
        "left_out": found.left_out,
        "environment": account.environment,
        "command": account.line,
    }


def _compared(found: Comparison) -> dict[str, Any]:
    curves: dict[str, dict[str, list[Any]]] = {}
    for (slot, path), values in found.divergence.curves.items():
        curves.setdefault(slot, {})[path] = [_value(value) for value in values]
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "verdict": found.verdict,
        "sentences": found.sentences,
        "first": None if found.first is None else list(found.first),
        "distance": _value(found.distance),
        "bound": found.bound,
        "bounds": found.bounds,
        "ulp": _value(max(found.ulps)),
        "dtype": found.dtype,
        "steps": found.steps,
        "growth": [_value(value) for value in found.growth],
        "growth_ulp": [_value(value) for value in found.ulps],
        "by_parameter": _values(found.by_parameter),
        "curves": curves,
    }


def _side(one: Subject) -> dict[str, Any]:
    return {"name": one.name, "package": one.package, "arguments": _values(one.arguments)}


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in values.items()}


def _value(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _value(item) for name, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else shown(value)
