"""The ways of executing a step, by name.

reference   the rule on one parameter after another
packed      small parameters gathered into one vector, large ones cut into pieces
compiled    packed, and through the framework's compiler: one kernel per rule and dtype
auto        the adapter's choice, which it logs once
"""

from __future__ import annotations

import logging
from typing import Literal, get_args

from .proof import prove
from .rule import Rule

__all__ = ["EXECUTIONS", "FAILED", "Execution", "checked", "say", "say_failed"]

Execution = Literal["auto", "reference", "packed", "compiled"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)

_log = logging.getLogger("samestep")


def checked(rule: Rule, execution: Execution) -> Execution:
    """Return ``execution`` if a native optimizer can be made of it and of ``rule``.

    Raises:
        TypeError: ``rule`` is not a rule, or its class is not what it declares.
        ValueError: there is no such execution, or the class is not what it declares.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
    if execution not in EXECUTIONS:
        raise ValueError(
            f"{rule.name}(execution={execution!r}): execution must be one of "
            + ", ".join(map(repr, EXECUTIONS))
        )
    prove(rule)
    return execution


def say(rule: str, execution: str, reason: str) -> None:
    """Log the choice of ``auto`` and its reason, to the logger ``samestep``."""
    _log.info("%s: execution='auto' is %r here: %s", rule, execution, reason)


FAILED = "%s: the compiler failed, and the rule is executed as with execution=%r: %s"
"""The warning of a compiler that fails, by which the suite knows it."""


def say_failed(rule: str, execution: str, error: Exception) -> None:
    """Log that a compiler failed, and how the rule is executed instead."""
    _log.warning(FAILED, rule, execution, f"{type(error).__name__}: {error}".splitlines()[0])
