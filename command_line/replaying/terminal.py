"""What was found, as text: colours where there is a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from samestep.replay import Against, Departure, Replay

__all__ = ["print_against", "print_replay"]

MOST = 12
"""Rows of a table of parameters; with more only the worst are shown."""


def print_replay(console: Console, found: Replay, words: Sequence[str]) -> None:
    """What a recomputation found."""
    agrees = found.verdict == "agree"
    files = ", ".join(found.files)
    of = f" of {found.optimizer}" if found.optimizer else ""
    shown = f"[bold {'green' if agrees else 'red'}]{'agrees with' if agrees else 'departs from'}[/]"
    console.print(f"[bold]{escape(files)}[/]{escape(of)}: {shown} {escape(found.rule)}")
    for sentence in found.sentences:
        console.print(f"  {sentence}", highlight=False, markup=False)
    console.print()
    if (first := found.first) is not None:
        _print_departure(console, first)
        if len(found.departures) > 1:
            rest = ", ".join(f"{d.path} (step {d.step})" for d in found.departures[1:5])
            more = f" and {len(found.departures) - 5} others" if len(found.departures) > 5 else ""
            console.print(f"After it: {rest}{more}.", highlight=False, markup=False)
        console.print()
    console.print(_parameters(found))
    console.print(_growth(found))
    console.print(f"\n{_bound(found)}", highlight=False, markup=False)
    console.print(shlex.join(words), highlight=False, markup=False)


def _print_departure(console: Console, first: Departure) -> None:
    at = f"{first.path}{[*first.place]}" if first.place else first.path
    text = f"{at} is {_number(first.recorded)}, and should be {_number(first.computed)}."
    if math.isfinite(first.recorded) and math.isfinite(first.computed):
        text = (
            f"{at} was {_number(first.recorded)} and should be {_number(first.computed)}: "
            f"{_units(first.ulp)} ULP, or {first.relative:.2g} of the largest change in the step."
        )
    console.print(f"At step {first.step} {text}", highlight=False, markup=False)


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.9g}"


def _units(ulp: float) -> str:
    return f"{ulp:,.0f}" if ulp >= 100 or ulp == 0 else f"{ulp:.2g}"


def _parameters(found: Replay) -> Table:
    rows = [*found.rows.values()]
    title = "Parameters"
    if len(rows) > MOST:
        title = f"Parameters: the worst {MOST} of {len(rows)}"
        rows = sorted(rows, key=lambda row: (-row.departing, -row.ulp))[:MOST]
    table = Table(title=title, title_justify="left")
    table.add_column("parameter", overflow="fold")
    table.add_column("dtype")
    for name in ("steps", "depart", "one step", "float64", "float32"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (str(row.steps), str(row.departing))
        units = (_units(row.ulp), _units(row.float64), _units(row.float32))
        style = "red" if row.departing else None
        table.add_row(escape(row.path), row.dtype, *counts, *units, style=style)
    return table


def _growth(found: Replay) -> Table:
    table = Table(title="Largest difference so far, in ULP", title_justify="left")
    for name in ("to step", "one step", "float64", "float32"):
        table.add_column(name, justify="right")
    for place in _shown(len(found.growth)):
        rows = found.growth[:place]
        largest = (max(row[at] for row in rows) for at in (1, 2, 3))
        table.add_row(str(rows[-1][0]), *map(_units, largest))
    return table


def _shown(count: int) -> list[int]:
    """How many steps to show: 1, 2, 5, 10, 20, ... and all."""
    places = [base * 10**power for power in range(9) for base in (1, 2, 5)]
    return [place for place in places if place < count] + [count]


def _bound(found: Replay) -> str:
    allowed = "what rounding explains" if found.bound.ulp is None else f"{found.bound.ulp:g} ULP"
    steps = f"{found.steps} step{'s' * (found.steps != 1)}"
    return (
        f"{steps}, counted from 0, each from the recorded parameters (one step) within {allowed}; "
        f"float64 and float32 are whole runs from the same start, in NumPy."
    )


def print_against(console: Console, found: Against, words: Sequence[str]) -> None:
    """What a comparison of two recordings found."""
    agrees = found.verdict == "agree"
    colour = "green" if agrees else "red"
    steps = f" {found.compared}" if found.compared else ""
    one, other = (f"[bold]{escape(file)}[/]" for file in found.files)
    console.print(f"{one} and {other}: [bold {colour}]{found.sentence}[/]{escape(steps)}")
    if found.first is not None:
        console.print(f"  {found.first}", highlight=False, markup=False)
    for apart in found.hyperparameters:
        console.print(f"  {apart}", highlight=False, markup=False)
    for file, names in zip(found.files, found.only, strict=True):
        if names:
            shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            console.print(f"  only in {file}: {shown}", highlight=False, markup=False)
    table = Table(title="Largest relative difference so far", title_justify="left")
    for name in ("to step", "parameters", "gradients", "changes"):
        table.add_column(name, justify="right")
    for place in _shown(len(found.rows)):
        rows = found.rows[:place]
        largest = (max(row[at] for row in rows) for at in (1, 2, 3))
        table.add_row(str(rows[-1].step), *(f"{value:.2g}" for value in largest))
    console.print()
    console.print(table)
    console.print(f"\n{shlex.join(words)}", highlight=False, markup=False)
