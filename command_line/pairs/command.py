"""``samestep parity A B``: whether two optimizers take the same steps, and why not."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from samestep.command_line.pages import write_whole
from samestep.parity import Comparison, Subject, SubjectError, compared, subject

from .account import Account
from .as_json import as_json
from .given import arguments
from .page import page
from .quiet import aside, busy
from .terminal import print_account

__all__ = ["AGREE", "DIFFER", "FAILED", "INTERRUPTED", "Asked", "compare", "failing"]

AGREE, DIFFER, FAILED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""

NAMED = "name one as in torch.optim.AdamW, optax.adan, samestep:Adan or file.py:MyOptimizer"
ARGUED = "--set {side}.NAME=VALUE gives it what it needs; --traceback shows where it failed"


@dataclass(frozen=True)
class Asked:
    """What is asked of the command."""

    names: tuple[str, str]
    settings: tuple[str, ...] = ()
    """Arguments: ``a.lr=1e-3``, ``b.eps=1e-8``, or ``lr=1e-3`` for both."""
    how: dict[str, Any] = field(default_factory=dict)
    """``steps``, ``seed``, ``dtype`` and ``ulp`` of ``samestep.parity.compared``, if given."""
    html: Path | None = None
    """Where the page goes."""
    as_json: bool = False
    traceback: bool = False

    @property
    def words(self) -> list[str]:
        """The command that asks for the same comparison."""
        settings = [word for setting in self.settings for word in ("--set", setting)]
        how = [word for name, value in self.how.items() for word in (f"--{name}", str(value))]
        return ["samestep", "parity", *self.names, *settings, *how]


def compare(asked: Asked) -> int:
    """Compare two subjects, show what was found, and return the exit code."""
    with failing(asked.traceback) as code:
        with busy(f"Comparing {asked.names[0]} and {asked.names[1]}"), aside(asked.traceback):
            account = Account(_found(asked), asked.words)
        if asked.html is not None:
            write_whole(page(account), asked.html)
            print(f"samestep parity: the page is in {asked.html}", file=sys.stderr)
        if asked.as_json:
            print(as_json(account))
        else:
            print_account(Console(), account)
        code.append(AGREE if account.agree else DIFFER)
    return code[0]


@contextmanager
def failing(shows_traceback: bool) -> Iterator[list[int]]:
    """Say in a sentence what went wrong; the list that is given has the exit code first."""
    code: list[int] = []
    try:
        yield code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("samestep parity: interrupted", file=sys.stderr)
        code.insert(0, INTERRUPTED)
    except Exception as error:
        if shows_traceback:
            traceback.print_exception(error)
        known = isinstance(error, (SubjectError, OSError))
        text = str(error) if known else f"it failed with {type(error).__name__}: {error}"
        print(f"samestep parity: {' '.join(text.split())}", file=sys.stderr)
        code.insert(0, FAILED)


def _found(asked: Asked) -> Comparison:
    if os.getcwd() not in sys.path:  # for modules beside which the command is given
        sys.path.append(os.getcwd())
    sides = zip(asked.names, arguments(asked.settings), "ab", strict=True)
    a, b = (_subject(*side) for side in sides)
    try:
        return compared(a, b, **asked.how)
    except SubjectError as error:
        side = next((s for s, one in zip("ab", (a, b), strict=True) if _of(one, error)), "")
        advised = not side or "try " in str(error)
        advice = "" if advised else f"; {ARGUED.format(side=side)}"
        raise SubjectError(f"{error}{advice}") from error
    except SystemExit as error:
        raise SubjectError(f"one of them ended the program ({error})") from error


def _of(one: Subject, error: SubjectError) -> bool:
    return str(error).startswith(f"{one.name} ")


def _subject(name: str, given: dict[str, Any], side: str) -> Subject:
    try:
        return subject(name, **given)
    except SubjectError as error:
        text = str(error)
        advised = "cannot be imported" not in text or "Did you mean" in text
        raise SubjectError(text if advised else f"{text}; {NAMED}") from error
    except (Exception, SystemExit) as error:  # what it raises while it is imported
        what = f"{type(error).__name__}: {error}"
        raise SubjectError(f"{name} cannot be imported: {what}; {NAMED}") from error
