"""The text of ``help`` for a rule: the author's docstring, then arguments, dialects and state.

The second part is made from the declaration, with the additional arguments of a framework's class.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .declaration import Hyper, Option, Shared, Slot

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["arguments", "described", "page"]

NUMBERS = "Every number may be a schedule, a function of the 0-based step, or a 0-d array."

CHOOSING = {
    "rule": "the rule inside",
    "like": "a dialect, whose values replace the defaults",
    "mask": "predicate of a parameter's path, shape and ndim: where weight decay applies",
    "groups": "pairs of such a predicate and the hyperparameters that differ there",
}
"""The meaning of the arguments that every rule has in addition to its fields."""

RAISES = """\
Raises:
    TypeError: an unknown argument, or an argument that is not a rule or predicate but must be.
    ValueError: a value out of its range, or an unknown dialect."""


def page(rule: type[Rule]) -> str:
    """The author's docstring."""
    text = inspect.getdoc(rule) or f"{rule.__name__}."
    return re.split(rf"\n\n(?:{re.escape(NUMBERS)}|Args:)\n", text)[0]


def described(rule: type[Rule], native: Any = None, bind: Callable[..., Any] | None = None) -> str:
    """The whole documentation of a rule, or of a framework's class for it.

    Args:
        rule: the rule class.
        native: the class or function that has the signature, if it is not the rule.
        bind: the function whose docstring describes the additional arguments of ``native``.
    """
    numbers = NUMBERS if any(isinstance(f, Hyper) for f in rule.fields().values()) else ""
    parts = [page(rule), numbers, arguments(rule, native, bind), _dialects(rule), _state(rule)]
    return "\n\n".join([*filter(None, parts), RAISES])


def arguments(rule: type[Rule], native: Any = None, bind: Callable[..., Any] | None = None) -> str:
    """The ``Args`` section: meaning, unit, range and default; arguments as in ``described``."""
    fields, others = rule.fields(), {**_arguments_of(bind), **CHOOSING}
    lines = []
    for name, parameter in inspect.signature(rule if native is None else native).parameters.items():
        words = [_declared(fields[name]) if name in fields else others.get(name)]
        if words[0] is not None and parameter.default is not parameter.empty:
            words.append(f"{parameter.default!r} by default")
        if words[0] is not None:
            lines.append(f"{name}: {'; '.join(map(str, words))}.")
    return _section("Args", lines)


def _declared(field: Hyper | Option) -> str:
    if isinstance(field, Hyper):
        kind = "" if field.default is not None else "; None derives it"
        return f"{field.meaning} [{field.unit}]; {field.range}{kind}"
    return field.meaning if isinstance(field.default, bool) else f"{field.meaning}; {field.range}"


def _arguments_of(function: Callable[..., Any] | None) -> dict[str, str]:
    """The text about each argument in a function's docstring."""
    if function is None:
        return {}
    section = (inspect.getdoc(function) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(?=\w)", section, flags=re.M)
    pairs = (entry.partition(": ") for entry in entries if entry)
    return {name: " ".join(text.split()).rstrip(".") for name, _, text in pairs}


def _dialects(rule: type[Rule]) -> str:
    lines = []
    for name, preset in rule.dialects.items():
        values = ", ".join(f"{field}={value!r}" for field, value in preset.shown.items())
        words = [preset.of, preset.note, values or "the defaults"]
        lines.append(f"{name}: {'; '.join(filter(None, words))}.")
    return _section("Dialects", lines)


def _state(rule: type[Rule]) -> str:
    kept: dict[str, Slot | Shared] = {**rule._slots, **rule._shared}
    lines = [f"{name}: {_kept(item)}." for name, item in kept.items()]
    nothing = "only the state of the wrapped rule" if _wraps(rule) else "only the step"
    return _section("State", lines or [f"{nothing}."])


def _kept(item: Slot | Shared) -> str:
    if isinstance(item, Shared):
        return f"{item.meaning}; once for all parameters"
    return item.meaning if item.only_if is None else f"{item.meaning}; kept with {item.only_if}"


def _wraps(rule: type[Rule]) -> bool:
    return "rule" in inspect.signature(rule).parameters


def _section(title: str, lines: Iterable[str]) -> str:
    wrapped = (
        textwrap.fill(line, 96, initial_indent="    ", subsequent_indent=" " * 8) for line in lines
    )
    text = "\n".join(wrapped)
    return f"{title}:\n{text}" if text else ""
