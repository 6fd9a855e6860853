"""The rules of a checkpoint, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from samestep.checkpoints import Checkpoint, CheckpointError
from samestep.checkpoints.correspondence import Native
from samestep.checkpoints.description import Description, made
from samestep.declaration import Hyper
from samestep.rule import registry

__all__ = [
    "bytes_words",
    "few",
    "in_bytes",
    "native_classes",
    "rule_facts",
    "rule_words",
    "rules_of",
    "schedules",
]


def rules_of(saved: Checkpoint) -> list[tuple[Description, list[str]]]:
    """Every rule with the parameters that it is for."""
    found: dict[str, tuple[Description, list[str]]] = {}
    for path, own in saved.parameters.items():
        key = json.dumps(own.rule, sort_keys=True)
        found.setdefault(key, (own.rule, []))[1].append(path)
    return [*found.values()]


def rule_words(description: Description) -> str:
    """A rule as Python writes it, with the values that are not defaults."""
    try:
        return repr(made(description))
    except ValueError:
        inner = [rule_words(description["rule"])] if "rule" in description else []
        values = [f"{n}={_plain(v)}" for n, v in description["values"].items()]
        return f"{description['name']}({', '.join((*inner, *values))})"


def rule_facts(description: Description) -> Iterator[tuple[str, str]]:
    """Labels and texts about a rule and the rules inside it: version, dialect, numbers, ..."""
    one: Description | None = description
    while one is not None:
        cls = registry.get(one["name"])
        here = "" if one is description else f"{one['name']}: "
        if cls is None:
            yield "unknown", f"{here}there is no rule {one['name']} here"
        elif one["version"] != cls.version:
            yield "version", f"{here}{one['version']}; here it is {cls.version}"
        dialect = _dialect(one)
        if dialect is not None:
            yield "like", f"{here}{dialect!r}"
        scheduled = {n: v for n, v in one["values"].items() if _is_scheduled(v)}
        options = (
            set()
            if cls is None
            else {n for n, f in cls.fields().items() if not isinstance(f, Hyper)}
        )
        numbers = {
            n: v for n, v in one["values"].items() if n not in {*options, *scheduled, "quirks"}
        }
        if numbers:
            words = ", ".join(f"{n}={_plain(v)}" for n, v in numbers.items())
            yield "numbers", f"{here}{words}"
        for name, value in scheduled.items():
            yield "schedule", f"{here}{name}={_plain(value)}"
        one = one.get("rule")


def _dialect(description: Description) -> str | None:
    """The dialect that has these values, if it has others than the rule's defaults."""
    try:
        rule = made(description)
    except ValueError:
        return None
    fields = rule.fields()
    told = {
        name: preset.shown
        for name, preset in rule.dialects.items()
        if rule.speaks(name)
        and any(
            field not in fields or fields[field].default != value
            for field, value in preset.shown.items()
        )
    }
    return max(told, key=lambda name: len(told[name]), default=None)


def native_classes(
    saved: Checkpoint, named: str | None, library: str, table: Mapping[str, Native]
) -> list[str]:
    """The classes of a library that compute the rule of a checkpoint, the likeliest first.

    Args:
        saved: the checkpoint.
        named: the class that the user has named, if any; it is then the only one.
        library: its module, such as ``torch.optim``.
        table: the correspondence of each of its classes.

    Raises:
        CheckpointError: there is none, or the checkpoint has several rules.
    """
    rules = list(dict.fromkeys(own.rule["name"] for own in saved.parameters.values()))
    if len(rules) != 1:
        raise CheckpointError(
            f"it has the state of {', '.join(rules) or 'no parameters'}; an optimizer of "
            f"{library} computes one rule"
        )
    (rule,) = rules
    named = named and named.rpartition(".")[2]
    known = [cls for cls, own in table.items() if rule in (own.rule, *own.also)]
    if not known or (named and named not in table):
        raise CheckpointError(
            f"{library} has no class that computes {named or rule} here; there are "
            f"{', '.join(table)}. samestep.{library.partition('.')[0]}.{rule} reads the checkpoint "
            "itself: samestep.load(path, optimizer, model)"
        )
    return [named] if named else sorted(known, key=lambda cls: cls != rule)


def schedules(description: Description) -> Iterator[str]:
    """Every schedule of a rule and of the rules inside it, with its number at the last step."""
    one: Description | None = description
    while one is not None:
        for name, value in one["values"].items():
            if _is_scheduled(value):
                yield f"{name} of {one['name']} was a schedule: {_plain(value)}"
        one = one.get("rule")


def _is_scheduled(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_scheduled, value))
    return isinstance(value, dict) and "schedule" in value


def _plain(value: Any) -> str:
    """A value of a description as Python writes it."""
    if isinstance(value, list):
        inside = ", ".join(map(_plain, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict) and "schedule" in value:
        return f"{value['schedule']}, at the last step {_plain(value['value'])}"
    if isinstance(value, dict) and "number" in value:
        return str(value["number"])
    return repr(value)


def few(names: Sequence[str], limit: int = 3) -> str:
    """The first of many names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def bytes_words(size: int) -> str:
    """A size with its unit, and the exact number of bytes."""
    return f"{size:,} bytes" if size < 10_000 else f"{in_bytes(size)} ({size:,} bytes)"


def in_bytes(size: float) -> str:
    """A size with its unit: 12 B, 3.40 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
