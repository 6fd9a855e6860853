"""Copies of a rule in which a piece of source is another: faults that leave the rule as it is.

Everything that a rule computes with is copied: its class and the classes that it inherits from,
and the functions of the modules that they use. The copies know each other only, so that a fault in
a function that all rules share is in the copy alone; the rule beside it computes what it did.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy

from samestep import parts, rule, vocabulary, weight_decay
from samestep.rule import Rule
from samestep.wrapper import Wrapper

__all__ = ["ANY", "Edit", "NoPlaceError", "copy_of"]

ANY = "*"
"""In place of a function's name: every function; the old text is then a word, wherever it is."""

Edit = tuple[str, str, str]
"""Name of a function, a text that is once in its source, and what is there instead."""

DERIVED = {"_hypers", "_slots", "_shared", "_shared_part", "__signature__", "dialects", "__doc__"}
"""What making a class gives it; a copy gets its own."""

STRANGERS = {"__dict__", "__weakref__", "__init_subclass__", "__module__"}


class NoPlaceError(LookupError):
    """A rule has no function with the text that an edit replaces."""


def copy_of(
    original: type[Rule], edits: Sequence[Edit], given: Mapping[str, Any] | None = None
) -> type[Rule]:
    """A copy of a rule's class with edits; it is registered nowhere.

    Args:
        original: the rule.
        edits: made wherever their text is, each in one function at least or not at all.
        given: names that the new source may use.

    Raises:
        NoPlaceError: there is no place for any of them.
    """
    copy = _Copy(original, edits, {"numpy": numpy, **(given or {})})
    if not copy.made:
        raise NoPlaceError(f"{original.__name__} has none of {[old for _, old, _ in edits]}")
    return copy.result


class _Copy:
    def __init__(
        self, original: type[Rule], edits: Sequence[Edit], given: Mapping[str, Any]
    ) -> None:
        self.edits, self.made = edits, 0
        classes = [base for base in original.__mro__ if issubclass(base, Rule)]
        names = {*_shared_modules(), *(base.__module__ for base in classes)}
        self.spaces = {name: {**vars(sys.modules[name]), **given} for name in names}
        self.functions: dict[Any, Any] = {}
        for name in names:
            for function in _functions(vars(sys.modules[name]), name):
                self.functions[function] = self._function(function, None)
        self.classes: dict[type, type] = {}
        for base in reversed(classes):
            self.classes[base] = self._class(base)
        for space in self.spaces.values():
            space.update({name: self._known(value) for name, value in space.items()})
        self.result: type[Rule] = self.classes[original]

    def _known(self, value: Any) -> Any:
        """The copy of what has been copied."""
        if inspect.isfunction(value):
            return self.functions.get(value, value)
        if inspect.ismodule(value) and value.__name__ in self.spaces:
            own = vars(value).items()
            return types.SimpleNamespace(**{n: self.functions.get(v, v) for n, v in own if _ok(v)})
        if not isinstance(value, type) or value in (Rule, Wrapper):
            return value
        return self.classes.get(value, value)

    def _class(self, base: type[Rule]) -> type:
        cell = types.CellType()
        bases = tuple(self.classes.get(b, b) for b in base.__bases__) if base is not Rule else ()
        body: dict[str, Any] = {}
        for name, value in vars(base).items():
            if name in STRANGERS | DERIVED or (base is Rule and not inspect.isfunction(value)):
                continue
            if base in (Rule, Wrapper) and name.startswith("__"):
                continue
            body[name] = self._member(value, cell)
        own = (base,) if base in (Rule, Wrapper) else ()  # what the copy still is one of
        made = types.new_class(
            base.__name__, (*bases, *own), {"register": False}, lambda space: space.update(body)
        )
        cell.cell_contents = made
        return made

    def _member(self, value: Any, cell: types.CellType) -> Any:
        if isinstance(value, property) and value.fget is not None:
            return property(self._function(value.fget, cell))
        return self._function(value, cell) if inspect.isfunction(value) else value

    def _function(self, function: Any, cell: types.CellType | None) -> Any:
        code = function.__code__
        for edit in self.edits:
            code = self._edited(function, code, edit)
        closure = tuple(cell for _ in code.co_freevars if cell) or function.__closure__
        space = self.spaces.get(function.__module__, function.__globals__)
        made = types.FunctionType(
            code, space, function.__name__, function.__defaults__, closure if cell else None
        )
        made.__kwdefaults__ = function.__kwdefaults__
        return made

    def _edited(self, function: Any, code: types.CodeType, edit: Edit) -> types.CodeType:
        where, old, _ = edit
        if where not in (ANY, function.__name__) or not _holds(_source(function), old, where):
            return code
        self.made += 1
        here = [e for e in self.edits if e[0] in (ANY, function.__name__)]
        return _compiled(function, tuple(e for e in here if _holds(_source(function), e[1], e[0])))


def _ok(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@cache
def _shared_modules() -> tuple[str, ...]:
    prefix = f"{parts.__name__}."
    own = [name for name in sys.modules if name.startswith(prefix)]
    return (vocabulary.__name__, weight_decay.__name__, rule.__name__, *own)


def _functions(space: Mapping[str, Any], module: str) -> Iterator[Callable[..., Any]]:
    for value in space.values():
        if inspect.isfunction(value) and value.__module__ == module and value.__closure__ is None:
            yield value


@cache
def _source(function: Any) -> str:
    if function.__name__ == "<lambda>":
        return ""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        return ""
    return source[source.index("def ") :]


def _holds(source: str, old: str, where: str) -> bool:
    return bool(_word(old).search(source)) if where == ANY else source.count(old) == 1


@cache
def _word(old: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.]){re.escape(old)}(?!\w)")


@cache
def _compiled(function: Any, edits: tuple[Edit, ...]) -> types.CodeType:
    """The code of a function with edits, its ``super()`` looking for a class of its own."""
    source = _source(function)
    for where, old, new in edits:
        source = _word(old).sub(new, source) if where == ANY else source.replace(old, new)
    name = function.__name__
    text = f"def made(__class__):\n{textwrap.indent(source, '    ')}\n    return {name}"
    space: dict[str, Any] = {}
    exec(compile(text, f"<{name} with a fault>", "exec"), space)
    code: types.CodeType = space["made"](None).__code__
    return code
