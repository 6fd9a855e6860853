"""Quirks: named replacements of one step of a rule's arithmetic, as some library has it.

A rule file has the published algorithm. A ``Quirk`` describes the replacement in words and in code.
It is kept with its library, in ``samestep.dialects``; ``like=`` and the comparison of optimizers
use the same quirks.

A quirk can replace parts of any rule, of a user's rule too:

coefficients   the ``s`` of the kernel: ``with_coefficients``
calls          functions of the vocabulary and of ``samestep.parts``: ``with_calls``
methods        ``scalars``, ``direction``, ``local``, ``combine``
slots          the arrays of ``state``: ``changed(state, m=...)`` is a state with another m
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from .once import once

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "Calls",
    "Methods",
    "Quirk",
    "applied",
    "calls",
    "changed",
    "filled",
    "named",
    "updated",
    "with_calls",
    "with_coefficients",
]

Methods = Callable[[Any], Mapping[str, Any]]
"""From a class to the members that a derived class defines in another way."""

RENAMED = {"clip_layout": "layout", "center_layout": "layout"}
"""The names of options in old states, and their names now."""
HOOKS = ("scalars", "direction", "local", "combine")
"""The methods in which calls are replaced."""


@dataclass(frozen=True)
class Quirk:
    """A replacement of one step of a rule's arithmetic."""

    name: str
    says: str
    """What a rule with it does, after its name; braces are filled with the rule's numbers."""
    instead: str
    """What a rule without it does."""
    methods: Methods | tuple[Methods, ...] | None = None
    """The replacements; calls are replaced first."""
    rules: tuple[str, ...] = ()
    """Names of its rules."""
    formerly: tuple[str, Any, Any] | None = field(default=None, compare=False)
    """The option that it was in old states, its value, and the value without the quirk."""
    changes_state: bool = False
    """Whether some slot holds another quantity."""

    def said(self, rule: Rule) -> tuple[str, str]:
        """``says`` and ``instead``, filled with the numbers of a rule."""
        return filled(self.says, rule), filled(self.instead, rule)


def filled(text: str, rule: Rule) -> str:
    """A text with a rule's numbers in its braces; ``complement`` is 1 - beta2."""
    numbers = rule.hypers
    betas = numbers.get("betas", ())
    return text.format(**numbers, complement=1 - betas[1] if len(betas) > 1 else 0.0)


def changed(record: Any, /, **values: Any) -> Any:
    """A ``state`` or an ``s`` with other values."""
    found = type(record)({})
    vars(found).update({**vars(record), **values})
    return found


def with_coefficients(
    change: Callable[[Any, dict[str, Any]], dict[str, Any]], by: int = 0
) -> Methods:
    """Changed coefficients, of the step ``by`` steps later, but of step 1 at least."""

    def methods(cls: Any) -> dict[str, Any]:
        def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
            return change(self, cls.coefficients(self, xp, max(t + by, 1) if by else t))

        return {"coefficients": coefficients}

    return methods


@dataclass(frozen=True)
class Calls:
    """The result of ``with_calls``."""

    instead: tuple[tuple[Any, Callable[[Any], Any]], ...]

    def __call__(self, cls: Any) -> dict[str, Any]:
        """The rewritten methods of a class."""
        known = dict(self.instead)
        hooks = {name: getattr(cls, name) for name in HOOKS}
        made = {name: _rewired(hook, known) for name, hook in hooks.items()}
        return {name: hook for name, hook in made.items() if hook is not hooks[name]}


def with_calls(instead: Mapping[Any, Callable[[Any], Any]]) -> Methods:
    """Replace functions that a rule calls, itself or through ``samestep.parts``.

    Args:
        instead: for each function, a callable that makes its replacement from it.
    """
    return Calls(tuple(instead.items()))


def calls(rule: Any, function: Any) -> bool:
    """Whether a rule calls a function, itself or through ``samestep.parts``."""
    return bool(with_calls({function: partial})(rule))


def _rewired(function: Any, instead: Mapping[Any, Callable[[Any], Any]]) -> Any:
    """A copy of a function with calls replaced; the function itself if it makes no such call."""
    if not isinstance(function, types.FunctionType):
        return function
    found: dict[str, Any] = {}
    for name in _names(function.__code__):
        now = function.__globals__.get(name)
        of = _original(now)
        if isinstance(now, (types.FunctionType, partial)) and of in instead:
            found[name] = _marked(instead[of](now), of)
        elif getattr(of, "__module__", "").startswith(("samestep.parts.", "samestep.vocabulary")):
            other = _rewired(now, instead)
            found |= {} if other is now else {name: other}
    if not found:
        return function
    made = types.FunctionType(
        function.__code__,
        {**function.__globals__, **found},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return _marked(made, _original(function))


def _marked(function: Any, of: Any) -> Any:
    function.__wrapped__ = of
    return function


def _original(function: Any) -> Any:
    """The function that this one replaces."""
    return getattr(function, "__wrapped__", function)


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names in a function and in the functions inside it."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def applied(rule: type[Rule], quirks: Iterable[Quirk]) -> type[Rule]:
    """The class with quirks, not registered; the same quirks in one order give one class."""
    wanted = tuple(quirks)
    parts = [part for quirk in wanted for part in _parts(quirk)]
    parts.sort(key=lambda part: not isinstance(part, Calls))
    known: Any = rule.published()
    made: type[Rule] = _applied(known, tuple(parts), tuple(sorted(q.name for q in wanted)))
    return made


def _parts(quirk: Quirk) -> tuple[Methods, ...]:
    if isinstance(quirk.methods, tuple):
        return quirk.methods
    return () if quirk.methods is None else (quirk.methods,)


@once
def _applied(rule: Any, parts: tuple[Methods, ...], names: tuple[str, ...]) -> Any:
    if not names:
        return rule
    made = _applied(rule, parts[:-1], names) if len(parts) > 1 else rule
    own = dict(parts[-1](made)) if parts else {}
    if parts and not isinstance(parts[-1], Calls):  # what it calls is replaced too
        for earlier in (part for part in parts if isinstance(part, Calls)):
            own = {name: _rewired(value, dict(earlier.instead)) for name, value in own.items()}
    body = {
        **{name: getattr(rule, name) for name in ("__module__", "__qualname__", "__doc__")},
        **own,
        "dialects": rule.dialects,
        "_published": rule,
        "quirks": names,
    }
    return types.new_class(rule.__name__, (made,), {"register": False}, lambda s: s.update(body))


def named(rule: type[Rule], names: Any) -> tuple[Quirk, ...]:
    """The quirks of a rule by name.

    Raises:
        ValueError: the rule has no such quirk.
    """
    known = {quirk.name: quirk for quirk in rule.published().quirks_known()}
    listed = isinstance(names, (tuple, list))
    absent = [name for name in names if name not in [*known]] if listed else [names]
    if absent:
        raise ValueError(
            f"{rule.__name__}(quirks={names!r}): "
            + (f"there is no quirk {absent[0]!r}" if listed else "it must be a tuple of quirks")
            + f"; {rule.__name__} has {', '.join(map(repr, known)) or 'none'}"
        )
    found = tuple(known[name] for name in sorted({*names}))
    for quirk in found:
        _refuse_idle(rule.published(), quirk)
    return found


@cache
def _refuse_idle(rule: type[Rule], quirk: Quirk) -> None:
    """Raise if a rule does not call what a quirk replaces, so that nothing would change."""
    for part in _parts(quirk):
        if isinstance(part, Calls) and not part(rule):
            replaced = ", ".join(function.__name__ for function, _ in part.instead)
            raise ValueError(
                f"{rule.__name__}: the quirk {quirk.name!r} replaces {replaced}, which is not "
                f"called by name in {', '.join(HOOKS)} of {rule.__name__} or in samestep.parts"
            )


def updated(rule: type[Rule], values: Mapping[str, Any]) -> dict[str, Any]:
    """Saved values of a rule, with options and quirks in place of those that they were then."""
    fields, quirks = rule.fields(), list(values.get("quirks", ()))
    found = {RENAMED.get(name, name): value for name, value in values.items()}
    for quirk in rule.quirks_known():
        option, value, without = quirk.formerly or ("", None, None)
        if option in found and found[option] == value and found[option] is not without:
            quirks.append(quirk.name)
            found[option] = without
        if option in found and option not in fields and found[option] == without:
            del found[option]
    return found | ({"quirks": tuple(sorted(quirks))} if quirks else {})
