"""Native optimizer classes, one per registered rule, made when they are first used.

An adapter makes the class of one rule. This module finds the rules, gives the classes their
signatures and documentation, and serves them as attributes of the adapter's module. A rule that a
user defines is served like the package's own rules.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .documentation import described
from .rule import Rule, registry

__all__ = ["serve", "signature"]


def serve(
    module: str, make: Callable[[type[Rule]], Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A module's ``__getattr__`` and ``__dir__`` that serve one native class per rule.

    Args:
        module: name of the adapter's module.
        make: returns the native class of a rule class, or a function that makes native objects.
    """
    made: dict[type[Rule], Any] = {}

    def attribute(name: str) -> Any:
        rule = registry.get(name)
        if rule is None:
            raise AttributeError(
                f"module {module!r} has no attribute {name!r}; "
                f"the rules are {', '.join(sorted(registry))}"
            )
        if rule not in made:
            native = make(rule)
            native.__name__ = native.__qualname__ = name
            native.__module__ = module
            native.__doc__ = described(rule, native, vars(sys.modules[module])["bind"])
            if isinstance(native, type):
                _show_signature(native)
            made[rule] = native
        return made[rule]

    return attribute, lambda: sorted(registry)


def _show_signature(native: Any) -> None:
    """Show the signature instead of ``*args`` in the list of methods in ``help``."""
    initialiser = vars(native)["__init__"]
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = [first, *inspect.signature(native).parameters.values()]
    initialiser.__name__, initialiser.__signature__ = "__init__", inspect.Signature(shown)


def signature(
    rule: type[Rule], before: Sequence[str] = (), after: dict[str, Any] | None = None
) -> inspect.Signature:
    """The rule's signature, with more arguments ``before`` and more keywords ``after``."""
    kinds = inspect.Parameter
    return inspect.Signature(
        [
            *(kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in before),
            *rule.__signature__.parameters.values(),
            *(
                kinds(name, kinds.KEYWORD_ONLY, default=default)
                for name, default in (after or {}).items()
            ),
        ]
    )
