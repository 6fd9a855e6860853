"""``samestep bench``: one optimizer step next to other libraries' own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from samestep.benchmarks.models import MODELS
from samestep.benchmarks.opponents import COPY, LIBRARIES
from samestep.benchmarks.results import Results, Row, concerns, judged, machine
from samestep.benchmarks.targets import TARGETS
from samestep.benchmarks.timing import Spread
from samestep.benchmarks.traffic import DTYPES
from samestep.command_line import options
from samestep.command_line.report import Block, Line, Report, Table, show
from samestep.rule import registry

if TYPE_CHECKING:
    from samestep.benchmarks.run import Options

__all__ = ["command"]

ALL = "all"


def _executions() -> list[str]:
    from samestep.benchmarks.run import executions

    return executions()


NAMED: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "against": ("library", lambda: [*LIBRARIES, COPY]),
    "rules": ("rule", lambda: sorted(registry, key=str.casefold)),
    "models": ("model", lambda: [*MODELS]),
    "dtypes": ("dtype", lambda: [*DTYPES]),
    "executions": ("execution", _executions),
}
"""The kind of thing that each option names, and a function for the known names."""
WIDE = 160
"""Columns of the output to a file or a pipe."""
FOLDER = click.Path(file_okay=False, path_type=Path)


def _named(option: str) -> Callable[..., Any]:
    """An option for names; by default it takes all known names."""
    what = NAMED[option][0].capitalize()
    return click.option(f"--{option}", metavar="NAME,...", help=f"{what}s; all by default.")


@click.command()
@click.option(
    "--against",
    default=ALL,
    show_default=True,
    metavar="NAME,NAME,...|all",
    help="Libraries; copy is a plain copy, for rules that none of them has.",
)
@_named("rules")
@_named("models")
@_named("dtypes")
@_named("executions")
@click.option("--rounds", type=click.IntRange(min=1), help="Steps per side; 15 by default.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores to use; all by default.")
@click.option("--quick", is_flag=True, help="One small model, two rules, three rounds.")
@click.option(
    "--out",
    default=Path("samestep-bench"),
    show_default=True,
    type=FOLDER,
    help="The folder for the figures and the picture.",
)
@click.option(
    "--read",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what earlier runs have measured (bench.jsonl; may be given several times).",
)
@click.option(
    "--checkpoint", is_flag=True, help="Time saving and loading instead, in the folder of --out."
)
@click.option(
    "--megabytes",
    default=2000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Size of the state, with --checkpoint.",
)
def command(
    out: Path,
    read: Sequence[Path],
    checkpoint: bool,
    megabytes: int,
    quick: bool,
    rounds: int | None,
    threads: int | None,
    **named: str | None,
) -> None:
    """Time one optimizer step next to other libraries' own, taking turns in one process.

    Prints a table and writes it with a picture. The figures so far are written after every row.
    """
    if checkpoint:
        show(_saving(out, megabytes, rounds or 5))
        return
    from samestep.benchmarks import drawing, run  # before a measurement that could not be drawn

    if read:
        _show(_together([_read(path) for path in read]), out, drawing.draw)
        return
    named["against"] = None if named["against"] == ALL else named["against"]
    with run.limited(threads):
        chosen = {
            name: options.known_names(NAMED[name][0], text, NAMED[name][1](), name)
            for name, text in named.items()
            if text is not None
        }
        counts = {"rounds": rounds, "threads": threads}
        given: Any = chosen | {name: n for name, n in counts.items() if n is not None}
        asked = run.Options.quick(**given) if quick else run.Options(**given)
        _show(_measured(asked, out), out, drawing.draw)


def _measured(asked: Options, out: Path) -> Results:
    """Measure; the file ``bench.jsonl`` in the folder has the rows so far."""
    from samestep.benchmarks import run

    results = run.prepared(asked)
    total = len(run.cases(asked))
    if not total:
        missing = f"; not installed: {', '.join(results.missing)}" if results.missing else ""
        raise click.UsageError(
            f"there is nothing to time: no rule that these libraries have{missing}"
        )
    out.mkdir(parents=True, exist_ok=True)
    with _watching(total) as watch:
        run.run(asked, results, out / "bench.jsonl", watch)
    return results


@contextmanager
def _watching(total: int) -> Iterator[Callable[[Row], None]]:
    """A progress bar that names the row being measured."""
    from rich.progress import Progress, TextColumn

    from samestep.command_line.progress import counting

    with Progress(*counting(), TextColumn("{task.fields[row]}")) as progress:
        task = progress.add_task("", total=total, row="")
        begun = 0

        def watch(row: Row) -> None:
            nonlocal begun
            progress.update(task, completed=begun, row=str(row))
            begun += 1

        yield watch
        progress.update(task, completed=begun, row="")


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


def _show(results: Results, out: Path, draw: Callable[[Results, Sequence[Path]], None]) -> None:
    """Print the results, and write them as data, as Markdown and as a picture."""
    out.mkdir(parents=True, exist_ok=True)
    results.write(out / "bench.jsonl")
    show(_report(results), write=out / "bench.md")
    draw(results, [out / "bench.png", out / "bench.svg"])
    click.echo((out / "bench.jsonl").resolve())


def _saving(out: Path, megabytes: int, rounds: int) -> Report:
    """How long saving and loading take."""
    from samestep.benchmarks import saving

    out.mkdir(parents=True, exist_ok=True)
    about = machine(os.cpu_count() or 1)
    cells = [
        (
            *(row.what, f"{row.milliseconds:,.0f}", row.beside, f"{row.copying:,.0f}"),
            *(_spread(row.ratio), f"{row.extra:,.1f}"),
        )
        for row in saving.measure(out, megabytes, rounds)
    ]
    numbers = ("ms", "ratio (quartiles)", "extra memory, MB")
    columns = ("what", "ms", "beside", "ms", "ratio (quartiles)", "extra memory, MB")
    title = f"{megabytes:,} MB of state of AdamW in torch"
    table = Table(columns, cells, title=title, right=numbers, frame="grid")
    said = ", ".join(f"{name}: {value}" for name, value in about.items())
    return Report([table, Line(said)], wide=WIDE)


def _spread(value: Spread | None) -> str:
    return "" if value is None else f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:,.{digits}g}" if value < 1000 else f"{value:,.0f}"


def _verdict(row: Row) -> str:
    words = []
    for verdict in row.verdicts:
        figure = "" if verdict.figure == "ratio" else f"{verdict.figure.replace('_', ' ')} "
        reached = "reached" if verdict.reached else "not reached"
        words.append(f"{figure}{verdict.at_most:g}: {reached}")
    return "; ".join(words)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "rule": lambda row: row.timed,
    "execution": lambda row: row.execution,
    "against": lambda row: row.against,
    "ms": lambda row: _number(row.ours_ms),
    "theirs": lambda row: _number(row.theirs_ms),
    "ratio": lambda row: "failed" if row.error else _spread(row.ratio),
    "to copy": lambda row: _spread(row.copy_ratio),
    "bytes": lambda row: _number(row.bytes_per_parameter, 4),
    "first s": lambda row: _number(row.first_seconds),
    "at most": _verdict,
}
"""The columns of the tables."""
NUMBERS = ("ms", "theirs", "bytes", "first s", "limit", "median")
SUMMARY = ("where", "rules", "models", "figure", "limit", "median", "highest", "reached")
"""The columns of the summary."""
FIGURES = {
    "ratio": "time / {}",
    "copy_ratio": "time / copy",
    "first_seconds": "seconds of the first step",
    "first_ratio": "first step / {}",
}
"""A target's figure in words."""
LEGEND = (
    "ms, theirs: medians of one step of ours and of theirs. ratio: ours to theirs, the median of "
    "paired ratios and its quartiles. to copy: ours to a plain copy of the bytes that the rule "
    "must move. bytes: those, per parameter. first s: seconds of our first step, which compiles. "
    "at most: the target, for the ratio unless another figure is named."
)


def _report(results: Results) -> Report:
    """The rows, the targets and how many rows reach them, and the libraries."""
    where, summary = results.machine, _summary(results)
    versions = ", ".join(f"{name} {found}" for name, found in where.get("versions", {}).items())
    said = (
        f"{where['processor']}, {where['threads']} threads, {where['system']}, "
        f"Python {where['python']}; {versions}; commit {where.get('commit') or 'unknown'}."
    )
    blocks: list[Block] = [Line(said), _table("", SUMMARY, summary, on="markdown")]
    for title, rows in _by_model(results).items():
        cells = [[cell(row) for cell in COLUMNS.values()] for row in rows]
        blocks.append(_table(title, [*COLUMNS], cells))
    blocks += _by_rule(results)
    blocks.append(_table("targets, and how many rows met them", SUMMARY, summary, on="terminal"))
    return Report([*blocks, Line(LEGEND), *map(Line, _notes(results))], wide=WIDE)


def _table(
    title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], on: str = ""
) -> Table:
    return Table(
        columns, cells, title=title, right=NUMBERS, unbroken=("against",), frame="open", on=on
    )


def _by_model(results: Results) -> dict[str, list[Row]]:
    """The rows, under a title with the columns that are equal in all of them."""
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        common = filter(None, (row.framework, row.title, row.dtype))
        found.setdefault(", ".join(common), []).append(row)
    return found


def _by_rule(results: Results) -> Iterator[Block]:
    """Every rule in a line, with a column for each way of executing it; by model and dtype."""
    for model, dtype in dict.fromkeys((row.model, row.dtype) for row in results.rows):
        rows = [row for row in results.rows if (row.model, row.dtype) == (model, dtype)]
        ways = [*dict.fromkeys((row.framework, row.execution) for row in rows)]
        cells: dict[str, list[list[Row]]] = {}
        for row in rows:
            line = cells.setdefault(row.timed, [[] for _ in ways])
            line[ways.index((row.framework, row.execution))].append(row)
        title = f"time / copy (time / the fastest other), {rows[0].title}, {dtype}"
        lines = [[rule, *map(_best, line)] for rule, line in sorted(cells.items())]
        if len(lines) > 1:
            yield _table(title, ["rule", *map(" ".join, ways)], lines)


def _best(rows: Sequence[Row]) -> str:
    """How long a step takes beside a copy, and beside the fastest step of another library."""
    copies = [row.copy_ratio.median for row in rows if row.copy_ratio]
    others = [(row.ratio.median, row.against) for row in rows if row.ratio]
    found = [f"{median(copies):.2f}"] if copies else []
    return " ".join(found + [f"({ratio:.2f} {name})" for ratio, name in sorted(others)[-1:]])


def _notes(results: Results) -> Iterator[str]:
    for name, rules in results.libraries.items():
        yield f"{name} has {', '.join(rules) or 'none of these rules'}."
    for name in results.missing:
        yield f"{name} is not installed, and left out."
    for row in results.rows:
        if row.error:
            yield f"Failed: {row}: {row.error}"


def _summary(results: Results) -> list[list[str]]:
    """The table of targets, and how many rows met each."""
    lines = []
    for target in TARGETS:
        found = [(row.figure(target.figure), row) for row in results.rows if concerns(target, row)]
        values = sorted(((v, row) for v, row in found if v is not None), key=lambda pair: pair[0])
        if not values:
            continue
        worst, row = values[-1]
        figures = [value for value, _ in values]
        models = dict.fromkeys(row.title for _, row in found)
        lines.append(
            [
                " ".join(filter(None, (target.framework, target.execution))),
                ", ".join(target.rules) or ("others" if target.but else "all"),
                ", ".join(models) if target.models else "all",
                FIGURES[target.figure].format(", ".join(target.against) or "theirs"),
                f"{target.at_most:g}",
                f"{median(figures):.2f}",
                f"{worst:.2f}" + (f" ({row.timed}, {row.title})" if len(values) > 1 else ""),
                f"{sum(value <= target.at_most for value in figures)} of {len(figures)}",
            ]
        )
    return lines
