"""Numbers that stay as they are in a training, as the point of evaluation is computed with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["refuse_changed", "refuse_schedules"]

WHY = "the state has been made with it, and would be read with another number"


def _steady(rule: Rule) -> dict[str, Any]:
    """The numbers that a rule, and the rules inside, declare ``steady``, by names in messages."""
    found = {f"{rule.name}: {name}": _number(rule, name) for name in type(rule).steady}
    for inside in rule.inside:
        found.update(_steady(inside))
    return found


def _number(rule: Rule, name: str) -> Any:
    """A number by its name, or an element of a tuple by ``betas.0``."""
    field, _, place = name.partition(".")
    value = rule._values.get(field)
    return value[int(place)] if place and isinstance(value, tuple) else value


def refuse_schedules(rule: Rule) -> None:
    """Raise if such a number of the rule itself is a schedule."""
    for name in type(rule).steady:
        if callable(_number(rule, name)):
            raise ValueError(
                f"{rule.name}: {name} is a schedule, and may not change in a training: {WHY}"
            )


def refuse_changed(before: Rule, after: Rule) -> None:
    """Raise if such a number is another one in the rule that takes the place of a rule."""
    old, new = _steady(before), _steady(after)
    for name in old.keys() & new.keys():
        if type(old[name]) is type(new[name]) is float and old[name] != new[name]:
            raise ValueError(
                f"{name} was {old[name]!r} and is {new[name]!r} now, and may not change in a "
                f"training: {WHY}"
            )
