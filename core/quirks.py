"""What a library does otherwise than a rule: named replacements of one step of the arithmetic.

A rule file has the published algorithm. A ``Quirk`` says, in words and in code, what somebody does
in place of one of its steps. Quirks are kept with the library that has them, in
``samestep.dialects``; ``like=`` and the comparison of optimizers use the same ones.

A quirk works on what every rule has, a user's own too:

numbers        the hyperparameters, as ``rule.lr`` in ``scalars``
coefficients   what the kernel reads as ``s``: ``with_coefficients``
calls          functions of the vocabulary and of ``samestep.parts`` that it calls: ``with_calls``
methods        what its author writes: ``scalars``, ``direction``, ``local``, ``combine``
slots          the arrays of ``state``: ``changed(state, m=...)`` is a state with another m
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

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
"""From the class as it is to what a class derived from it defines otherwise."""

HOOKS = ("scalars", "direction", "local", "combine")
"""The methods of an author's in which calls are replaced."""


@dataclass(frozen=True)
class Quirk:
    """One step of a rule's arithmetic, done otherwise."""

    name: str
    says: str
    """What a side with it does, after its name; braces are filled with the rule's numbers."""
    instead: str
    """What a side without it does."""
    methods: Methods | tuple[Methods, ...] | None = None
    """What it does; the calls that it replaces are replaced first."""
    rules: tuple[str, ...] = ()
    """Names of the rules that it is a quirk of."""
    formerly: tuple[str, Any, Any] | None = field(default=None, compare=False)
    """The option that it once was, its value, and the value without it; old states have them."""
    changes_state: bool = False
    """Whether a slot holds another quantity with it."""

    def said(self, rule: Rule) -> tuple[str, str]:
        """What a rule with it does, and what one without it does, with the numbers of a rule."""
        return filled(self.says, rule), filled(self.instead, rule)


def filled(text: str, rule: Rule) -> str:
    """A text with the numbers of a rule in its braces; ``complement`` is 1 - beta2."""
    numbers = rule.hypers
    betas = numbers.get("betas", ())
    return text.format(**numbers, complement=1 - betas[1] if len(betas) > 1 else 0.0)


def changed(record: Any, /, **values: Any) -> Any:
    """A ``state`` or an ``s`` with other values, for what a quirk hands on."""
    found = type(record)({})
    vars(found).update({**vars(record), **values})
    return found


def with_coefficients(
    change: Callable[[Any, dict[str, Any]], dict[str, Any]], by: int = 0
) -> Methods:
    """Other coefficients of a step, or those of another step; no step comes before the first."""

    def methods(cls: Any) -> dict[str, Any]:
        def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
            return change(self, cls.coefficients(self, xp, max(t + by, 1) if by else t))

        return {"coefficients": coefficients}

    return methods


@dataclass(frozen=True)
class Calls:
    """Methods that call other functions; made by ``with_calls``."""

    instead: tuple[tuple[Any, Callable[[Any], Any]], ...]

    def __call__(self, cls: Any) -> dict[str, Any]:
        """The methods of a class that have to be others for it."""
        known = dict(self.instead)
        hooks = {name: getattr(cls, name) for name in HOOKS}
        made = {name: _rewired(hook, known) for name, hook in hooks.items()}
        return {name: hook for name, hook in made.items() if hook is not hooks[name]}


def with_calls(instead: Mapping[Any, Callable[[Any], Any]]) -> Methods:
    """Another function wherever the rule calls one, itself or through ``samestep.parts``.

    Args:
        instead: by function what makes the other from it, as it is called now.
    """
    return Calls(tuple(instead.items()))


def calls(rule: Any, function: Any) -> bool:
    """Whether the arithmetic of a rule calls a function, itself or through ``samestep.parts``."""
    return bool(with_calls({function: partial})(rule))


def _rewired(function: Any, instead: Mapping[Any, Callable[[Any], Any]]) -> Any:
    """A copy of a function that calls others; the function itself where it calls none of them."""
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
    """The function that this one stands for."""
    return getattr(function, "__wrapped__", function)


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names in a function and in those inside it."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def applied(rule: type[Rule], quirks: Iterable[Quirk]) -> type[Rule]:
    """The class with quirks, which is registered nowhere; the same class for the same quirks."""
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


@cache
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
    """The quirks of a rule that have these names.

    Raises:
        ValueError: it has no such quirk.
    """
    known = {quirk.name: quirk for quirk in rule.published().quirks_known()}
    listed = isinstance(names, (tuple, list))
    if not listed or any(not isinstance(name, str) or name not in known for name in names):
        raise ValueError(
            f"{rule.__name__}(quirks={names!r}): it must be a tuple of quirks; {rule.__name__} has "
            + (", ".join(map(repr, known)) or "none")
        )
    return tuple(known[name] for name in dict.fromkeys(names))


def updated(rule: type[Rule], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a rule that were saved when some of its quirks were options, as they are now."""
    found, fields, quirks = dict(values), rule.fields(), list(values.get("quirks", ()))
    for quirk in rule.quirks_known():
        option, value, without = quirk.formerly or ("", None, None)
        if option in found and found[option] == value and found[option] is not without:
            quirks.append(quirk.name)
            found[option] = without
        if option in found and option not in fields and found[option] == without:
            del found[option]
    return found | ({"quirks": tuple(quirks)} if quirks else {})
