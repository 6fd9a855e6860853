"""A rule as plain data, which a file contains and a reader compares with its own rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from samestep.arrays import is_array, known, parts
from samestep.declaration import Hyper, Option, Storage
from samestep.kept import KEPT, saying
from samestep.nonfinite import decoded, encoded
from samestep.quirks import updated
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

__all__ = [
    "Description",
    "common_numbers",
    "describe",
    "differing_numbers",
    "differing_options",
    "made",
    "numbers",
    "numbers_of",
    "on_schedules",
    "schedule_of",
    "schedules_in",
]

Description = dict[str, Any]
"""``name`` and ``version`` of a rule, ``like`` if a dialect has its values, its ``values`` by
field, and, of a wrapper, the ``rule`` inside."""


def describe(rule: Rule, step: int = 0) -> Description:
    """A rule as a description.

    A schedule becomes ``{"schedule": its repr, "value": its number at ``step``}``. A number that
    another one's schedule knows, as ``peak_lr``, is there as a number.

    Raises:
        TypeError: a number is traced, so its value is unknown.
    """
    now = rule.at(step)
    found: Description = {
        "name": rule.name,
        "version": type(rule).version,
        "values": {n: _plain(rule, n, v, now._values[n]) for n, v in rule._values.items()},
    }
    if rule.dialect is not None:
        found["like"] = rule.dialect
    if isinstance(rule, Wrapper):
        found["rule"] = describe(rule.rule, rule.steps_inside(step))
    return found


def _plain(rule: Rule, name: str, value: Any, now: Any) -> Any:
    value = now if value is None else value
    if isinstance(value, tuple) and isinstance(rule.fields().get(name), Storage):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(rule, name, *pair) for pair in zip(value, now, strict=True)]
    if callable(value):
        return {"schedule": repr(value), "value": _plain(rule, name, now, now)}
    value = known(value)
    if is_array(value):
        raise TypeError(f"{rule.name}: {name} is traced; a checkpoint is made outside of jit")
    return encoded(value)


def on_schedules(
    description: Description, schedules: Mapping[tuple[str, int | None], Any]
) -> Description:
    """The description with some of its numbers on schedules, which another library asks.

    Args:
        description: the rule, with the numbers of now.
        schedules: by the name of a number, and its place in a tuple, what makes the schedule.
    """
    values = dict(description["values"])
    for (name, at), schedule in schedules.items():
        now = values.get(name)
        if now is None or _schedule(now):
            continue
        made_by = schedule if isinstance(schedule, str) else repr(schedule)
        if at is None:
            values[name] = {"schedule": made_by, "value": now}
        elif not _schedule(now[at]):
            values[name] = [*now[:at], {"schedule": made_by, "value": now[at]}, *now[at + 1 :]]
    found = {**description, "values": values}
    if "rule" in description:
        found["rule"] = on_schedules(description["rule"], schedules)
    return found


def _number(value: Any) -> Any:
    """A value of a description, in the form that a rule takes."""
    if isinstance(value, list):
        return tuple(map(_number, value))
    if isinstance(value, dict) and "schedule" in value:
        return _number(value["value"])
    return decoded(value)


def made(description: Description) -> Rule:
    """The described rule, with a number for each schedule.

    Raises:
        ValueError: the rule is unknown, has another version, or does not take the values.
    """
    name = description["name"]
    cls = registry.get(name)
    if cls is None:
        raise ValueError(f"there is no rule {name}; there are {', '.join(sorted(registry))}")
    _refuse_version(description, cls)
    given = {field: _number(value) for field, value in description["values"].items()}
    values = updated(cls, given)
    inside = (made(description["rule"]),) if "rule" in description else ()
    unsaid = (saying(one, dict.fromkeys(KEPT)) for one in inside)  # which has what it sees
    try:
        rule = cls(*unsaid, **values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the description of {name} makes no rule: {error}") from None
    return rule._copy(rule._values, inside) if inside else rule


def _refuse_version(description: Description, cls: type[Rule]) -> None:
    if description["version"] != cls.version:
        raise ValueError(
            f"the state is of version {description['version']} of {cls.__name__}, which is at "
            f"version {cls.version} here"
        )


def numbers(rule: Rule, description: Description) -> dict[str, Any]:
    """The hyperparameters in a description, including the inner rule's."""
    return {name: _number(value) for name, value in _hypers(rule, description).items()}


def _hypers(rule: Rule, description: Description) -> dict[str, Any]:
    """The same with its schedules, as the description has them."""
    inner = _hypers(rule.rule, description["rule"]) if isinstance(rule, Wrapper) else {}
    fields, own = rule.fields(), description["values"].items()
    return inner | {n: v for n, v in own if isinstance(fields.get(n), Hyper)}


def numbers_of(rule: Rule, step: int = 0) -> dict[str, Any]:
    """The hyperparameters of a rule, in the same form; schedules at ``step``."""
    return numbers(rule, describe(rule, step))


def common_numbers(
    rule: Rule, parameters: Iterable[tuple[Rule, Description]]
) -> dict[str, set[Any]]:
    """The numbers in descriptions of parameters that share a rule.

    Args:
        rule: the rule of all the parameters.
        parameters: the own rule of each parameter, in which a mask or a group may have set numbers,
            and its description. A number that is set for one parameter only is ignored, and so is
            one that is a schedule here.
    """
    found: dict[str, set[Any]] = {}
    base = {
        n: v for n, v in numbers_of(rule).items() if not any(map(callable, parts(rule.hypers[n])))
    }
    for own, description in parameters:
        here = numbers_of(own)
        for name, there in numbers(own, description).items():
            if name in base and here[name] == base[name]:
                found.setdefault(name, set()).add(there)
    return found


def differing_numbers(rule: Rule, description: Description, step: int) -> Iterator[str]:
    """In words, every number that differs; schedules count with their value at ``step``.

    A number here differs from a schedule of the same value there, and so do two schedules that are
    made by other calls.
    """
    here = _hypers(rule, describe(rule, step))
    for name, there in _hypers(rule, description).items():
        if _apart(here[name], there):
            yield f"{name} is {_shown(here[name])} here and {_shown(there)} there"


def schedules_in(rule: Rule, description: Description) -> dict[str, str]:
    """The numbers in a description that are schedules, in whole or in part, in words."""
    described = _hypers(rule, description).items()
    return {n: _shown(v) for n, v in described if any(map(_schedule, parts(v)))}


def schedule_of(rule: Rule, description: Description, name: str, at: int | None) -> str:
    """A number in a description, or an element of it, in words; empty if it is no schedule."""
    value = _hypers(rule, description).get(name)
    value = value[at] if isinstance(value, list) and at is not None else value
    return _shown(value) if _schedule(value) else ""


def _apart(here: Any, there: Any) -> bool:
    """Whether two values of descriptions differ."""
    if _number(here) != _number(there):
        return True
    if isinstance(here, list) and isinstance(there, list):
        return any(map(_apart, here, there))
    own, theirs = _schedule(here), _schedule(there)
    written = "<" not in own + theirs  # a function is known by its address only
    return bool(theirs) and own != theirs and (written or not own)


def _schedule(value: Any) -> str:
    """The call that makes a schedule; empty for a number."""
    return str(value.get("schedule", "")) if isinstance(value, dict) else ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(_shown, value))})"
    made_by = _schedule(value)
    return f"{_shown(value['value'])} by {made_by}" if made_by else repr(_number(value))


def differing_options(rule: Rule, description: Description, ndim: int | None = None) -> list[str]:
    """In words, the options because of which a described state is not a state of this rule.

    ``ndim`` is the parameter's number of dimensions: with fewer than two it has no layout.
    """
    return [*_differing(rule, description, ndim)] or [*_impossible(rule, description)]


def _impossible(rule: Rule, description: Description) -> Iterator[str]:
    """Numbers that the rule does not take."""
    try:
        rule.replace(**numbers(rule, description))
    except (TypeError, ValueError) as error:
        yield str(error)


def _differing(rule: Rule, description: Description, ndim: int | None) -> Iterator[str]:
    if description["name"] != rule.name:
        yield f"it is the state of {_title(description)}, not of {_title(describe(rule))}"
        return
    if description["version"] != type(rule).version:
        yield (
            f"it is of version {description['version']} of {rule.name}, which is at version "
            f"{type(rule).version} here"
        )
    fields, values = rule.fields(), describe(rule)["values"]
    options = {n: f.default for n, f in fields.items() if isinstance(f, Option) and n not in KEPT}
    since = {name: _plain(rule, name, value, value) for name, value in options.items()}
    theirs = since | updated(rule.published(), description["values"])
    quirks = tuple(theirs.pop("quirks", ()))
    if rule.quirks != quirks:
        yield f"quirks are {rule.quirks} here and {quirks} there"
    values.pop("quirks", None)
    for name in sorted({*values, *theirs}):
        if name in KEPT:
            here, there = values.get(name), theirs.get(name)
            one_order = name == "layout" and (None in (here, there) or ndim in (0, 1))
            if not one_order and (here or None) != (there or None):
                yield f"{name} is {here!r} here and {there!r} there"
        elif name not in values:
            yield f"{rule.name} has no {name} here"
        elif isinstance(fields[name], Hyper):
            continue  # which may have come later
        elif name not in theirs:
            yield f"{rule.name} has no {name} there"
        elif values[name] != theirs[name]:
            yield f"{name} is {values[name]!r} here and {theirs[name]!r} there"
    if isinstance(rule, Wrapper):
        if "rule" not in description:
            yield f"it is the state of {rule.name} around no rule"
            return
        yield from _differing(rule.rule, description["rule"], ndim)


def _title(description: Mapping[str, Any]) -> str:
    """Names from the outside in: ``Lookahead(AdamW)``."""
    inner = description.get("rule")
    return f"{description['name']}({_title(inner)})" if inner else str(description["name"])
