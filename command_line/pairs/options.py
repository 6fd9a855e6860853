"""The options of ``samestep parity``: those of a pair, and those of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .command import Asked, compare
from .matrix_command import Wanted, make

__all__ = ["run"]

PAIR = ("settings", "steps", "seed", "dtype", "ulp")
MATRIX = ("only", "others", "write")
SPELLED = {"settings": "set", "others": "with"}


def run(every: bool, **asked: Any) -> int:
    """Do what is asked, and return the exit code.

    Raises:
        UsageError: options that do not go together, or a file in no folder.
    """
    _refuse(asked, PAIR if every else MATRIX, "--all" if every else "a pair")
    for name in ("html", "write"):
        out: Path | None = asked[name]
        if out is not None and not out.parent.is_dir():
            raise click.UsageError(f"--{name} {out}: there is no folder {out.parent}")
    shared = {name: asked[name] for name in ("html", "as_json", "traceback")}
    if every:
        if asked["a"]:
            raise click.UsageError(f"--all compares every pair; it takes no {asked['a']!r}")
        only, others = _listed(asked["only"]), _listed(asked["others"])
        return make(Wanted(only, others, write=asked["write"], **shared))
    for name in ("a", "b"):
        if not asked[name]:
            raise click.UsageError(f"Missing argument '{name.upper()}'.")
    how = {name: asked[name] for name in PAIR[1:] if asked[name] is not None}
    return compare(Asked((asked["a"], asked["b"]), asked["settings"], how, **shared))


def _refuse(asked: Mapping[str, Any], names: tuple[str, ...], mode: str) -> None:
    for name in names:
        if asked[name] not in (None, ()):
            raise click.UsageError(f"--{SPELLED.get(name, name)} is not for {mode}")


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))
