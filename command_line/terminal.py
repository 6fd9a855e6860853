"""A report in a terminal, or as plain text in a file or a pipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column
from rich.table import Table as Drawn
from rich.text import Text

from .report import (
    Bullets,
    Cell,
    Charts,
    Code,
    Facts,
    Growth,
    Heading,
    Line,
    Part,
    Report,
    Table,
    Versions,
    decimal,
)

__all__ = ["heights", "print_report"]

STYLES = {
    "good": "green",
    "bad": "red",
    "a": "bold",
    "b": "bold",
    "strong": "bold",
    "agree": "green",
    "narrow": "green",
    "differ": "red",
    "unexplained": "yellow",
}
"""By mark, or by kind of a verdict."""
FRAMES: Mapping[str, Mapping[str, Any]] = {
    "rules": {"box": box.HORIZONTALS, "pad_edge": False},
    "lines": {
        "box": box.HORIZONTALS,
        "pad_edge": False,
        "show_lines": True,
        "title_justify": "center",
    },
    "grid": {},
    "head": {"box": box.SIMPLE_HEAD, "pad_edge": False},
    "open": {"box": box.SIMPLE},
}
BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-~=+*#"
"""Eight heights, and the characters for terminals that do not have these."""


def print_report(report: Report, console: Console | None = None) -> None:
    """Print a report, its title first."""
    console = console or Console()
    if report.wide is not None and not console.is_terminal:
        console.width = report.wide
    if report.title:
        console.print(_text(report.title))
    for block in report.on("terminal"):
        SHOWN[type(block)](console, block)


def _text(parts: Part | Sequence[Part], mark: str = "") -> Text:
    """Text in which nothing is markup."""
    each = (parts,) if isinstance(parts, Part) else parts
    pieces = ((str(part), _style(getattr(part, "mark", ""))) for part in each)
    return Text.assemble(*pieces, style=_style(mark))


def _style(mark: str) -> str:
    return " ".join(STYLES.get(each, "") for each in mark.split())


def _line(console: Console, line: Line) -> None:
    text = _text(line.parts, line.mark)
    if line.whole:
        console.print(text, soft_wrap=True)
    elif not line.indent:
        console.print(text)
    else:
        _indented(console, text, line.indent)


def _indented(console: Console, text: Text, indent: int) -> None:
    """Print text with all its lines moved to the right."""
    for each in text.wrap(console, max(console.width - indent, 1)):
        each.rstrip()
        console.print(Text(" " * indent).append_text(each))


def _bullets(console: Console, bullets: Bullets) -> None:
    if bullets.term:
        _indented(console, Text(f"{bullets.term}:"), 2)
    for item in bullets.items:
        _indented(console, _text(item), 4 if bullets.term else 2)


def _facts(console: Console, facts: Facts) -> None:
    grid = Drawn.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, words in facts.pairs:
        grid.add_row(Text(label), Text(words))
    console.print(grid)


def _table(console: Console, table: Table) -> None:
    if table.rows:
        console.print(_drawn(table))


def _drawn(table: Table) -> Drawn:
    """The table; long names are broken, not cut off."""
    drawn = Drawn(
        title=table.title or None,
        caption=table.caption or None,
        caption_justify="left",
        **{"title_justify": "left", **FRAMES[table.frame]},
    )
    for column in table.columns:
        drawn.add_column(
            str(column),
            justify="right" if column in table.right else "left",
            overflow="fold",
            no_wrap=column in table.unbroken,
        )
    for place, row in enumerate(table.rows):
        style = _style(table.marks.get(place, "")) or None
        drawn.add_row(*map(_cell, row), style=style, end_section=place in table.ends)
    return drawn


def _cell(cell: Cell) -> Text | Drawn:
    if not isinstance(cell, Mapping):
        return _text("" if cell is None else cell)
    grid = Drawn.grid("", Column(overflow="fold"), padding=(0, 2, 0, 0))
    for label, text in cell.items():
        grid.add_row(Text(label), Text(text))
    return grid


def _charts(console: Console, charts: Charts) -> None:
    for place, chart in enumerate(charts.charts):
        if place and not chart.table.title:
            console.print()
        _table(console, chart.table)


def _growth(console: Console, growth: Growth) -> None:
    values = growth.values
    picture = heights(values, growth.bound, _encodes(console))
    _line(
        console,
        Line(
            f"{picture} from {decimal(values[0])} at step 1 to {decimal(values[-1])} at step "
            f"{len(values)}, on a log scale"
        ),
    )


def _encodes(console: Console) -> bool:
    try:
        BLOCKS.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


SHOWN: Mapping[type, Callable[[Console, Any], None]] = {
    Heading: lambda console, it: console.print(Text(f"\n{it.text}", "bold")),
    Line: _line,
    Code: lambda console, it: console.print(Text(it.text), soft_wrap=True),
    Bullets: _bullets,
    Facts: _facts,
    Versions: lambda console, it: console.print(Text(", ".join(map(" ".join, it.found.items())))),
    Table: _table,
    Charts: _charts,
    Growth: _growth,
}


def heights(values: Sequence[float], bound: float, blocks: bool = True, width: int = 40) -> str:
    """Differences as heights on a log scale; those within the bound are lowest."""
    levels = BLOCKS if blocks else PLAIN
    places = sorted({round(i * (len(values) - 1) / max(width - 1, 1)) for i in range(width)})
    top = max((v for v in values if math.isfinite(v)), default=0.0)
    decades = math.log10(top / bound) if top > bound else 1.0

    def height(value: float) -> int:
        if value <= bound:
            return 0
        share = math.log10(min(value, top) / bound) / decades if math.isfinite(value) else 1.0
        return min(1 + int(share * (len(levels) - 1)), len(levels) - 1)

    return "".join(levels[height(values[place])] for place in places)
