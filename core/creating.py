"""Rules by name, as a configuration has them: ``create("adamw", lr=3e-4, no_decay="*bias")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Any

from .conditions import Where
from .groups import Predicate
from .rule import Rule, registry
from .spelling import unknown

__all__ = ["Names", "called", "create", "decaying"]

Names = Predicate | Sequence[str] | str | None


def create(name: str, *, no_decay: Names = None, **numbers: Any) -> Rule:
    """The rule of a name, with its numbers; of a native optimizer see ``create`` of its framework.

    Args:
        name: the name of a rule, such as ``"adamw"`` or ``"schedule_free_adamw"``. Capitals,
            hyphens and underscores make no difference.
        no_decay: patterns of the paths of parameters that do not decay, such as
            ``("*bias", "*norm*")``, or a predicate, such as ``Where(max_ndim=1)``.
        numbers: as for the class: hyperparameters, options, ``like``, ``groups``.

    Raises:
        ValueError: there is no such rule; the message has the names that are similar.
        TypeError: ``no_decay`` has no patterns or predicates; ``mask`` is given beside it.
    """
    return registry[called(name)](**decaying(no_decay, numbers))


def called(name: str, module: str = "") -> Any:
    """The name of a rule as its class has it, or its class in an adapter's module."""
    known = {_plain(rule): rule for rule in registry}
    if not isinstance(name, str) or _plain(name) not in known:
        raise ValueError(unknown("rule", name, sorted(registry, key=str.casefold)))
    found = known[_plain(name)]
    return getattr(import_module(module), found) if module else found


def decaying(no_decay: Names, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a class, with the mask of the parameters that decay."""
    if no_decay is None:
        return {**numbers}
    if numbers.get("mask") is not None:
        raise TypeError("create(no_decay=..., mask=...): give one of them, mask has what decays")
    given: Any = no_decay
    patterns = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(each, str) or callable(each) for each in patterns):
        raise TypeError(
            f"create(no_decay={given!r}): no_decay must be a pattern of paths, such as '*bias', "
            "a predicate, such as Where(max_ndim=1), or a list of these"
        )
    if not patterns:
        return {**numbers}
    left = [Where() & each if callable(each) else Where(path=each) for each in patterns]
    return {**numbers, "mask": ~reduce(or_, left)}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
