"""The numbers of a rule at one step: each schedule called with the step, and its value checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from .arrays import is_array, known
from .declaration import Hyper

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["blamed", "schedules", "values_at"]


def _elements(value: Any) -> tuple[Any, ...]:
    """The numbers of a hyperparameter, which is a number or a tuple of numbers."""
    return value if isinstance(value, tuple) else (value,)


def schedules(rule: Rule) -> tuple[str, ...]:
    """Names of the rule's own numbers that are schedules, in whole or in part."""
    return tuple(
        name
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and any(map(callable, _elements(rule._values.get(name))))
    )


def values_at(rule: Rule, names: tuple[str, ...], step: Any) -> dict[str, Any]:
    """The rule's own values after ``step`` steps, with a number for each schedule.

    Args:
        rule: the rule.
        names: the hyperparameters that are schedules.
        step: how many steps the rule has taken: a number, or a 0-d array.

    Raises:
        ValueError: a schedule gave a value that its hyperparameter does not allow.
    """
    values = dict(rule._values)
    for name in names:
        value, field = values[name], cast(Hyper, rule.fields()[name])
        now = tuple(
            known(part(rule.schedule_step(name, place, step))) if callable(part) else part
            for place, part in enumerate(_elements(value))
        )
        with blamed(step):
            given = now if isinstance(value, tuple) else now[0]
            values[name] = field.validated(rule.name, given, schedules=False)
    return values


@contextmanager
def blamed(step: Any) -> Iterator[None]:
    """Say in an error's message that a schedule gave the value, and at which step."""
    try:
        yield
    except ValueError as error:
        now = known(step)
        when = "a traced step" if is_array(now) else f"step {now}"
        raise ValueError(f"{error}; the schedule gave it for {when}") from None
