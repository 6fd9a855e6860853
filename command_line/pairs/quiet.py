"""Other people's code at work: what it prints and warns of does not spoil what is shown."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

from rich.console import Console

__all__ = ["aside", "busy"]


@contextmanager
def aside(warn: bool = False) -> Iterator[None]:
    """Send to stderr what is printed meanwhile, by C too, and drop warnings unless asked for."""
    kept = None
    with suppress(OSError):  # where there is no stdout at all
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            if not warn:
                warnings.simplefilter("ignore")
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Say on stderr what is going on, where that is a terminal, until it is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield
