"""Planted faults: other code for a function, while a test is to notice that it is wrong."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

from ..rule import Rule

__all__ = ["Fault", "arithmetic_of", "edited", "faults_in", "planted"]

NARROWED = (
    "(tuple(xp.astype(x, xp.float32) for x in {0}) if isinstance({0}, tuple) "
    "else xp.astype({0}, xp.float32))"
)
SPOILT = """
try: pass
finally:
    for x in {0} if isinstance({0}, tuple) else ({0},):
        x += 1
"""


class Fault(NamedTuple):
    """What is wrong and where, the function, and its wrong code."""

    name: str
    function: FunctionType
    code: CodeType


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The function does the wrong thing inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fault.function, "__code__", fault.code)
        yield


def edited(function: Any, what: str, old: str, new: str) -> Fault:
    """A fault by replacing a piece of the source, which must be there once."""
    source = _source(function)
    if source.count(old) != 1:
        raise LookupError(
            f"{function.__qualname__} holds {old!r} {source.count(old)} times; "
            f"the fault {what!r} must be planted elsewhere"
        )
    line = source[: source.index(old)].count("\n") + 1
    return _fault(function, what, ast.parse(source.replace(old, new)), line)


def arithmetic_of(rule: type[Rule]) -> Iterator[FunctionType]:
    """What the authors of a rule wrote: its methods, and those beneath that they call or leave."""
    for name in ("scalars", "direction", "local", "combine", "step"):
        for function in [vars(base)[name] for base in rule.__mro__ if name in vars(base)]:
            if function.__module__ == Rule.__module__:
                break
            yield function
            if "__class__" not in function.__code__.co_freevars:  # it does not call super()
                break


def faults_in(function: FunctionType, slots: Collection[Any] = ()) -> Iterator[Fault]:
    """Every single fault of the kinds known here; ``slots`` are those of the function's rule."""
    tree = ast.parse(_source(function))
    nodes: Iterator[Any] = ast.walk(tree)
    for place, node in enumerate(nodes):
        for number, (what, *_) in enumerate(_changes(node, function.__name__, slots)):
            copy = deepcopy(tree)
            twin = list(ast.walk(copy))[place]
            _, old, new = list(_changes(twin, function.__name__, slots))[number]
            yield _fault(function, what, _Replacement(old, new).visit(copy), node.lineno)


def _changes(
    node: Any, function: str, slots: Collection[Any]
) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """What is wrong, the part of the node that is replaced, and what replaces it."""

    def change(what: str, old: ast.AST, new: str) -> tuple[str, ast.AST, ast.AST]:
        source = ast.unparse(old)
        return f"{source}: {what}", old, ast.parse(new.format(f"({source})"), mode="eval").body

    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() as sign, right):
            a, b = ast.unparse(left), ast.unparse(right)
            flipped = "-" if isinstance(sign, ast.Add) else "+"
            yield change("sign flipped", node, f"({a}) {flipped} ({b})")
            if re.search(r"\beps\b", b):
                yield change("eps inside the root", node, f"xp.sqrt(({a}) ** 2 + {b})")
        case ast.Call(ast.Name("debias")):
            yield change("dropped", node, "1.0")
        case ast.Call(ast.Name("weights")) | ast.Attribute(attr="betas"):
            yield change("swapped", node, "{}[::-1]")
        case ast.Attribute(attr="lr"):
            yield change("+1 %", node, "(1.01 * {})")
        case ast.Attribute(attr="weight_decay"):
            yield change("dropped", node, "(0 * {})")
        case ast.Dict(keys, values):
            held = "shared" if function == "combine" else "state"
            for key, value in zip(keys, values, strict=True):
                slot = ast.literal_eval(key) if isinstance(key, ast.Constant) else None
                if slot in slots:
                    yield change(f"{slot} stale", value, f"{held}.{slot}")
                    yield change(f"{slot} in float32", value, NARROWED)
        case ast.Return(ast.Tuple([first, _])) if function in ("direction", "step"):
            yield change("negated", first, "-{}")
            yield change("in float32", first, NARROWED)
        case ast.FunctionDef(name="direction" | "local" | "step"):
            for array in ("grad", "param", *(f"state.{slot}" for slot in slots)):
                spoilt: Any = ast.parse(SPOILT.format(array)).body[0]
                changed = deepcopy(node)
                spoilt.body, changed.body = changed.body, [spoilt]
                yield f"{array} written in place", node, changed


class _Replacement(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def _source(function: Any) -> str:
    return textwrap.dedent(inspect.getsource(function))


def _fault(function: Any, what: str, tree: Any, line: int) -> Fault:
    """The function's code compiled anew, with the same free variables (``super()`` has one)."""
    old: CodeType = function.__code__
    path, line = Path(old.co_filename), old.co_firstlineno + line - 1
    outer: Any = ast.parse(f"def outer({', '.join(old.co_freevars)}): global {function.__name__}")
    outer.body[0].body += tree.body
    code = compile(ast.fix_missing_locations(outer), f"{path.stem}, {what}", "exec")
    for name in ("outer", function.__name__):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return Fault(f"{path.parent.name}/{path.name}:{line} {what}", function, code)
