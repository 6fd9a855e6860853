"""Dialects: what libraries compute under a rule's name.

    samestep.Adam(like="keras")        # eps = 1e-7, added before the correction; decoupled decay

A dialect reproduces what the library computes, in its defaults and its faults. It is made of values
of the rule's own fields and of quirks, which replace a step of the arithmetic; an argument given
beside ``like=`` goes before them. What a dialect does not take over is rounding: bias corrections
taken in float32, or hyperparameters cast to bfloat16.

Each library is a module here: ``OF`` is what it calls a rule, ``PRESETS`` has what it computes by
rule, and the quirks that it has stand before them. ``like=`` takes the module's name, or its
``NAME``.
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
    """What one library computes, as values of the rule's fields that differ from their defaults."""

    values: dict[str, Any]
    note: str
    """What the library does oddly, in a few words."""
    of: str
    """The library's own name for it, with its arguments where they select an algorithm."""
    quirks: tuple[Quirk, ...] = ()
    """What it does otherwise than the rule."""

    @property
    def shown(self) -> dict[str, Any]:
        """The values, and the names of the quirks if there are any."""
        return self.values | ({"quirks": self.quirk_names} if self.quirks else {})

    @property
    def quirk_names(self) -> tuple[str, ...]:
        """The names of its quirks."""
        return tuple(sorted(quirk.name for quirk in self.quirks))

    def named(self, dialect: str, rule: str) -> Preset:
        """The same with the library's usual name for the rule where none is given."""
        module = libraries().get(dialect)
        usual = dialect if module is None else module.OF
        return replace(self, of=self.of or usual.format(rule=rule, lower=rule.lower()))


def preset(
    note: str = "", /, *, of: str = "", quirks: tuple[Quirk, ...] = (), **values: Any
) -> Preset:
    """Declare a dialect of a rule.

    Args:
        note: what the library does oddly, in a few words.
        of: what is reproduced, where it is not what the library usually calls it.
        quirks: what the library does otherwise than the rule.
        values: hyperparameters and options that differ from the rule's defaults.
    """
    return Preset(values, note, of, quirks)


def values(rule: Any) -> dict[str, dict[str, Any]]:
    """The values of every dialect of a rule class, in the order of names.

    They have ``quirks`` where some library has any, so that one dialect replaces those of another.
    """
    reset = {"quirks": ()} if rule.quirks_known() else {}
    return {name: {**reset, **item.shown} for name, item in sorted(rule.dialects.items())}


def chosen(rule: str, presets: Mapping[str, dict[str, Any]], like: Any) -> dict[str, Any]:
    """The values of the dialect that ``like`` names; none where it is ``None``.

    Args:
        rule: name of the rule, for the message.
        presets: the values of every dialect that the rule has.
        like: the argument of that name, as a user gave it.

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
    """Refuse a dialect with a name that is no field, or a value that the field does not take."""
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
