"""Faults planted by structure: the one engine for the test of the suite and of the diagnosis.

A ``Pattern`` is an expression with placeholders: in ``A + B => A - B`` every capital letter stands
for any expression, and ``**K`` for any keywords. A pattern names only what is public: functions of
the vocabulary, declared fields, slots, and the arguments of a rule's methods. It never names a
local variable, so that no fault depends on how the code is written.

A fault is the code of one or more functions compiled with such a replacement. While it is planted
the functions have that code; nothing is copied.
"""

from __future__ import annotations

import ast
import inspect
import signal
import sys
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from samestep.rule import Rule

__all__ = [
    "Change",
    "Fault",
    "Pattern",
    "changed",
    "entered",
    "functions_of",
    "placed",
    "planted",
    "stale",
    "with_fault",
]


class Fault(NamedTuple):
    """A fault: its name, and the functions that have it with their wrong code."""

    name: str
    codes: Mapping[FunctionType, CodeType]
    probe: Callable[[], Fault] | None = None
    """Makes a fault that raises ZeroDivisionError where the program comes to this one's place."""


SECONDS = 60
"""How long code with a fault may run."""


@contextmanager
def planted(*faults: Fault) -> Iterator[None]:
    """Give the functions their wrong code for as long as the context lasts.

    Raises:
        TimeoutError: it has lasted a minute; a fault may make a loop endless.
    """
    codes = {function: code for fault in faults for function, code in fault.codes.items()}
    before = {function: function.__code__ for function in codes}
    usual = signal.signal(signal.SIGALRM, _endless)
    try:
        signal.alarm(SECONDS)
        for function, code in codes.items():
            function.__code__ = code
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
        for function, code in before.items():
            function.__code__ = code


def _endless(*_: Any) -> None:
    raise TimeoutError(f"a fault has run for {SECONDS} seconds")


class Change(NamedTuple):
    """A part of a function's tree, what replaces it, and in words what is wrong then."""

    words: str
    old: ast.AST
    new: ast.AST


class Pattern:
    """An expression with placeholders, and the expression that replaces it."""

    def __init__(self, text: str) -> None:
        self.text = text
        old, new = text.split(" => ")
        self.old, self.new = _expression(old), _expression(new)

    def replaced(self, node: ast.AST) -> Any:
        """The replacement of a node, or ``None`` where the pattern does not match."""
        found: dict[str, Any] = {}
        return _Filled(found).visit(deepcopy(self.new)) if _matches(self.old, node, found) else None


def _expression(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _placeholder(node: Any) -> str | None:
    name = node.id if isinstance(node, ast.Name) else ""
    return name if len(name) == 1 and name.isupper() else None


def _matches(pattern: Any, node: Any, found: dict[str, Any]) -> bool:
    name = _placeholder(pattern)
    if name is not None:
        fits = isinstance(node, ast.expr) and not isinstance(node, ast.Starred)
        return fits and ast.dump(found.setdefault(name, node)) == ast.dump(node)
    if isinstance(pattern, list):
        last: Any = pattern[-1] if pattern else None
        if isinstance(last, ast.keyword) and last.arg is None:
            found[ast.unparse(last.value)] = node
            return True
        pairs = zip(pattern, node, strict=False) if isinstance(node, list) else ()
        return len(pattern) == len(node) and all(_matches(*pair, found) for pair in pairs)
    if not isinstance(pattern, ast.AST):
        return type(pattern) is type(node) and pattern == node
    return type(pattern) is type(node) and all(
        _matches(value, getattr(node, field), found)
        for field, value in ast.iter_fields(pattern)
        if field not in ("ctx", "kind")
    )


class _Filled(ast.NodeTransformer):
    """Expressions in the place of placeholders."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found

    def visit_Name(self, node: ast.Name) -> Any:
        """Fill a placeholder."""
        return deepcopy(self.found.get(node.id, node))

    def visit_Call(self, node: ast.Call) -> Any:
        """Fill ``**K`` with the keywords that it stands for."""
        several = [self.found.get(getattr(k.value, "id", ""), [k]) for k in node.keywords]
        node.keywords = [k for ks in several for k in (ks if isinstance(ks, list) else [ks])]
        return self.generic_visit(node)


def placed(
    functions: Iterable[FunctionType], changes: Callable[[ast.AST, FunctionType], Iterable[Change]]
) -> Iterator[Fault]:
    """Every change at every place in the functions, as a fault each.

    Args:
        functions: where faults are planted.
        changes: gives the changes of a node in a function.
    """
    for function in functions:
        seen: Counter[str] = Counter()
        tree = _tree(function)
        for node in ast.walk(tree):
            for words, old, new in changes(node, function):
                seen[words] += 1
                place = f" (place {seen[words]})" if seen[words] > 1 else ""
                yield _single(f"{_called(function)}: {words}{place}", function, tree, old, new)


def _single(name: str, function: FunctionType, tree: Any, old: Any, new: Any) -> Fault:
    def code(new: Any) -> dict[FunctionType, CodeType]:
        return {function: _compiled(function, _Replaced({old: new}).visit(tree))}

    fails = _expression("1 / 0") if isinstance(old, ast.expr) else ast.Expr(_expression("1 / 0"))
    return Fault(name, code(new), None if old is tree else lambda: Fault(name, code(fails)))


def changed(
    name: str,
    functions: Iterable[FunctionType],
    change: Callable[[ast.AST, FunctionType], ast.AST | None],
) -> Fault | None:
    """One fault by a change wherever it is possible, or ``None`` where it is nowhere possible."""
    codes = {}
    for function in functions:
        tree = _tree(function)
        news = {node: change(node, function) for node in ast.walk(tree)}
        news = {node: new for node, new in news.items() if new is not None}
        if news:
            codes[function] = _compiled(function, _Replaced(news).visit(tree))
    return Fault(name, codes) if codes else None


def stale(functions: Iterable[FunctionType], slot: str) -> Fault | None:
    """The old value of a slot wherever a function uses the new one that it returns."""

    def change(node: Any, function: FunctionType) -> ast.AST | None:
        names, kept = _returned(function, slot)
        uses = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in kept
        return _expression(f"state.{slot}") if uses and node.id in names else None

    return changed(f"stale {slot}", functions, change)


@cache
def _returned(function: FunctionType, slot: str) -> tuple[set[str], set[ast.AST]]:
    """The names that a function, given the state, returns as a slot, and the places where."""
    code = function.__code__
    if "state" not in code.co_varnames[: code.co_argcount]:
        return set(), set()
    values = [
        value
        for node in ast.walk(_tree(function))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == slot and isinstance(value, ast.Name)
    ]
    return {value.id for value in values}, {*values}


def with_fault(rule: type[Rule], fault: Fault | None, late: bool = False) -> type[Rule]:
    """A class like a rule that has a fault while it steps; it is registered nowhere.

    It is of the rule's module, so that nothing but the diagnosis judges the fault: the proof of
    somebody's own rule would refuse it.

    Args:
        rule: the rule's class.
        fault: what is planted while it steps.
        late: whether every gradient is that of the step before; zero at first.
    """
    faults = () if fault is None else (fault,)

    def init(self: Any, params: Any) -> Any:
        with planted(*faults):
            return rule.init(self, params)

    def update(self: Any, grads: Any, params: Any, state: Any) -> Any:
        if late:
            zeros = {path: 0 * grad for path, grad in grads.items()}
            before = vars(self).get("_before", zeros) if state.step else zeros
            vars(self)["_before"], grads = grads, before
        with planted(*faults):
            return rule.update(self, grads, params, state)

    body = {"__module__": rule.__module__, "init": init, "update": update}
    return types.new_class(rule.__name__, (rule,), {"register": False}, lambda d: d.update(body))


class _Replaced:
    """A tree with some nodes replaced; the tree itself stays as it is."""

    def __init__(self, news: Mapping[Any, Any]) -> None:
        self.news = news

    def visit(self, node: Any) -> Any:
        """The node with its replacements; itself where there is none below it."""
        if isinstance(node, list):
            return [self.visit(item) for item in node]
        if not isinstance(node, ast.AST):
            return node
        if node in self.news:
            return self.news[node]
        return type(node)(
            **{name: self.visit(value) for name, value in ast.iter_fields(node)},
            **{name: getattr(node, name) for name in node._attributes if hasattr(node, name)},
        )


@cache
def _tree(function: FunctionType) -> Any:
    source = textwrap.dedent(inspect.getsource(function))
    tree: Any = ast.parse(source).body[0]
    ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)
    tree.decorator_list = []
    for node in ast.walk(tree):  # no fault is planted in annotations
        for name in {"annotation", "returns"} & {*node._fields}:
            setattr(node, name, ast.Constant(None))
    return tree


def _called(function: FunctionType) -> str:
    return f"{function.__module__.removeprefix('samestep.')} {function.__qualname__}"


def _compiled(function: FunctionType, tree: Any) -> CodeType:
    """The code of a tree with the same free variables; ``super()`` has one."""
    old = function.__code__
    own = function.__name__  # which it may call
    outer: Any = ast.parse(f"def outer({', '.join(old.co_freevars)}): global {own}").body[0]
    outer.body.append(tree)
    module = ast.fix_missing_locations(ast.Module([outer], []))
    code = compile(module, f"<fault in {Path(old.co_filename).name}>", "exec")
    for name in ("outer", own):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    if {*code.co_freevars} != {
        *old.co_freevars
    }:  # one that is not read any more is kept by naming it
        lost = [name for name in old.co_freevars if name not in code.co_freevars]
        kept: Any = ast.parse(f"({', '.join(lost)},)").body[0]
        again = _Replaced({}).visit(tree)
        again.body = [*again.body[:-1], ast.If(ast.Constant(False), [kept], []), again.body[-1]]
        return _compiled(function, again)
    return code


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that a module defines and whose source can be read."""
    for value in vars(module).values():
        own = getattr(value, "__module__", None) == module.__name__
        members = vars(value).values() if own and inspect.isclass(value) else (value,)
        for member in members:
            function = _bare(member)
            if (
                isinstance(function, FunctionType)
                and function.__module__ == module.__name__
                and function.__code__.co_filename == module.__file__
                and function.__name__.isidentifier()
            ):
                yield function


def _bare(member: Any) -> Any:
    """The function inside a property, a class method or a cache."""
    for name in ("fget", "func", "__func__", "__wrapped__"):
        if not inspect.isfunction(member):
            member = getattr(member, name, member)
    return member


def entered(run: Callable[[], Any], within: str = "samestep.") -> set[FunctionType]:
    """The functions of modules with that prefix that a call enters, nested ones by their outer."""
    codes: dict[int, CodeType] = {}  # by identity: codes of two functions may be equal

    def note(frame: Any, event: str, argument: Any) -> None:
        codes[id(frame.f_code)] = frame.f_code

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    known = _by_code(within)
    return {known[code] for code in codes if code in known}


def _by_code(within: str) -> dict[int, FunctionType]:
    found: dict[int, FunctionType] = {}
    for name, module in [*sys.modules.items()]:
        if name.startswith(within):
            for function in functions_of(module):
                for code in _nested(function.__code__):
                    found[id(code)] = function
    return found


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
