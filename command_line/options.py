"""Options, and checks of arguments, that several commands share."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from samestep.spelling import unknown

__all__ = [
    "FILE",
    "NOT_A_FOLDER",
    "Finite",
    "as_json",
    "known_names",
    "literal",
    "names",
    "refuse_missing_folder",
    "refusing",
]

FILE = click.Path(path_type=Path)
NOT_A_FOLDER = click.Path(dir_okay=False, path_type=Path)
FRAMEWORKS = {"torch": "torch", "jax": "jax", "optax": "jax", "mlx": "mlx"}
"""The extra that installs each framework, by import name."""

as_json: Callable[..., Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of text."
)


class Finite(click.FloatRange):
    """A number within a range that is neither NaN nor infinite."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number.

        Raises:
            click.BadParameter: the value is not finite, not a number, or not within the range.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def names(text: str | None) -> tuple[str, ...]:
    """The names in ``NAME,NAME,...``."""
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def known_names(kind: str, text: str, known: Sequence[str], option: str = "") -> list[str]:
    """The names in ``NAME,NAME,...``; all of them must be known.

    Raises:
        click.UsageError: one of them is not.
    """
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in known:
            said = f"--{option}: " if option else ""
            raise click.UsageError(f"{said}{unknown(kind, name, [*known])}")
    return found


def literal(text: str) -> Any:
    """The value that Python reads in a text, or else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def refuse_missing_folder(option: str, out: Path | None) -> None:
    """Refuse a file in a folder that does not exist.

    Raises:
        click.UsageError: there is no such folder.
    """
    if out is not None and not out.parent.is_dir():
        raise click.UsageError(f"{option}: there is no folder {out.parent}")


@contextmanager
def refusing() -> Iterator[None]:
    """Turn an error about a file into a sentence and the exit code 1."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in FRAMEWORKS:
            raise
        raise click.ClickException(
            f'this needs {name}, which is not installed: pip install "samestep[{FRAMEWORKS[name]}]"'
        ) from None
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise click.ClickException(text) from None
    except (TypeError, ValueError) as error:
        raise click.ClickException(" ".join(str(error).split())) from None
