"""Dialects: the computation of each library under a rule's name.

    samestep.Adam(like="keras")        # eps = 1e-7, added before the correction; decoupled decay

A dialect reproduces the defaults and the faults of a library, but not its rounding. It consists of
values of the rule's fields and of quirks, which replace a step of the arithmetic. An argument of
the constructor goes before the dialect's value.

Each library is a module here, with its quirks. ``OF`` is the library's name for a rule, ``PRESETS``
has the dialect of each rule. ``like=`` takes the module's name, or its ``NAME``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from samestep.declaration import Hyper, Option
from samestep.quirks import Quirk

__all__ = ["Preset", "chosen", "preset", "presets", "quirks", "refuse", "values"]

FIRST = ("torch", "optax", "mlx", "keras", "paper")
"""The dialects that are named before the others."""


@dataclass(frozen=True)
class Preset:
    """One library's computation: the values of fields that differ from the rule's defaults."""

    values: dict[str, Any]
    note: str
    """The library's oddity, in a few words."""
    of: str
    """The library's own name for it, with its arguments where they select an algorithm."""
    quirks: tuple[Quirk, ...] = ()
    """The library's replacements of steps of the arithmetic."""

    @property
    def shown(self) -> dict[str, Any]:
        """The values, and the names of the quirks if there are any."""
        return self.values | ({"quirks": self.quirk_names} if self.quirks else {})

    @property
    def quirk_names(self) -> tuple[str, ...]:
        """The names of its quirks."""
        return tuple(sorted(quirk.name for quirk in self.quirks))

    def named(self, dialect: str, rule: str) -> Preset:
        """A copy with the library's usual name for the rule, if it has no other."""
        module = libraries().get(dialect)
        usual = dialect if module is None else module.OF
        return replace(self, of=self.of or usual.format(rule=rule, lower=rule.lower()))


def preset(
    note: str = "", /, *, of: str = "", quirks: tuple[Quirk, ...] = (), **values: Any
) -> Preset:
    """Declare a dialect of a rule.

    Args:
        note: the library's oddity, in a few words.
        of: the library's name for the rule, if it is not the usual one.
        quirks: replacements of steps of the arithmetic.
        values: hyperparameters and options that differ from the rule's defaults.
    """
    return Preset(values, note, of, quirks)


def values(rule: Any) -> dict[str, dict[str, Any]]:
    """The values of every dialect of a rule class, in the order of names.

    If any dialect has quirks, every dialect sets them, so that one replaces those of another.
    """
    reset = {"quirks": ()} if rule.quirks_known() else {}
    return {name: {**reset, **item.shown} for name, item in sorted(rule.dialects.items())}


def chosen(rule: str, presets: Mapping[str, dict[str, Any]], like: Any) -> dict[str, Any]:
    """The values of the dialect ``like``; empty if it is ``None``.

    Args:
        rule: name of the rule, for the message.
        presets: the values of every dialect of the rule.
        like: the argument of the constructor.

    Raises:
        ValueError: the rule has no such dialect.
    """
    if like is None:
        return {}
    if not isinstance(like, str) or like not in presets:
        raise ValueError(
            f"{rule}(like={like!r}): there is no such dialect; {rule} has "
            + (", ".join(map(repr, presets)) or "none")
        )
    return presets[like]


def refuse(rule: str, dialects: Mapping[str, Preset], fields: Mapping[str, Hyper | Option]) -> None:
    """Raise for a dialect that sets an unknown field, or a value that the field does not allow."""
    for dialect, item in dialects.items():
        for name, value in item.values.items():
            if name not in fields:
                raise TypeError(f"{rule}: dialect {dialect!r} sets {name}, which is no field")
            fields[name].validated(f"{rule}(like={dialect!r})", value)


@cache
def libraries() -> dict[str, ModuleType]:
    """The modules of libraries, by the name that ``like=`` takes."""
    modules = [import_module(f"{__name__}.{info.name}") for info in iter_modules(__path__)]
    found = {str(getattr(m, "NAME", m.__name__.rpartition(".")[2])): m for m in modules}
    return {
        name: found[name] for name in sorted(found, key=lambda n: (n not in FIRST, _place(n), n))
    }


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def presets(rule: str) -> dict[str, Preset]:
    """The dialects that libraries have of a rule of the package."""
    found = {name: module.PRESETS.get(rule) for name, module in libraries().items()}
    return {name: item for name, item in found.items() if item is not None}


@cache
def quirks(rule: str) -> tuple[Quirk, ...]:
    """The quirks that libraries have of a rule."""
    return tuple(quirk for quirk in _all() if rule in quirk.rules)


def _all() -> Iterator[Quirk]:
    for module in libraries().values():
        yield from (item for item in vars(module).values() if isinstance(item, Quirk))
