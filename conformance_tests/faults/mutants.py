"""Planted faults: other code for a function, while a test is to notice that it is wrong."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

from samestep.declaration import Hyper
from samestep.rule import registry

__all__ = ["IN_PLACE", "Fault", "arithmetic_of", "edited", "faults_in", "planted"]

OTHER: dict[Any, Any] = {
    ast.Gt: {"turned round": "<", "or equal": ">="},
    ast.Lt: {"turned round": ">", "or equal": "<="},
    ast.GtE: {"turned round": "<", "not equal": ">"},
    ast.LtE: {"turned round": ">", "not equal": "<"},
    ast.Eq: {"turned round": "!="},
    ast.NotEq: {"turned round": "=="},
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
}
"""What a comparison, by what it becomes called, and a function are mistaken for."""
NO_ARITHMETIC = ("validate", "schedule_step")
IN_PLACE = "written in place"
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

    @property
    def key(self) -> str:
        """Its name without the line, which moves."""
        return re.sub(r":\d+ ", " ", self.name, count=1)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The function does the wrong thing inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fault.function, "__code__", fault.code)
        yield


def edited(function: Any, what: str, old: str, new: str) -> Fault:
    """A fault by replacing a piece of the source, which must be there once."""
    function = getattr(function, "__func__", function)
    source = _source(function)
    if source.count(old) != 1:
        raise LookupError(
            f"{function.__qualname__} holds {old!r} {source.count(old)} times; "
            f"the fault {what!r} must be planted elsewhere"
        )
    line = source[: source.index(old)].count("\n") + 1
    return _fault(function, what, ast.parse(source.replace(old, new)), line)


def arithmetic_of(owner: Any) -> Iterator[FunctionType]:
    """The functions that a class or a module itself defines and that compute something."""
    module = owner if inspect.ismodule(owner) else inspect.getmodule(owner)
    for name, value in vars(owner).items():
        function = value.fget if isinstance(value, property) else value
        own = inspect.isfunction(function) and inspect.getmodule(function) is module
        if own and name not in NO_ARITHMETIC and isinstance(function, FunctionType):
            yield function


def faults_in(function: FunctionType, slots: Collection[Any] = ()) -> Iterator[Fault]:
    """Every single fault of the kinds known here; ``slots`` are those of the function's rule."""
    tree = ast.parse(_source(function))
    nodes: Iterator[Any] = ast.walk(tree)
    seen: Counter[str] = Counter()
    for place, node in enumerate(nodes):
        for number, (what, *_) in enumerate(_changes(node, function.__name__, slots)):
            copy = deepcopy(tree)
            twin = list(ast.walk(copy))[place]
            _, old, new = list(_changes(twin, function.__name__, slots))[number]
            seen[what] += 1
            name = what if seen[what] == 1 else f"{what}, place {seen[what]}"
            yield _fault(function, name, _Replacement(old, new).visit(copy), node.lineno)


Change = tuple[str, ast.AST, ast.AST]
"""What is wrong, the part of a node that is replaced, and what replaces it."""


def _changes(node: Any, function: str, slots: Collection[Any]) -> Iterator[Change]:
    yield from _in_terms(node)
    yield from _in_choices(node)
    yield from _in_calls(node)
    yield from _in_numbers(node)
    yield from _in_state(node, function, slots)
    yield from _in_results(node, function, slots)


def _change(what: str, old: Any, new: str, *parts: Any) -> Change:
    """``new`` has a pair of braces for every part, or for the old one."""
    sources = [f"({ast.unparse(part)})" for part in parts or (old,)]
    return f"{ast.unparse(old)}: {what}", old, ast.parse(new.format(*sources), mode="eval").body


def _in_terms(node: Any) -> Iterator[Change]:
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() as sign, right):
            flipped = "-" if isinstance(sign, ast.Add) else "+"
            yield _change("sign flipped", node, f"{{}} {flipped} {{}}", left, right)
            yield _change("last term dropped", node, "{}", left)
            if re.search(r"\beps\b", ast.unparse(right)):
                yield _change("eps inside the root", node, "xp.sqrt({} ** 2 + {})", left, right)
        case ast.BinOp(left, ast.Mult() | ast.Div() | ast.Pow(), _):
            yield _change("last factor dropped", node, "{}", left)
        case ast.BinOp(left, ast.BitAnd(), right):
            yield _change("first condition dropped", node, "{}", right)
            yield _change("last condition dropped", node, "{}", left)


def _in_choices(node: Any) -> Iterator[Change]:
    match node:
        case ast.Compare(left, [operator], [right]):
            for what, other in OTHER.get(type(operator), {}).items():
                yield _change(what, node, f"{{}} {other} {{}}", left, right)
        case ast.If(test) if not isinstance(node.body[0], ast.Raise):
            yield _change("always", test, "True")
            yield _change("never", test, "False")
        case (
            ast.IfExp(_, yes, no)
            | ast.Call(ast.Attribute(ast.Name("xp"), "where"), [_, yes, no])
            | ast.Call(ast.Name("choose"), [_, _, yes, no])
        ):
            yield _change("always", node, "{}", yes)
            yield _change("never", node, "{}", no)


def _in_calls(node: Any) -> Iterator[Change]:
    match node:
        case ast.Call(ast.Name("debias")):
            yield _change("dropped", node, "1.0")
        case ast.Call(ast.Name("sqrt" | "sign" | "ema"), [_, x, *_]) | ast.Call(
            ast.Attribute(ast.Name("xp"), "sqrt" | "abs" | "clip"), [x, *_]
        ):
            yield _change("dropped", node, "{}", x)
        case ast.Call(ast.Name("weights")) | ast.Attribute(attr="betas"):
            yield _change("swapped", node, "{}[::-1]")
        case ast.Attribute(ast.Name("xp"), name) if name in OTHER:
            yield _change(OTHER[name], node, f"xp.{OTHER[name]}")


def _in_numbers(node: Any) -> Iterator[Change]:
    match node:
        case ast.Attribute(ast.Name("self" | "s"), "weight_decay"):
            yield _change("dropped", node, "(0 * {})")
        case ast.Attribute(ast.Name("self" | "s"), name) if name in _numbers():
            yield _change("+1 %", node, "(1.01 * {})")
        case ast.Subscript(ast.Attribute(ast.Name("self" | "s")), ast.Constant(0 | 1 as place)):
            yield _change("+1 %", node, "(1.01 * {})")
            yield _change("the other one", node, f"{{}}[{1 - place}]", node.value)
        case ast.BinOp():
            for side in (node.left, node.right):
                if (
                    isinstance(side, ast.Constant)
                    and isinstance(side.value, (int, float))
                    and side.value
                ):
                    what, old, new = _change("+1 %", side, "(1.01 * {})")
                    yield f"{ast.unparse(node)}: {what}", old, new


def _in_state(node: Any, function: str, slots: Collection[Any]) -> Iterator[Change]:
    match node:
        case ast.Attribute(ast.Name("state" | "shared" as held), name, ast.Load()) if name in slots:
            yield _change("forgotten", node, "(0 * {})")
            for other in [slot for slot in slots if slot != name][:1]:
                yield _change(f"{other} read instead", node, f"{held}.{other}")
        case ast.Dict(keys, values):
            held = "shared" if function == "combine" else "state"
            for key, value in zip(keys, values, strict=True):
                slot = str(key.value) if isinstance(key, ast.Constant) else None
                if slot in slots:
                    yield _change(f"{slot} stale", value, f"{held}.{slot}")
                    yield _change(f"{slot} in float32", value, NARROWED)


def _in_results(node: Any, function: str, slots: Collection[Any]) -> Iterator[Change]:
    match node:
        case ast.Return(ast.Tuple([first, _])) if function in ("direction", "step"):
            yield _change("negated", first, "-{}")
            yield _change("in float32", first, NARROWED)
        case ast.FunctionDef(name="direction" | "local" | "step"):
            for array in ("grad", "param", *(f"state.{slot}" for slot in slots)):
                spoilt: Any = ast.parse(SPOILT.format(array)).body[0]
                changed = deepcopy(node)
                spoilt.body, changed.body = changed.body, [spoilt]
                yield f"{function}: {array} {IN_PLACE}", node, changed


@cache
def _numbers() -> set[str]:
    """Names of the hyperparameters of all rules that are one number."""
    return {
        name
        for rule in registry.values()
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and not isinstance(field.default, tuple)
    }


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
    module = function.__module__.removeprefix("samestep.")
    return Fault(f"{module}:{line} {what}", function, code)
