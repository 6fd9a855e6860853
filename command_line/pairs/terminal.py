"""A comparison in a terminal, or as plain text where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from samestep.command_line.figures import decimal

from .account import Account, Curve

__all__ = ["print_account", "print_indented", "sparkline"]

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-~=+*#"
"""Eight heights, and what stands for them where the terminal has no such characters."""


def print_account(console: Console, account: Account) -> None:
    """Print everything, the verdict first."""
    colour = "green" if account.agree else "red"
    verdict = "agree" if account.agree else "differ"
    a, b = (Text(name, "bold") for name in account.names)
    console.print(Text.assemble(a, " and ", b, ": ", (verdict, f"bold {colour}")))
    for sentence in account.found.sentences:
        print_indented(console, sentence)
    console.print()
    _say(console, account.parting)
    _say(console, account.size)
    for clue in account.clues:
        _say(console, clue)
    if account.narrowly:
        _say(console, account.narrowly)
    if not account.agree:
        _print_growth(console, account)
    for table in _tables(account):
        if table.row_count:
            console.print()
            console.print(table, markup=False)
    if account.reproduced:
        console.print()
    for sentence in account.reproduced:
        _say(console, sentence)
    for path, reason in account.found.left_out.items():
        _say(console, f"Left out: {path}, since {reason}")
    console.print()
    _say(console, ", ".join(" ".join(item) for item in account.environment.items()))
    if account.command:
        console.print(account.line, markup=False, highlight=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)


def print_indented(console: Console, text: str, indent: int = 2) -> None:
    """Print a sentence with all its lines moved to the right."""
    for line in Text(text).wrap(console, max(console.width - indent, 1)):
        _say(console, " " * indent + line.plain.rstrip())


def _print_growth(console: Console, account: Account) -> None:
    growth = account.found.growth[1:]
    picture = sparkline(growth, account.found.bounds[1], _encodes(console))
    _say(
        console,
        f"{picture} from {decimal(growth[0])} at step 1 to {decimal(growth[-1])} at step "
        f"{account.found.steps}, on a log scale",
    )


def _encodes(console: Console) -> bool:
    try:
        BLOCKS.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


def sparkline(values: Sequence[float], bound: float, blocks: bool = True, width: int = 40) -> str:
    """Differences as heights on a log scale; what is within the bound is lowest."""
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


def _tables(account: Account) -> Iterable[Table]:
    """What differs, what each was given, and how far they are apart in what."""
    a, b = account.names
    options = _table("option", a, b, title="What differs")
    for side in account.sides:
        options.add_row(side.option, *(side.values or (side.a, side.b)))
    yield options
    if not account.agree:
        yield _distances("parameter", account.parameters)
        yield _distances("slot", account.slots)
    numbers = _table("number", a, b, title="What each was given")
    for number in account.numbers:
        numbers.add_row(number.name, number.a, number.b)
    yield numbers


def _distances(kind: str, curves: Sequence[Curve]) -> Table:
    table = _table(kind, "parts at", "step 1", "largest", right=True)
    for curve in curves:
        table.add_row(curve.name, curve.when, decimal(curve.values[1]), decimal(curve.largest))
    return table


def _table(*columns: str, title: str | None = None, right: bool = False) -> Table:
    """A table that breaks long names rather than cutting them off."""
    table = Table(title=title, title_justify="left", box=box.HORIZONTALS, pad_edge=False)
    for place, column in enumerate(columns):
        justify = "right" if right and place else "left"
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table
