"""``samestep bench``: what the command line asks for, checked, measured, written and printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from samestep.conformance.demo.listing import rules as listed
from samestep.conformance.demo.listing import unknown

from . import report, run
from .libraries import COPY, LIBRARIES
from .models import MODELS
from .traffic import DTYPES

__all__ = ["bench"]

ALL = "all"
KINDS = {
    "against": "library",
    "rules": "rule",
    "models": "model",
    "dtypes": "dtype",
    "executions": "execution",
}
"""What the options name."""
WIDE = 160
"""Columns of what is printed into a file or a pipe."""


def bench(
    against: str,
    rounds: int | None,
    threads: int | None,
    quick: bool,
    out: Path,
    executions: str | None,
    **lists: str | None,
) -> None:
    """Measure, and write ``bench.json``, ``bench.md``, ``bench.png`` and ``bench.svg``."""
    known = {"rules": listed(), "models": [*MODELS], "dtypes": [*DTYPES]}
    given: dict[str, Any] = {name: _names(name, lists[name], known[name]) for name in known}
    given["against"] = None if against == ALL else _names("against", against, [*LIBRARIES, COPY])
    with run.limited(threads):
        given["executions"] = executions and _names("executions", executions, run.executions())
        given |= {"rounds": rounds, "threads": threads}
        given = {name: value for name, value in given.items() if value is not None}
        _measure(run.Options.quick(**given) if quick else run.Options(**given), out)


def _names(option: str, given: str | None, known: list[str]) -> list[str] | None:
    """The names that were given to an option, all of them known."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise click.UsageError(f"--{option}: {unknown(KINDS[option], name, known)}")
    return names


def _measure(options: run.Options, out: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    results = run.prepared(options)
    total = len(run.cases(options))
    if not total:
        missing = f"; not installed: {', '.join(results.missing)}" if results.missing else ""
        raise click.UsageError(
            f"there is nothing to time: no rule that these libraries have{missing}"
        )
    out.mkdir(parents=True, exist_ok=True)
    with report.watching(console, total) as watch:
        run.run(options, results, out / "bench.json", watch)
    report.print_results(console, results)
    (out / "bench.md").write_text(report.markdown(results), encoding="utf-8")
    report.draw(results, [out / "bench.png", out / "bench.svg"])
    click.echo((out / "bench.json").resolve())
