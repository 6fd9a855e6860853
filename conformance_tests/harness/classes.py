"""Native optimizers of a rule, by the classes and functions that an adapter serves."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import samestep
from samestep.rule import Rule
from samestep.wrapper import Wrapper

from .settings import as_seen, typical

__all__ = ["arguments", "build", "made"]


def build(name: str, **hypers: Any) -> Rule:
    """The rule of that name with everything on that is off by default.

    ``hypers`` change the rule; of a wrapper, which acts at every second step where it has a period,
    they change the AdamW inside.
    """
    cls: type[Rule] = getattr(samestep, name)
    if issubclass(cls, Wrapper):
        own = as_seen(cls) | ({"sync_period": 2} if "sync_period" in cls.fields() else {})
        return cls(samestep.AdamW(weight_decay=0.1, **hypers), **own)
    return typical(cls, **{"weight_decay": 0.1, **hypers})


def made(adapter: ModuleType, rule: Rule, *params: Any, **options: Any) -> Any:
    """The native object of a rule, made by the adapter's class or function of its name."""
    return getattr(adapter, rule.name)(*params, **{**arguments(rule), **options})


def arguments(rule: Rule) -> dict[str, Any]:
    """The arguments with which the native class makes this rule."""
    values = {name: value for name, value in rule.hypers.items() if name in type(rule).fields()}
    return values | ({"rule": rule.rule} if isinstance(rule, Wrapper) else {})
