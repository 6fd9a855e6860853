"""The arguments of ``--set``: literals, words, and calls that make a schedule."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from samestep.parity import SubjectError

__all__ = ["arguments"]

Arguments = dict[str, Any]


def arguments(settings: Sequence[str]) -> tuple[Arguments, Arguments]:
    """Arguments of each side, from ``a.lr=1e-3``, ``b.eps=1e-8``, or ``lr=1e-3`` for both.

    Raises:
        SubjectError: an argument has another form, or calls a name that does not exist.
    """
    sides: dict[str, Arguments] = {"a": {}, "b": {}}
    for setting in settings:
        name, equals, text = setting.partition("=")
        side, dot, own = name.strip().rpartition(".")
        if not equals or not own.isidentifier() or (dot and side not in sides):
            raise SubjectError(
                f"--set {setting}: it must be a.NAME=VALUE, b.NAME=VALUE, or NAME=VALUE for both"
            )
        for chosen in [side] if dot else sides:
            sides[chosen][own] = _value(setting, text.strip())
    return sides["a"], sides["b"]


def _value(setting: str, text: str) -> Any:
    """The value of a literal or of a call of a dotted name, or else the text itself."""
    if not text:
        raise SubjectError(f"--set {setting}: there must be a value behind the =")
    if text.lstrip("+-") in ("nan", "inf"):
        return float(text)
    try:
        return _made(setting, ast.parse(text, mode="eval").body)
    except SubjectError:
        raise
    except (SyntaxError, ValueError):
        return text


def _made(setting: str, node: ast.expr) -> Any:
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    try:
        positional = [_made(setting, item) for item in node.args]
        named = {item.arg or "": _made(setting, item.value) for item in node.keywords}
    except SubjectError:
        raise
    except ValueError:
        raise SubjectError(
            f"--set {setting}: the arguments of {ast.unparse(node.func)} must be numbers, texts, "
            "lists, or such calls"
        ) from None
    return _called(setting, ast.unparse(node.func), positional, named)


def _called(setting: str, name: str, positional: list[Any], named: Arguments) -> Any:
    try:
        made = resolve_name(name)(*positional, **named)
    except (ImportError, AttributeError) as error:
        raise SubjectError(f"--set {setting}: {name} cannot be imported: {error}") from error
    except Exception as error:
        raise SubjectError(
            f"--set {setting}: {name} cannot be called so: {type(error).__name__}: {error}"
        ) from error
    if not callable(made):
        raise SubjectError(f"--set {setting}: {name} makes no schedule, but {made!r}")
    return made
