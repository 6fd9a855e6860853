"""The report of a command. ``terminal``, ``page``, ``markdown`` and ``as_json`` render it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from samestep.checkpoints.replacing import replace_text

__all__ = [
    "GAP",
    "Bullets",
    "Cards",
    "Cell",
    "Chart",
    "Charts",
    "Code",
    "Curve",
    "Details",
    "Facts",
    "Growth",
    "Heading",
    "Line",
    "Link",
    "Report",
    "Table",
    "Tiles",
    "Verdict",
    "Versions",
    "Words",
    "decimal",
    "in_ulp",
    "show",
]


class Words(NamedTuple):
    """Text with a mark, which says what the text means; each renderer chooses how to show it."""

    text: str
    mark: str
    """``strong``, ``good``, ``bad``, ``code``, ``quiet``; ``a`` or ``b`` for a side's name."""

    def __str__(self) -> str:
        return self.text


class Link(NamedTuple):
    """The name of a heading further down, which a page links."""

    text: str

    def __str__(self) -> str:
        return self.text


class Verdict(NamedTuple):
    """A cell that says whether two agree."""

    word: str
    detail: str
    mark: str
    """``agree``, ``narrow``, ``differ``, ``unexplained`` or ``failed``."""

    def __str__(self) -> str:
        return f"{self.word}: {self.detail}" if self.detail else self.word


Part = str | Words | Link | Verdict
Parts = str | Sequence[Part]
Cell = Part | tuple[Part, ...] | Mapping[str, str] | None
"""A cell of a table: text, parts of a text, labels with texts, or nothing to show."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of a report."""

    on: str = ""
    """The only renderers that show it, such as ``page markdown``; empty for all."""

    @property
    def kind(self) -> str:
        """The name of the class, in small letters: the name of the page's macro for it."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Heading(Block):
    """A heading."""

    text: str


@dataclass(frozen=True)
class Line(Block):
    """A sentence or a paragraph."""

    parts: Parts
    indent: int = 0
    """Columns that a terminal moves it to the right."""
    mark: str = ""
    whole: bool = False
    """Whether a terminal leaves it in one line, however long it is."""


@dataclass(frozen=True)
class Code(Block):
    """A command line, or text whose lines stay as they are."""

    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Bullets(Block):
    """A list, below a term if there is one."""

    items: Sequence[Parts]
    term: str = ""


@dataclass(frozen=True)
class Facts(Block):
    """Labels, and the text for each."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Versions(Block):
    """Packages with their versions, and the machine."""

    found: Mapping[str, str]


@dataclass(frozen=True)
class Table(Block):
    """A table; its first column names the rows."""

    columns: Sequence[Part]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    caption: str = ""
    right: Collection[str] = ()
    """Columns of numbers."""
    unbroken: Collection[str] = ()
    """Columns whose text stays in one line."""
    marks: Mapping[int, str] = field(default_factory=dict)
    """Marks of whole rows, by their place."""
    ends: Collection[int] = ()
    """Places of rows below which a line is drawn."""
    frame: str = "rules"
    """How a terminal frames it: ``rules``, ``lines``, ``grid``, ``head`` or ``open``."""


class Curve(NamedTuple):
    """A number after each step of a run; the number at the start comes first."""

    name: str
    values: list[float]
    parts: int | None = None
    """The first step after which it is beyond the bound."""
    colour: int | None = None
    """The index of its colour; by default its own index among the curves."""
    dash: str | None = None
    width: float = 2

    @property
    def when(self) -> str:
        """The step at which it parts, in words."""
        return "never" if self.parts is None else f"step {self.parts}"

    @property
    def largest(self) -> float:
        """The largest of all numbers."""
        return max(self.values, default=0.0)


@dataclass(frozen=True)
class Chart(Block):
    """Curves on a logarithmic scale, and a table whose rows are about the curves, in order."""

    title: str
    about: str
    """A description of the picture, for readers who cannot see it."""
    curves: Sequence[Curve]
    table: Table
    bounds: Sequence[float] = ()
    """Bounds of agreement, at the start and after each step."""


@dataclass(frozen=True)
class Charts(Block):
    """Charts. A page shows them next to each other; a terminal shows their tables."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Growth(Block):
    """A number after each step, as one line of text."""

    values: Sequence[float]
    bound: float
    """Numbers within it are drawn lowest."""


@dataclass(frozen=True)
class Tiles(Block):
    """A few numbers: for each a name, the number, and a remark."""

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Cards(Block):
    """Differences of two sides: a title, and for each side its name, a text and code."""

    items: Sequence[tuple[str, Sequence[tuple[Words, str, str]]]]


@dataclass(frozen=True)
class Details(Block):
    """A paragraph that a page unfolds on demand."""

    summary: str
    text: str


GAP = Line("", on="terminal")
"""An empty line."""


@dataclass(frozen=True)
class Report:
    """The findings of a command."""

    blocks: Sequence[Block]
    data: Any = None
    """The findings as values, for JSON."""
    code: int = 0
    """The exit code."""
    title: Sequence[Part] = ()
    """The first line in a terminal."""
    headline: Sequence[Part] = ()
    """The first sentence on a page."""
    top: str = ""
    """The line above that sentence."""
    badge: str = ""
    """The verdict in one word, which also gives a page its colour."""
    wide: int | None = None
    """Columns of the output to a file or a pipe; by default rich's."""

    def on(self, renderer: str) -> Iterator[Any]:
        """The blocks that a renderer shows."""
        return (each for each in self.blocks if not each.on or renderer in each.on.split())


def show(
    report: Report, *, as_json: bool = False, html: Path | None = None, write: Path | None = None
) -> None:
    """Print a report, and write its page and its Markdown if a file is given.

    Args:
        report: the findings of a command.
        as_json: print JSON instead of text.
        html: the file of the page.
        write: the file of the Markdown.
    """
    # A renderer is imported when it is used: each needs packages of its own.
    if html is not None:
        from .page import page  # noqa: PLC0415

        replace_text(html, page(report))
    if write is not None:
        from .markdown import markdown  # noqa: PLC0415

        replace_text(write, markdown(report))
    if as_json:
        from .as_json import text  # noqa: PLC0415

        print(text(report.data))
    else:
        from .terminal import print_report  # noqa: PLC0415

        print_report(report)


def in_ulp(ulps: float) -> str:
    """A distance, short enough for a table: 0, 0.5, 12, 1,054, 41.8M."""
    if ulps >= 1e6:
        return f"{ulps / 1e6:,.3g}M"
    return f"{ulps:.2g}" if ulps < 10 else f"{ulps:,.0f}"


def decimal(value: float) -> str:
    """A relative difference, short: 0, 1.2e-16, 0.63, 4.2."""
    return f"{value:.2g}" if math.isfinite(value) else "infinite"
