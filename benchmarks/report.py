"""The rows as a table in the terminal and in Markdown, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .models import IMPORT, MODELS
from .results import Results, Row, concerns
from .targets import TARGETS
from .timing import Spread

__all__ = ["draw", "markdown", "print_results", "watching"]

COLOURS = {"torch": "#c2410c", "jax": "#6d28d9", "mlx": "#047857"}
MARKERS = "osD^v"
"""By execution, in the order in which they appear."""
LINES = ("-", "--", ":", "-.")
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def _spread(value: Spread | None) -> str:
    return "" if value is None else f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:,.{digits}g}" if value < 1000 else f"{value:,.0f}"


def _model(row: Row) -> str:
    return MODELS[row.model].title


def _rule(row: Row) -> str:
    """The rule, and the size where the model has several."""
    if row.model == IMPORT:
        return f"import samestep.{row.framework}"
    grows = len(MODELS[row.model].sizes) > 1
    return f"{row.rule}, n = {_size(row):,}" if grows else row.rule


def _size(row: Row) -> int:
    return row.tensors if row.model == "tensors" else row.elements


def _ratio(row: Row) -> str:
    return "failed" if row.error else _spread(row.ratio)


def _verdict(row: Row) -> str:
    words = []
    for verdict in row.verdicts:
        figure = "" if verdict.figure == "ratio" else f"{verdict.figure.replace('_', ' ')} "
        reached = "reached" if verdict.reached else "not reached"
        words.append(f"{figure}{verdict.at_most:g}: {reached}")
    return "; ".join(words)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "rule": _rule,
    "execution": lambda row: row.execution,
    "against": lambda row: row.against,
    "ms": lambda row: _number(row.ours_ms),
    "theirs": lambda row: _number(row.theirs_ms),
    "ratio": _ratio,
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
    "at most: what is to be reached, by the ratio unless another figure is named."
)


def _tables(results: Results) -> dict[str, list[Row]]:
    """The rows, under a title with the columns that are equal in all of them."""
    found: dict[str, list[Row]] = {}
    for row in results.rows:
        common = filter(None, (row.framework, _model(row), row.dtype))
        found.setdefault(", ".join(common), []).append(row)
    return found


def _notes(results: Results) -> Iterator[str]:
    for name, rules in results.libraries.items():
        yield f"{name} has {', '.join(rules) or 'none of these rules'}."
    for name in results.missing:
        yield f"{name} is not installed, and left out."
    for row in results.rows:
        if row.error:
            yield f"Failed: {_named(row)}: {row.error}"


def _named(row: Row) -> str:
    parts = (row.framework, _rule(row), _model(row), row.dtype, row.execution, "against")
    return " ".join(filter(None, (*parts, row.against)))


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
        lines.append(
            [
                " ".join(filter(None, (target.framework, target.execution))),
                ", ".join(target.rules) or ("others" if target.but else "all"),
                ", ".join(dict.fromkeys(_model(row) for _, row in found))
                if target.models
                else "all",
                FIGURES[target.figure].format(", ".join(target.against) or "theirs"),
                f"{target.at_most:g}",
                f"{median(figures):.2f}",
                f"{worst:.2f}" + (f" ({_rule(row)}, {_model(row)})" if len(values) > 1 else ""),
                f"{sum(value <= target.at_most for value in figures)} of {len(figures)}",
            ]
        )
    return lines


def print_results(console: Console, results: Results) -> None:
    """Print the rows, the targets, and the installed libraries."""
    tables = [(title, [*COLUMNS], _cells(rows)) for title, rows in _tables(results).items()]
    for title, names, cells in (*tables, ("what was to be reached", SUMMARY, _summary(results))):
        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        for name in names:
            right = name in NUMBERS
            table.add_column(name, justify="right" if right else "left", no_wrap=name == "against")
        for cells_of_row in cells:
            table.add_row(*cells_of_row)
        console.print(table, markup=False)
    for line in (LEGEND, *_notes(results)):
        console.print(line, markup=False, highlight=False)


def markdown(results: Results) -> str:
    """The same in Markdown, with the machine."""
    where = results.machine
    versions = ", ".join(f"{name} {found}" for name, found in where["versions"].items())
    lines = [
        f"{where['processor']}, {where['threads']} threads, {where['system']}, "
        f"Python {where['python']}; {versions}."
    ]
    lines += ["", *_ruled(SUMMARY, _summary(results))]
    for title, rows in _tables(results).items():
        lines += ["", f"### {title}", "", *_ruled([*COLUMNS], _cells(rows))]
    lines += [line for text in (LEGEND, *_notes(results)) for line in ("", text)]
    return "\n".join(lines) + "\n"


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    return [[cell(row) for cell in COLUMNS.values()] for row in rows]


def _ruled(names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [names, ["---:" if name in NUMBERS else "---" for name in names], *cells]
    return ["| " + " | ".join(line) + " |" for line in lines]


@contextmanager
def watching(console: Console, total: int) -> Iterator[Callable[[Row], None]]:
    """A progress bar that names the row being measured."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[row]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, row="")
        begun = 0

        def watch(row: Row) -> None:
            nonlocal begun
            progress.update(task, completed=begun, row=_named(row))
            begun += 1

        yield watch
        progress.update(task, completed=begun, row="")


def draw(results: Results, paths: Sequence[Path]) -> None:
    """Draw the ratios, and how the cost grows, into each of the files."""
    rows = [row for row in results.rows if row.ratio is not None and row.model != IMPORT]
    growing = [name for name, model in MODELS.items() if len(model.sizes) > 1]
    ratios = [row for row in rows if row.model not in growing]
    swept = {name: [row for row in rows if row.model == name] for name in growing}
    swept = {name: found for name, found in swept.items() if found}
    labels = list(dict.fromkeys(map(_side, ratios)))
    with matplotlib.rc_context(STYLE):
        size = (6.5 + 5 * len(swept), max(4, 0.2 * len(labels) + 1.2))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(
            1, 1 + len(swept), squeeze=False, width_ratios=[6.5, *[5] * len(swept)]
        )[0]
        _draw_ratios(panels[0], ratios, labels)
        for axes, (name, found) in zip(panels[1:], swept.items(), strict=True):
            _draw_growth(axes, name, found)
        for path in paths:
            figure.savefig(path, dpi=150)


def _side(row: Row) -> str:
    return f"{row.framework} {row.execution} / {row.against}"


def _draw_ratios(axes: Axes, rows: Sequence[Row], labels: list[str]) -> None:
    """A line per pair of sides, and on it a point per rule, model and dtype."""
    models = list(dict.fromkeys(_model(row) for row in rows))
    for place, model in enumerate(models):
        found = [row for row in rows if _model(row) == model]
        axes.scatter(
            [row.ratio.median for row in found if row.ratio],
            [labels.index(_side(row)) for row in found],
            c=[COLOURS[row.framework] for row in found],
            marker=MARKERS[place % len(MARKERS)],
            s=14,
            alpha=0.6,
            label=model,
        )
    axes.axvline(1, color="#64748b", linewidth=0.8)
    axes.set(xscale="log", xlabel="ours / theirs; a point per rule and dtype")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    if len(models) > 1:
        axes.legend()


def _draw_growth(axes: Axes, model: str, rows: Sequence[Row]) -> None:
    """Milliseconds of every side as it grows; the least, where a side was timed several times."""
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        ours = row.framework, f"samestep.{row.framework} {row.execution}"
        theirs = row.framework, row.against
        for side, taken in ((ours, row.ours_ms), (theirs, row.theirs_ms)):
            if taken is not None:
                curves.setdefault(side, {}).setdefault(_size(row), []).append(taken)
    for framework, colour in COLOURS.items():
        own = [side for side in curves if side[0] == framework]
        own.sort(key=lambda side: not side[1].startswith("samestep"))
        for place, side in enumerate(own):
            points = sorted((count, min(taken)) for count, taken in curves[side].items())
            bold = side[1].startswith("samestep")
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linestyle=LINES[place % len(LINES)],
                linewidth=1.8 if bold else 0.9,
                marker="o" if bold else ".",
                markersize=3,
                label=side[1],
            )
    axes.set(xscale="log", yscale="log", ylabel="ms per step", xlabel=f"n in {MODELS[model].title}")
    axes.legend(fontsize=7)
