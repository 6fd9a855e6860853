"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

__all__ = ["LARGE", "busy", "counted", "counting", "training", "watched"]

Watch = Callable[[str, str, Iterator[Any]], Iterator[Any]]
LARGE = 1 << 26
"""Bytes from which on a bar is shown."""


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show a text on stderr until the work is done, if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@contextmanager
def watched(doing: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; it yields a function of the bytes done and all bytes."""
    console = Console(stderr=True)
    if total < LARGE or not console.is_terminal:
        yield lambda _, __: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def counting() -> tuple[ProgressColumn, ...]:
    """The columns of a bar that counts: the bar, how many of how many, and the time."""
    return BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()


@contextmanager
def counted(doing: str) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr; it yields a function of the count and the name of a finished item."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:50.50}"), *counting())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar as progress:
        task = progress.add_task(doing, total=None)

        def watch(count: int, title: str) -> None:
            progress.update(task, total=count, advance=1, description=title)

        yield watch


@contextmanager
def training(totals: Mapping[str, int]) -> Iterator[Watch]:
    """A bar per framework, with its loss and its present work.

    Args:
        totals: the number of steps of each framework.

    Yields:
        A function of a framework, a text and steps, which passes the steps on and counts them.
    """
    columns = (
        TextColumn("{task.description:6}"),
        *counting(),
        TextColumn("{task.fields[loss]}  {task.fields[doing]}"),
    )
    with Progress(*columns) as progress:
        tasks = {
            name: progress.add_task(name, start=False, total=total, loss="", doing="")
            for name, total in totals.items()
        }

        def watch(framework: str, doing: str, run: Iterator[Any]) -> Iterator[Any]:
            task = tasks[framework]
            progress.start_task(task)
            progress.update(task, doing=doing)
            for step in run:
                if (loss := getattr(step, "loss", None)) is not None:
                    progress.update(task, loss=f"loss {loss:.4f}")
                progress.advance(task)
                yield step
            progress.update(task, doing="")

        yield watch
