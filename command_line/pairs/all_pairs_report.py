"""The report of ``samestep parity --all``: the matrix, and sentences on each name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from samestep.arrays import listed
from samestep.command_line.report import (
    GAP,
    Block,
    Bullets,
    Code,
    Heading,
    Line,
    Link,
    Report,
    Table,
    Verdict,
    Words,
    in_ulp,
)

from .all_pairs import Cell, Column, Matrix
from .peers import LIBRARIES

__all__ = ["all_pairs_report"]

NEARLY = re.compile(r"(.+) is reproduced up to (\S+); the rest is unexplained")
"""Said of each pair; said once of each optimizer, with the largest number, is enough."""
KINDS = ("agree", "narrow", "differ", "unexplained", "failed")


INTRODUCTION = """\
Optimizers of one name, each pair of libraries on the same gradients and with the same
numbers. Do they take the same steps, and if not, what differs? Nobody has told the kit
what it says here: it compares parameters after each of 40 steps, and looks for the
variant of the rule that reproduces each side. This page is what it printed."""
UNITS = """\
ULP, units in the last place, are those of float64 where nothing else is said, and the
largest of all parameters after all steps; those in float32 are at the step at which the
two part."""
BESIDE = """\
Each library's optimizer and the published algorithm, on the same gradients, with
the same numbers. ULP are those of float64 where nothing else is said, after 40 steps."""


def all_pairs_report(matrix: Matrix) -> Report:
    """How every optimizer compares with the others of its name."""
    names = (block for each in matrix.columns for block in _section(each))
    return Report(
        [*_overview(matrix), *names, *_made(matrix)],
        headline=["Do optimizers of one name take the same steps?"],
        top="samestep parity --all",
        data=_data(matrix),
    )


def _overview(matrix: Matrix) -> Iterator[Block]:
    """A summary, and a table of each library's optimizer compared with our rule."""
    summary, made, command = _about(matrix)
    yield Line("# The map", on="markdown")
    yield Line(INTRODUCTION, on="markdown")
    yield Code(command, on="markdown")
    yield Line(f"{made} {summary}", on="markdown")
    yield Line(UNITS, on="markdown")
    yield Line(summary, on="page")
    yield Heading("Beside samestep's default", on="page markdown")
    yield Line(BESIDE, mark="quiet", on="page")
    names = _libraries(matrix)
    rows = [
        (Link(each.name), *(_shown(_beside_ours(each, name)) for name in names))
        for each in matrix.columns
        if each.ours and each.cells
    ]
    yield Table(("", *names), rows, frame="lines", on="page markdown")


def _section(column: Column) -> Iterator[Block]:
    """One name: a table of pairs, the differences, and sentences."""
    yield Heading(column.name)
    if column.cells:
        heads = [peer.library for peer in column.peers[1:]]
        yield Table(("", *heads), [*_rows(column)] if heads else [], frame="lines")
    yield Bullets([*_sentences(column)], on="markdown")
    for option, done in _facts(column).items():
        yield Bullets([_who(what, who) for what, who in done.items()], option)
    yield Bullets([*_sentences(column)], on="terminal page")


def _who(what: str, names: list[str]) -> list[str | Words]:
    """One way of computing, and the optimizers that compute so."""
    found: list[str | Words] = [f"{what}: "]
    for name in names:
        found += [", "] if len(found) > 1 else []
        found.append(Words(name, "code"))
    return found


def _made(matrix: Matrix) -> Iterator[Block]:
    summary, made, command = _about(matrix)
    yield GAP
    yield Line(summary, on="terminal")
    yield Line(made, on="terminal")
    yield Line(command, on="terminal")
    yield Heading("Reproduce", on="page")
    yield Code(command, on="page")
    yield Line(made, mark="quiet", on="page")


def _shown(cell: Cell | None) -> Verdict | None:
    """The verdict, and how far apart or why, in a few words."""
    if cell is None:
        return None
    word = {"failed": "not compared"}.get(cell.verdict, cell.verdict)
    return Verdict(word, _detail(cell), _kind(cell))


def _detail(cell: Cell) -> str:
    """The distance if the two agree; the options in which they differ if not."""
    why = ", ".join(cell.options) if cell.explained else "unexplained"
    if cell.verdict == "failed":
        return ""
    if cell.verdict == "differ":
        return why
    apart = f"{in_ulp(cell.ulp)} ULP" + (f" of {cell.dtype}" if cell.dtype != "float64" else "")
    return apart if cell.narrow is None else f"{apart}; {in_ulp(cell.narrow)} in float32, {why}"


def _kind(cell: Cell) -> str:
    """The kind of a cell, in one word."""
    if cell.verdict == "differ":
        return "differ" if cell.explained else "unexplained"
    return "narrow" if cell.narrow is not None else cell.verdict


def _libraries(matrix: Matrix) -> list[str]:
    """All libraries but ours, in order."""
    found = {p.library for c in matrix.columns for p in (*c.peers, *c.others)}
    known = [*LIBRARIES, *(module.partition(".")[0] for module in matrix.modules)]
    return [name for name in known if name in found]


def _beside_ours(column: Column, library: str) -> Cell | None:
    """How an optimizer of a library compares with the rule here."""
    titles = [p.title for p in (*column.peers, *column.others) if p.library == library]
    return next(
        (cell for title in titles if (cell := column.cells.get((title, column.ours or "")))), None
    )


def _rows(column: Column) -> Iterator[tuple[str | Verdict | None, ...]]:
    """A row for every library but the last, with a cell for each comparison."""
    for row in (*column.peers[:-1], *column.others):
        cells = (column.cells.get((row.title, peer.title)) for peer in column.peers[1:])
        yield (row.library, *map(_shown, cells))


def _like(cell: Cell) -> str:
    """Whether a dialect reproduces the library's, in a sentence."""
    if cell.verdict == "agree":
        return f"{cell.b} reproduces {cell.a} ({_detail(cell)})"
    if cell.verdict == "failed":
        return f"{cell.b} and {cell.a} are not compared: {listed(cell.sentences)}"
    return f"{cell.b} does not reproduce {cell.a}: {'; '.join(cell.sentences)}"


def _facts(column: Column) -> dict[str, dict[str, list[str]]]:
    """By option in which any two differ: each way of computing, and the optimizers that do so."""
    found: dict[str, dict[str, list[str]]] = {}
    for cell in column.cells.values():
        for option, *done in cell.sides:
            narrow = cell.verdict == "agree" and "float32" not in option
            said = f"{option}, in float32" if narrow else option
            for who, what in zip((cell.a, cell.b), done, strict=True):
                known = found.setdefault(said, {}).setdefault(what, [])
                known += [who] if who not in known else []
    return found


def _sentences(column: Column) -> Iterator[str]:
    """Sentences on unexplained differences, on dialects, and on optimizers that were left out."""
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
    """The sentence, with the names of the two optimizers."""
    if cell.a in sentence and cell.b in sentence:
        return sentence
    return f"{cell.a} and {cell.b}: {sentence}"


def _about(matrix: Matrix) -> list[str]:
    """How many agree; when the matrix was made and with what; the command."""
    cells = [cell for column in matrix.columns for cell in column.cells.values()]
    count = {kind: [_kind(cell) for cell in cells].count(kind) for kind in KINDS}
    return [
        f"{len(cells)} pairs: {count['agree'] + count['narrow']} agree, {count['narrow']} of them "
        f"not in float32; {count['differ']} differ, and it is known why; {count['unexplained']} "
        f"differ, unexplained; {count['failed']} could not be compared.",
        f"Made on {matrix.made} with {', '.join(map(' '.join, matrix.versions.items()))}.",
        shlex.join(matrix.command),
    ]


def _data(matrix: Matrix) -> dict[str, Any]:
    names = [
        {
            "name": column.name,
            "peers": [peer.title for peer in (*column.peers, *column.others)],
            "pairs": [*column.cells.values()],
            "dialects": column.dialects,
            "refused": column.refused,
        }
        for column in matrix.columns
    ]
    about = {"schema": 1, "made": matrix.made, "versions": matrix.versions}
    return {**about, "command": matrix.command, "seconds": matrix.seconds, "names": names}
