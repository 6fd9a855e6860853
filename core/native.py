"""Native optimizer classes, one per registered rule, made when they are first used.

An adapter says what it binds a rule with, and what its classes take in addition to the rule's own
arguments. This module finds the rules, makes the classes with their signatures and documentation,
and serves them as attributes of the adapter's module. A rule that a user defines is served like the
package's own rules.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .documentation import described
from .once import once
from .rule import Rule, registry
from .spelling import did_you_mean

__all__ = ["serve", "signature"]


def _ruled(rule: type[Rule], /, *args: Any, **kwargs: Any) -> Rule:
    return rule(*args, **kwargs)


def serve(
    module: str,
    base: Callable[..., Any],
    *,
    before: Sequence[str] = (),
    keywords: Mapping[str, Any],
    ruled: Callable[..., Rule] = _ruled,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A module's ``__getattr__`` and ``__dir__`` that serve one native class per rule.

    Args:
        module: name of the adapter's module.
        base: binds a rule object: a class, which native classes inherit from, or a function, which
            makes them functions. It is called with the rule, ``before`` and ``keywords``.
        before: arguments that come before the rule's own.
        keywords: arguments that are given by keyword only, and their defaults.
        ruled: makes the rule object from the rule's class and its own arguments.
    """

    def listing() -> list[str]:
        return sorted({*registry, *vars(sys.modules[module])["__all__"]})

    def attribute(name: str) -> Any:
        rule = registry.get(name)
        if rule is None:
            raise AttributeError(
                f"module {module!r} has no attribute {name!r}; the rules are "
                f"{', '.join(sorted(registry))}{did_you_mean(name, listing())}"
            )
        return native(rule)

    @once
    def native(rule: type[Rule]) -> Any:
        made = _native(rule, base, before, keywords, ruled)
        made.__name__ = made.__qualname__ = rule.__name__
        made.__module__ = module
        made.__doc__ = described(rule, made, vars(sys.modules[module])["bind"])
        if isinstance(made, type):
            _show_signature(made)
        return made

    return attribute, listing


def _native(
    rule: type[Rule],
    base: Any,
    before: Sequence[str],
    keywords: Mapping[str, Any],
    ruled: Callable[..., Rule],
) -> Any:
    """The class of one rule, or the function."""

    def given(args: Any, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        own = {name: kwargs.pop(name) for name in (*before, *keywords) if name in kwargs}
        count = len(before)
        return [ruled(rule, *args[count:], **kwargs), *args[:count]], own

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        first, own = given(args, kwargs)
        base.__init__(self, *first, **own)

    def made(*args: Any, **kwargs: Any) -> Any:
        first, own = given(args, kwargs)
        return base(*first, **own)

    init.__qualname__ = rule.__name__
    members = {"__init__": init, "__signature__": signature(rule, before, keywords)}
    if isinstance(base, type):
        return type(rule.__name__, (base,), members)
    vars(made)["__signature__"] = members["__signature__"]
    return made


def _show_signature(native: Any) -> None:
    """Show the signature instead of ``*args`` in the list of methods in ``help``."""
    initialiser = vars(native)["__init__"]
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = [first, *inspect.signature(native).parameters.values()]
    initialiser.__name__, initialiser.__signature__ = "__init__", inspect.Signature(shown)


def signature(
    rule: type[Rule], before: Sequence[str] = (), after: Mapping[str, Any] | None = None
) -> inspect.Signature:
    """The rule's signature, with more arguments ``before`` and more keywords ``after``."""
    kinds = inspect.Parameter
    more = (after or {}).items()
    return inspect.Signature(
        [
            *(kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in before),
            *rule.__signature__.parameters.values(),
            *(kinds(name, kinds.KEYWORD_ONLY, default=default) for name, default in more),
        ]
    )
