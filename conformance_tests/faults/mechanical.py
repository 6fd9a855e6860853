"""Every single fault of the mechanical kinds, at every place of a function."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from types import FunctionType
from typing import Any

from samestep.declaration import Hyper
from samestep.rule import registry

from .mutation import Change, Fault, Pattern, placed

__all__ = ["faults_in"]

MISTAKES = {
    "sign flipped": ("A + B => A - B", "A - B => A + B"),
    "last term dropped": ("A + B => A", "A - B => A"),
    "first term dropped": ("A + B => B",),
    "last factor dropped": ("A * B => A", "A / B => A", "A ** B => A", "A // B => A", "A % B => A"),
    "first factor dropped": ("A * B => B",),
    "eps inside the root": ("A + X.eps => xp.sqrt(A ** 2 + X.eps)",),
    "turned round": (
        *("A > B => A < B", "A < B => A > B", "A >= B => A < B", "A <= B => A > B"),
        *("A == B => A != B", "A != B => A == B", "A is B => A is not B", "A is not B => A is B"),
    ),
    "limit moved": ("A > B => A >= B", "A < B => A <= B", "A >= B => A > B", "A <= B => A < B"),
    "once more": ("A == 1 => A <= 2",),
    "always": (
        *("A if C else B => A", "xp.where(C, A, B) => A", "choose(X, C, A, B) => A"),
        *("A and B => A", "not A => A"),
    ),
    "never": (
        *("A if C else B => B", "xp.where(C, A, B) => B", "choose(X, C, A, B) => B"),
        *("A and B => B", "A & B => A", "A | B => A", "A & B => B"),
    ),
    "other extreme": (
        *("xp.maximum(A, B) => xp.minimum(A, B)", "xp.minimum(A, B) => xp.maximum(A, B)"),
        *("max(A, B) => min(A, B)", "min(A, B) => max(A, B)", "xp.max(A, **K) => xp.min(A, **K)"),
    ),
    "sum for mean": ("xp.mean(A, **K) => xp.sum(A, **K)",),
    "without axes": ("xp.sum(A, **K) => xp.sum(A)", "xp.max(A, **K) => xp.max(A)"),
    "no correction": ("debias(X, A, B) => 1.0",),
    "correction with cancellation": ("debias(X, A, B) => 1 - X.asarray(A, dtype=X.float32) ** B",),
    "call dropped": (
        *("sqrt(X, A) => A", "sign(X, A) => A", "xp.sqrt(A) => A", "xp.abs(A) => A"),
        *(
            "xp.clip(A, B, C) => A",
            "at_least(X, A, B) => A",
            "norm(X, A) => A",
            "ema(A, B, C) => B",
        ),
        *("cast(X, A, D) => A", "cast_like(X, A, B) => A", "debias(X, A, B) => A"),
    ),
    "old value kept": ("ema(A, B, C) => A",),
    "arguments swapped": (
        *("ema(A, B, C) => ema(B, A, C)", "choose(X, C, A, B) => choose(X, C, B, A)"),
        "over_root(X, A, B, C) => over_root(X, B, A, C)",
    ),
    "reversed": ("weights(A) => weights(A)[::-1]", "X.betas => X.betas[::-1]"),
    "decay dropped": ("X.weight_decay => (0 * X.weight_decay)",),
    "the other one": ("X[0] => X[1]", "X[1] => X[0]", "X[-1] => X[-2]"),
}
"""Patterns by what is wrong then."""

PATTERNS = [(words, Pattern(text)) for words, texts in MISTAKES.items() for text in texts]

SPOILT = """
try: pass
finally:
    for x in {0} if isinstance({0}, tuple) else ({0},):
        x += 1
"""
ARRAYS = ("grad", "param")
HELD = ("state", "shared")
"""Arguments that are arrays, and those whose attributes are."""
EARLIER = ("t", "step")
"""Arguments that count steps."""


def faults_in(functions: Collection[FunctionType], slots: Collection[str] = ()) -> Iterator[Fault]:
    """Every mechanical fault in the functions; ``slots`` names the state that they know."""
    yield from placed(functions, lambda node, function: _changes(node, function, slots))


def _changes(node: Any, function: FunctionType, slots: Collection[str]) -> Iterator[Change]:
    written = isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del))
    for words, pattern in () if written else PATTERNS:
        new = pattern.replaced(node)
        if new is not None:
            yield Change(f"{words} in {ast.unparse(node)}", node, new)
    yield from _in_numbers(node)
    yield from _in_names(node, function)
    yield from _in_state(node, function, slots)
    yield from _in_statements(node, function, slots)


def _in_numbers(node: Any) -> Iterator[Change]:
    match node:
        case ast.Attribute(ast.Name(), name, ast.Load()) if name in _numbers():
            yield _change("+1 %", node, f"(1.01 * {ast.unparse(node)})")
        case ast.Constant(bool() | str() | None):
            return
        case ast.Constant(int()) | ast.UnaryOp(ast.USub(), ast.Constant(int())):
            yield _change("one more", node, f"({ast.unparse(node)} + 1)")
        case ast.Constant(float()):
            yield _change("+1 %", node, f"(1.01 * {ast.unparse(node)})")
        case ast.Tuple(items, ast.Load()) if len(items) > 1:
            for item in items:
                rest = [other for other in items if other is not item]
                words = f"{ast.unparse(item)} left out of {ast.unparse(node)}"
                yield Change(words, node, ast.Tuple(rest, ast.Load()))


def _in_names(node: Any, function: FunctionType) -> Iterator[Change]:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    match node:
        case ast.Name(name, ast.Load()) if name in EARLIER and name in names:
            yield _change("one later", node, f"({name} + 1)")
        case ast.Name(name, ast.Load()) if name in ARRAYS and {*ARRAYS} <= {*names}:
            (other,) = {*ARRAYS} - {name}
            yield _change(f"{other} in its place", node, other)


def _in_state(node: Any, function: FunctionType, slots: Collection[str]) -> Iterator[Change]:
    match node:
        case ast.Attribute(ast.Name("state" | "shared" as held), name, ast.Load()) if name in slots:
            yield _change("forgotten", node, f"(0 * {held}.{name})")
            for other in [slot for slot in slots if slot != name][:1]:
                yield _change(f"{other} in its place", node, f"{held}.{other}")
        case ast.Dict(keys, values):
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            for key, value in zip(keys, values, strict=True):
                slot = str(key.value) if isinstance(key, ast.Constant) else None
                for holder in {*HELD} & {*names} if slot in slots else ():
                    yield _change(f"{slot} stale", value, f"{holder}.{slot}")
                    yield Change(f"{slot} in float32", value, _narrowed(value))


def _in_statements(node: Any, function: FunctionType, slots: Collection[str]) -> Iterator[Change]:
    match node:
        case ast.If(test, body) if not isinstance(body[0], ast.Raise):
            yield _change("always", test, "True")
            yield _change("never", test, "False")
        case ast.AugAssign() | ast.Expr(ast.Call()):
            yield Change(f"left out: {ast.unparse(node)}", node, ast.Pass())
        case ast.Return(ast.Tuple([first, _])) if {*ARRAYS} <= {*function.__code__.co_varnames}:
            yield _change("negated", first, f"-({ast.unparse(first)})")
            yield Change(f"{ast.unparse(first)}: in float32", first, _narrowed(first))
        case ast.FunctionDef(name=name) if name == function.__name__:
            names = function.__code__.co_varnames[: function.__code__.co_argcount]
            arrays = [array for array in ARRAYS if array in names]
            arrays += [f"state.{slot}" for slot in slots if "state" in names and arrays]
            for array in arrays if "xp" in names else ():
                spoilt: Any = ast.parse(SPOILT.format(array)).body[0]
                spoilt.body = node.body
                made = {**dict(ast.iter_fields(node)), "body": [spoilt]}
                yield Change(f"{array} written in place", node, ast.FunctionDef(**made))


def _change(words: str, old: ast.AST, new: str) -> Change:
    return Change(f"{ast.unparse(old)}: {words}", old, ast.parse(new, mode="eval").body)


def _narrowed(node: Any) -> Any:
    text = ast.unparse(node)
    return ast.parse(
        f"(lambda new: tuple(xp.astype(x, xp.float32) for x in new) if isinstance(new, tuple) "
        f"else xp.astype(new, xp.float32))({text})",
        mode="eval",
    ).body


@cache
def _numbers() -> frozenset[str]:
    """Names of the hyperparameters of all rules that are one number."""
    return frozenset(
        name
        for rule in registry.values()
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and not isinstance(field.default, tuple)
    )
