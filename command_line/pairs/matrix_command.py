"""``samestep parity --all``: every same-named pair of the libraries, as a matrix."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from samestep.command_line.pages import write_whole
from samestep.parity import SubjectError

from .command import AGREE, failing
from .matrix import Matrix, Watch, compare_all
from .matrix_page import matrix_page
from .matrix_text import markdown, print_matrix

__all__ = ["Wanted", "make"]


@dataclass(frozen=True)
class Wanted:
    """What is asked of the command."""

    only: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    write: Path | None = None
    """Where the Markdown goes."""
    html: Path | None = None
    as_json: bool = False
    traceback: bool = False

    @property
    def words(self) -> list[str]:
        """The command that makes the same matrix."""
        lists = {"--only": self.only, "--with": self.others}
        given = [word for name, values in lists.items() if values for word in (name, _list(values))]
        return ["samestep", "parity", "--all", *given]


def _list(values: tuple[str, ...]) -> str:
    return ",".join(values)


def make(wanted: Wanted) -> int:
    """Compare everything and show it; the exit code is 0 once that is done, whatever was found."""
    with failing(wanted.traceback) as code:
        with _progress() as watch:
            matrix = compare_all(wanted.only, wanted.others, wanted.words, watch)
        if not any(column.cells or column.dialects for column in matrix.columns):
            reasons = " ".join(text for column in matrix.columns for text in column.refused)
            raise SubjectError(f"there is no pair that can be compared. {reasons}")
        _show(wanted, matrix)
        code.append(AGREE)
    return code[0]


def _show(wanted: Wanted, matrix: Matrix) -> None:
    for out, text in ((wanted.write, markdown), (wanted.html, matrix_page)):
        if out is not None:
            write_whole(text(matrix), out)
            print(f"samestep parity: the matrix is in {out}", file=sys.stderr)
    if wanted.as_json:
        print(json.dumps(matrix.plain(), indent=2, allow_nan=False))
    else:
        print_matrix(Console(), matrix)


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar on stderr, where that is a terminal."""
    columns = (
        TextColumn("{task.description:50.50}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar as progress:
        task = progress.add_task("Importing the libraries", total=None)

        def watch(count: int, title: str) -> None:
            progress.update(task, total=count, advance=1, description=title)

        yield watch
