"""The matrix in words: what stands in a cell, and the sentences below it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from samestep.arrays import listed
from samestep.command_line.figures import in_ulp

from .matrix import Cell, Column, Matrix
from .peers import LIBRARIES, Peer

__all__ = [
    "about",
    "beside_ours",
    "columns_of",
    "detail",
    "facts",
    "libraries",
    "mark",
    "rows_of",
    "sentences",
    "short",
    "word",
]

NEARLY = re.compile(r"(.+) is reproduced up to (\S+); the rest is unexplained")
"""Said of each pair; said once of each optimizer, with the largest number, is enough."""
KINDS = ("agree", "narrow", "differ", "unexplained", "failed")


def short(cell: Cell) -> str:
    """The verdict, and how far apart or why, in a few words."""
    said = detail(cell)
    return f"{word(cell)}: {said}" if said else word(cell)


def word(cell: Cell) -> str:
    """The verdict."""
    return {"failed": "not compared"}.get(cell.verdict, cell.verdict)


def detail(cell: Cell) -> str:
    """How far the two are apart if they agree; in what they differ if they do not."""
    why = ", ".join(cell.options) if cell.explained else "unexplained"
    if cell.verdict == "failed":
        return ""
    if cell.verdict == "differ":
        return why
    apart = f"{in_ulp(cell.ulp)} ULP" + (f" of {cell.dtype}" if cell.dtype != "float64" else "")
    return apart if cell.narrow is None else f"{apart}; {in_ulp(cell.narrow)} in float32, {why}"


def mark(cell: Cell) -> str:
    """The kind of a cell, in one word."""
    if cell.verdict == "differ":
        return "differ" if cell.explained else "unexplained"
    return "narrow" if cell.narrow is not None else cell.verdict


def libraries(matrix: Matrix) -> list[str]:
    """All libraries but ours, in order."""
    found = {p.library for c in matrix.columns for p in (*c.peers, *c.others)}
    known = [*LIBRARIES, *(module.partition(".")[0] for module in matrix.modules)]
    return [name for name in known if name in found]


def beside_ours(column: Column, library: str) -> Cell | None:
    """How an optimizer of a library compares with the rule here."""
    titles = [p.title for p in (*column.peers, *column.others) if p.library == library]
    return next(
        (cell for title in titles if (cell := column.cells.get((title, column.ours or "")))), None
    )


def columns_of(column: Column) -> list[Peer]:
    """What the columns of one name's table stand for: all but the first library."""
    return [*column.peers[1:]]


def rows_of(column: Column) -> Iterator[tuple[Peer, list[Cell | None]]]:
    """The rows of that table: every library but the last, and the cells, where there are any."""
    inner = [*column.peers[:-1], *column.others]
    for row in inner:
        cells = [column.cells.get((row.title, peer.title)) for peer in columns_of(column)]
        yield row, cells


def _like(cell: Cell) -> str:
    """Whether a dialect reproduces the library's, in a sentence."""
    if cell.verdict == "agree":
        return f"{cell.b} reproduces {cell.a} ({detail(cell)})"
    if cell.verdict == "failed":
        return f"{cell.b} and {cell.a} are not compared: {listed(cell.sentences)}"
    return f"{cell.b} does not reproduce {cell.a}: {'; '.join(cell.sentences)}"


def facts(column: Column) -> dict[str, dict[str, list[str]]]:
    """By option in which any two differ: what is done, and who does it."""
    found: dict[str, dict[str, list[str]]] = {}
    for cell in column.cells.values():
        for option, *done in cell.sides:
            narrow = cell.verdict == "agree" and "float32" not in option
            said = f"{option}, in float32" if narrow else option
            for who, what in zip((cell.a, cell.b), done, strict=True):
                known = found.setdefault(said, {}).setdefault(what, [])
                known += [who] if who not in known else []
    return found


def sentences(column: Column) -> Iterator[str]:
    """What is unexplained, which dialects hold, and what was left out."""
    rest: dict[str, float] = {}
    for cell in column.cells.values():
        told = {f"{cell.a} {a}; {cell.b} {b}" for _, a, b in cell.sides}
        for sentence in cell.sentences if not cell.narrow or not cell.sides else ():
            if left := NEARLY.fullmatch(sentence):
                rest[left[1]] = max(rest.get(left[1], 0.0), float(left[2]))
            elif sentence not in told:
                yield _named(cell, sentence)
    for who, off in rest.items():
        yield f"{who} is reproduced up to {off:g}; the rest is unexplained"
    yield from map(_like, column.dialects)
    yield from column.refused


def _named(cell: Cell, sentence: str) -> str:
    """A sentence that says of which two it is."""
    if cell.a in sentence and cell.b in sentence:
        return sentence
    return f"{cell.a} and {cell.b}: {sentence}"


def about(matrix: Matrix) -> list[str]:
    """How many agree; when the matrix was made and with what; the command."""
    cells = [cell for column in matrix.columns for cell in column.cells.values()]
    count = {kind: [mark(cell) for cell in cells].count(kind) for kind in KINDS}
    return [
        f"{len(cells)} pairs: {count['agree'] + count['narrow']} agree, {count['narrow']} of them "
        f"not in float32; {count['differ']} differ, and it is known why; {count['unexplained']} "
        f"differ, unexplained; {count['failed']} could not be compared.",
        f"Made on {matrix.made} with {', '.join(map(' '.join, matrix.versions.items()))}.",
        shlex.join(matrix.command),
    ]
