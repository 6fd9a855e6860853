"""The matrix in a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .matrix import Cell, Column, Matrix
from .matrix_words import (
    about,
    beside_ours,
    columns_of,
    facts,
    libraries,
    mark,
    rows_of,
    sentences,
    short,
)
from .terminal import print_indented

__all__ = ["markdown", "print_matrix"]

COLOURS = {"agree": "green", "narrow": "green", "differ": "red", "unexplained": "yellow"}
NOTHING = "-"


def print_matrix(console: Console, matrix: Matrix) -> None:
    """Print each name's table and sentences, and what was compared last."""
    for column in matrix.columns:
        console.print(Text(f"\n{column.name}", "bold"))
        if column.cells:
            console.print(_pairs(column))
        for indent, line in (*_facts(column), *((2, text) for text in sentences(column))):
            print_indented(console, line, indent)
    console.print()
    for line in about(matrix):
        console.print(line, markup=False, highlight=False)


def _facts(column: Column) -> Iterator[tuple[int, str]]:
    for option, done in facts(column).items():
        yield 2, f"{option}:"
        yield from ((4, f"{what}: {', '.join(who)}") for what, who in done.items())


def _pairs(column: Column) -> Table:
    table = Table(box=box.HORIZONTALS, pad_edge=False, show_lines=True)
    table.add_column("", overflow="fold")
    for peer in columns_of(column):
        table.add_column(peer.library, overflow="fold")
    for row, cells in rows_of(column):
        table.add_row(row.library, *(_shown(cell) for cell in cells))
    return table


def _shown(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    return Text(short(cell), COLOURS.get(mark(cell), ""))


def markdown(matrix: Matrix) -> str:
    """A page of the documentation."""
    summary, made, command = about(matrix)
    names = libraries(matrix)
    overview = [
        [f"[{c.name}](#{c.name.lower()})", *(_cell(beside_ours(c, name)) for name in names)]
        for c in matrix.columns
        if c.ours and c.cells
    ]
    lines = [
        "# The map",
        "",
        "Optimizers of one name, each pair of libraries on the same gradients and with the same",
        "numbers. Do they take the same steps, and if not, what differs? Nobody has told the kit",
        "what it says here: it compares parameters after each of 40 steps, and looks for the",
        "variant of the rule that reproduces each side. This page is what it printed.",
        "",
        f"```sh\n{command}\n```",
        "",
        f"{made} {summary}",
        "",
        "ULP, units in the last place, are those of float64 where nothing else is said, and the",
        "largest of all parameters after all steps; those in float32 are at the step at which the",
        "two part.",
        "",
        "## Beside samestep's default",
        "",
        *_table(["", *names], overview),
    ]
    for column in matrix.columns:
        lines += _section(column)
    return "\n".join(lines)


def _section(column: Column) -> list[str]:
    heads = ["", *(peer.library for peer in columns_of(column))]
    rows = [[row.library, *map(_cell, cells)] for row, cells in rows_of(column)]
    said = [f"- {_escaped(sentence)}" for sentence in sentences(column)]
    for option, done in facts(column).items():
        whole = [f"{_escaped(what)}: {', '.join(map(_code, who))}" for what, who in done.items()]
        said.append(f"- {_code(option)}\n" + "\n".join(f"    - {line}" for line in whole))
    table = _table(heads, rows) if rows and len(heads) > 1 else []
    return [f"## {column.name}", "", *table, *said, ""]


def _cell(cell: Cell | None) -> str:
    return NOTHING if cell is None else _escaped(short(cell))


def _code(text: str) -> str:
    return f"`{text}`"


def _escaped(text: str) -> str:
    for sign in "\\`*_<>|[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
