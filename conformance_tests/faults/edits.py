"""A fault and its edits, as they are written in the catalogue.

An edit is a pattern, see ``mutation``, which is applied wherever it matches in what a rule runs; a
function's name before it restricts it to that function. ``self`` stands for the rule, under
whichever name a function has it. Edits joined by ``&`` are made together or not at all. What is
expected is the name of a deviation, or a field of the rule with the value that the faulty rule has
in effect; ``+`` joins names that are needed together, ``|`` those that are equally true.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy

from .mutation import Pattern

__all__ = ["Edit", "TableFault", "complement", "edit", "fault", "single", "swapped"]


@dataclass(frozen=True)
class Edit:
    """Patterns that are applied together, each with the name of its function, if it has one."""

    patterns: tuple[tuple[str, Pattern], ...]

    def changes(self) -> list[Callable[[ast.AST, FunctionType], Any]]:
        """A function per pattern that replaces a node of a function."""
        return [self._change(where, pattern) for where, pattern in self.patterns]

    @staticmethod
    def _change(where: str, pattern: Pattern) -> Callable[[ast.AST, FunctionType], Any]:
        def change(node: ast.AST, function: FunctionType) -> Any:
            module, _, name = where.rpartition(".")
            elsewhere = name and name != function.__name__
            if elsewhere or not function.__module__.endswith(module):
                return None
            new = pattern.replaced(node)
            return None if new is None else _in_scope(new, function)

        return change


GIVEN = ("single", "swapped", "complement", "numpy")
"""Names that the right side of a pattern may use."""
ARGUMENTS = ("self", "s", "param", "state", "grad", "grads", "step")
"""Arguments of functions that it may use, where a function has them."""


def _in_scope(new: Any, function: FunctionType) -> Any:
    """The expression in terms of a function's arguments, or ``None`` if it has not all of them."""
    has = function.__code__.co_varnames[: function.__code__.co_argcount]
    for node in ast.walk(new):
        if isinstance(node, ast.Name) and node.id == "self" and "self" not in has:
            node.id = "rule"
    names = {node.id for node in ast.walk(new) if isinstance(node, ast.Name)}
    if not names & {*ARGUMENTS, "rule"} <= {*has}:
        return None
    return _Imported().visit(new)


class _Imported(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> Any:
        """A name of this module, wherever the function is."""
        if node.id not in GIVEN:
            return node
        text = f"__import__({__name__!r}, fromlist=['*']).{node.id}"
        return ast.parse(text, mode="eval").body


def edit(text: str) -> Edit:
    """An edit as it is written in the table."""
    patterns = []
    for part in text.split(" & "):
        where, _, pattern = (
            part.rpartition(": ") if ": " in part.split(" => ")[0] else ("", "", part)
        )
        patterns.append((where, Pattern(pattern)))
    return Edit(tuple(patterns))


@dataclass(frozen=True)
class TableFault:
    """Something done wrong, in every rule that one of the edits fits."""

    kind: str
    name: str
    expected: tuple[frozenset[str], ...]
    """Names, all of them; each of the alternatives is true of the edits."""
    edits: tuple[Edit, ...]
    given: Mapping[str, Any]
    """The numbers that both sides need for the fault to make a difference."""
    late: bool = False
    """Whether the gradients come one step late, which is nothing in the rule's own code."""
    stale: str = ""
    """The slot of which the old value is used in place of the new one."""


def fault(kind: str, name: str, expected: str, *edits: str, **given: Any) -> TableFault:
    """A fault as it is written in the table; the name may stand for what is expected."""
    names = (expected or name).split(" | ")
    alternatives = tuple(frozenset(alternative.split(" + ")) for alternative in names)
    return TableFault(kind, name, alternatives, tuple(map(edit, edits)), given)


def single(value: Any) -> Any:
    """A number, or numbers, rounded to float32."""
    return tuple(map(single, value)) if isinstance(value, tuple) else float(numpy.float32(value))


def swapped(values: Any) -> Any:
    """The first two of several numbers in each other's place."""
    return (values[1], values[0], *values[2:])


def complement(place: int, values: Any) -> Any:
    """Several numbers, one of them subtracted from 1."""
    return tuple(1 - value if i == place else value for i, value in enumerate(values))
