"""The arguments of a function or class that makes an optimizer, and the rule of the same name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from samestep.routes import Route
from samestep.rule import Rule, registry

__all__ = ["declared", "parameters", "required", "rule_of", "takes_any"]


def parameters(target: Any) -> Iterator[inspect.Parameter]:
    """The parameters of a callable; none of an existing optimizer."""
    if not callable(target) or isinstance(target, Rule):
        return
    try:
        found = inspect.signature(target)
    except (TypeError, ValueError):
        return
    yield from found.parameters.values()


def declared(target: Any) -> dict[str, Any]:
    """Arguments and their defaults; ``...`` if there is no default."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        item.name: ... if item.default is item.empty else item.default
        for item in parameters(target)
        if item.kind in kinds and item.name != "params"
    }


def required(target: Any) -> list[str]:
    """Arguments that must be given."""
    return [name for name, default in declared(target).items() if default is ...]


def takes_any(target: Any) -> bool:
    """Whether a callable takes arbitrary keywords."""
    return any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters(target))


def rule_of(target: Any, name: str) -> type[Rule] | None:
    """The rule with the longest name that is in the subject's name."""
    kind = target if isinstance(target, type) else type(target)
    if issubclass(kind, Route):
        return None
    if issubclass(kind, Rule):
        bases = (base for base in kind.__mro__ if issubclass(base, Rule))
        known = [base for base in bases if registry.get(base.__name__) is base]
        name = kind.__name__
        if known:
            return known[0]
    own = re.sub(r"[^a-z0-9]", "", re.split(r"[.:]", name)[-1].lower())
    names = sorted(registry, key=len, reverse=True)
    return next((registry[rule] for rule in names if rule.lower() in own), None)
