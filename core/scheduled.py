"""The numbers of a rule at one step: each schedule called with the step, and its value checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from .arrays import is_array, known
from .declaration import Hyper
from .weight_decay import OF_PEAK, peak_of

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["blamed", "schedules", "values_at"]

SAID = (ArithmeticError, ZeroDivisionError, IndexError, KeyError, TypeError, ValueError)
"""Errors whose message is all that they are; others have a note."""


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
        TypeError: a schedule does not take the step.
    """
    values = dict(rule._values)
    for name in names:
        value, field = values[name], cast(Hyper, rule.fields()[name])
        now = tuple(
            _called(rule, name, field, part, rule.schedule_step(name, place, step))
            if callable(part)
            else part
            for place, part in enumerate(_elements(value))
        )
        with blamed(step):
            given = now if isinstance(value, tuple) else now[0]
            values[name] = field.validated(rule.name, given, schedules=False)
    if values.get("decay") in OF_PEAK:
        values["peak_lr"] = peak_of(rule._values)
    return values


def _called(rule: Rule, name: str, field: Hyper, schedule: Any, step: Any) -> Any:
    """The number of a schedule at a step; an error inside it says whose schedule it is.

    A line through a whole number may miss it by a rounding.
    """
    try:
        value = known(schedule(step))
        if isinstance(value, float) and isinstance(field.default, int):
            near = round(value, 9)
            value = near if near % 1 == 0 else value
        return value
    except Exception as error:
        words = f"{rule.name}({name}={schedule!r})"
        if not _takes_one(schedule):
            raise TypeError(
                f"{words}: {error}. A schedule takes the step, how many steps were taken before, "
                "such as lambda step: 0.1 / (1 + step)"
            ) from None
        error.add_note(f"{words}: the schedule failed")
        if type(error) in SAID:
            raise type(error)(f"{words}: the schedule failed: {error}") from error
        raise


def _takes_one(schedule: Any) -> bool:
    """Whether a callable takes one argument, as far as its signature is known."""
    try:
        signature(schedule).bind(0)
    except TypeError:
        return False
    except ValueError:  # it is not known
        return True
    return True


@contextmanager
def blamed(step: Any) -> Iterator[None]:
    """Say in an error's message that a schedule gave the value, and at which step."""
    try:
        yield
    except ValueError as error:
        now = known(step)
        when = "a traced step" if is_array(now) else f"step {now}"
        raise ValueError(f"{error}; the schedule gave it for {when}") from None
