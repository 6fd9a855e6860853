"""A bar for what takes a while, where somebody sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

__all__ = ["LARGE", "watched"]

LARGE = 1 << 26
"""Bytes from which on there is a bar."""


@contextmanager
def watched(doing: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Called with the bytes done and all there are; the bar goes away at the end."""
    console = Console(stderr=True)
    if total < LARGE or not console.is_terminal:
        yield lambda _, __: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done, of: progress.update(task, completed=done, total=of)
