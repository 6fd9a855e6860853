"""``samestep bench``: checks the arguments, measures, writes and prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from samestep.rule import registry
from samestep.spelling import unknown

from . import checkpoint as checkpoints
from . import report, run
from .libraries import COPY, LIBRARIES
from .models import MODELS
from .results import Results, judged, machine
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
"""Columns of the output to a file or a pipe."""


def bench(
    against: str,
    rounds: int | None,
    threads: int | None,
    quick: bool,
    out: Path,
    executions: str | None,
    read: Sequence[Path],
    checkpoint: bool = False,
    megabytes: int = 2000,
    **lists: str | None,
) -> None:
    """Measure, and write ``bench.jsonl``, ``bench.md``, ``bench.png`` and ``bench.svg``.

    ``read``: what earlier runs on one machine have measured is shown instead. ``checkpoint``:
    saving and loading so many megabytes is measured instead, in files of the folder ``out``.
    """
    if checkpoint:
        _checkpoint(out, megabytes, rounds or 5)
        return
    if read:
        _show(_together([_read(path) for path in read]), out)
        return
    known = {"rules": sorted(registry, key=str.casefold), "models": [*MODELS], "dtypes": [*DTYPES]}
    given: dict[str, Any] = {name: _names(name, lists[name], known[name]) for name in known}
    given["against"] = None if against == ALL else _names("against", against, [*LIBRARIES, COPY])
    with run.limited(threads):
        given["executions"] = executions and _names("executions", executions, run.executions())
        given |= {"rounds": rounds, "threads": threads}
        given = {name: value for name, value in given.items() if value is not None}
        _measure(run.Options.quick(**given) if quick else run.Options(**given), out)


def _checkpoint(out: Path, megabytes: int, rounds: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    about = machine(os.cpu_count() or 1)
    said = ", ".join(f"{name}: {value}" for name, value in about.items())
    rows = checkpoints.measure(out, megabytes, rounds)
    checkpoints.print_measured(_console(), megabytes, rows, said)


def _read(path: Path) -> Results:
    try:
        return Results.read(path)
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"--read: {path} is not what a run has written: {error}") from None


def _together(runs: Sequence[Results]) -> Results:
    """The rows of several runs, under the first one's machine."""
    names = dict.fromkeys(name for one in runs for name in one.libraries)
    has = {n: sorted({rule for one in runs for rule in one.libraries.get(n, ())}) for n in names}
    return replace(runs[0], libraries=has, rows=[judged(row) for one in runs for row in one.rows])


def _names(option: str, given: str | None, known: list[str]) -> list[str] | None:
    """The names that were given to an option, all of them known."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise click.UsageError(f"--{option}: {unknown(KINDS[option], name, known)}")
    return names


def _console() -> Console:
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    return console


def _measure(options: run.Options, out: Path) -> None:
    console = _console()
    results = run.prepared(options)
    total = len(run.cases(options))
    if not total:
        missing = f"; not installed: {', '.join(results.missing)}" if results.missing else ""
        raise click.UsageError(
            f"there is nothing to time: no rule that these libraries have{missing}"
        )
    out.mkdir(parents=True, exist_ok=True)
    with report.watching(console, total) as watch:
        run.run(options, results, out / "bench.jsonl", watch)
    _show(results, out)


def _show(results: Results, out: Path) -> None:
    console = _console()
    out.mkdir(parents=True, exist_ok=True)
    results.write(out / "bench.jsonl")
    report.print_results(console, results)
    (out / "bench.md").write_text(report.markdown(results), encoding="utf-8")
    report.draw(results, [out / "bench.png", out / "bench.svg"])
    click.echo((out / "bench.jsonl").resolve())
