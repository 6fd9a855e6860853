"""A report as Markdown, for a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .report import Bullets, Code, Heading, Line, Link, Part, Report, Table, Words

__all__ = ["markdown"]

SIGNS = "\\`*_<>|[]"
"""Characters that Markdown gives a meaning."""
BAR = re.compile(r"(?<!\\)\|")
"""A bar that would end the cell of a table, as code has it."""


def markdown(report: Report) -> str:
    """The text of the file."""
    lines: list[str] = []
    for block in report.on("markdown"):
        if lines and lines[-1] and not isinstance(block, Bullets):
            lines.append("")
        lines += SHOWN[type(block)](block)
    return "\n".join([*lines, *([""] if lines and lines[-1] else [])])


def _text(parts: Any) -> str:
    if parts is None:
        return "-"
    each = (parts,) if isinstance(parts, Part) else parts
    return "".join(map(_part, each))


def _part(part: Part) -> str:
    if isinstance(part, Link):
        return f"[{part}](#{part.text.lower()})"
    if isinstance(part, Words) and part.mark == "code":
        return f"`{part}`"
    text = str(part)
    for sign in SIGNS:
        text = text.replace(sign, f"\\{sign}")
    return text


def _bullets(bullets: Bullets) -> Iterator[str]:
    if bullets.term:
        yield f"- `{bullets.term}`"
    for item in bullets.items:
        yield f"{'    ' if bullets.term else ''}- {_text(item)}"


def _table(table: Table) -> list[str]:
    if not table.rows:
        return []
    ruler = ["---:" if name in table.right else "---" for name in table.columns]
    cells = [[BAR.sub(r"\\|", _text(cell)) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(line)} |" for line in ([*map(str, table.columns)], ruler, *cells)]
    return [*([f"### {table.title}", ""] if table.title else []), *lines, ""]


SHOWN: Mapping[type, Callable[[Any], Sequence[str] | Iterator[str]]] = {
    Heading: lambda it: [f"## {it.text}", ""],
    Line: lambda it: [str(it.parts), ""],
    Code: lambda it: [f"```{it.language}\n{it.text}\n```", ""],
    Bullets: _bullets,
    Table: _table,
}
