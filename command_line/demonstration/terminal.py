"""The demonstration in the terminal: progress while it runs, tables at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from samestep.command_line.figures import in_ulp
from samestep.parity.backend import Backend, Missing

from .measurement import Measured, Series, Step, Watch, landmarks, runs_of

__all__ = ["print_tables", "watching"]


@contextmanager
def watching(
    console: Console, frameworks: Mapping[str, Backend | Missing], steps: int
) -> Iterator[Watch]:
    """A progress bar per framework, with the loss and what is being done."""
    columns = (
        TextColumn("{task.description:6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[doing]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks = {
            name: progress.add_task(
                name,
                start=False,
                total=runs_of(name) * steps,
                loss="",
                doing="missing" if isinstance(backend, Missing) else "",
            )
            for name, backend in frameworks.items()
        }

        def watch(framework: str, doing: str, run: Iterator[Any]) -> Iterator[Any]:
            task = tasks[framework]
            progress.start_task(task)
            progress.update(task, doing=doing)
            for step in run:
                if isinstance(step, Step):
                    progress.update(task, loss=f"loss {step.loss:.4f}")
                progress.advance(task)
                yield step
            progress.update(task, doing="")

        yield watch


def print_tables(console: Console, measured: Measured) -> None:
    """Print what was measured."""
    console.print(_trained(measured))
    for rule, series in measured.replayed.items():
        if series:
            console.print(_differences(f"{rule} on NumPy's gradients", series, measured.steps))
    if measured.training:
        console.print(
            _differences(
                "Adan, training: each framework computes its own gradients",
                measured.training,
                measured.steps,
            )
        )


def _trained(measured: Measured) -> Table:
    table = Table("framework", title=f"{measured.steps} steps of Adan", title_justify="left")
    table.add_column("final loss", justify="right")
    table.add_column("test accuracy", justify="right")
    for run in measured.trained:
        table.add_row(run.framework, f"{run.losses[-1]:.6f}", f"{run.accuracy:.1%}")
    for missing in measured.missing:
        table.add_row(missing.name, "missing", str(missing.reason))
    return table


def _differences(title: str, series: list[Series], steps: int) -> Table:
    table = Table("ULP from NumPy", title=title, title_justify="left")
    for step in landmarks(steps):
        table.add_column(f"step {step}", justify="right")
    for one in series:
        table.add_row(one.label, *(in_ulp(one.ulps[step - 1]) for step in landmarks(steps)))
    return table
