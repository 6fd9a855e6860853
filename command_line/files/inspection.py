"""``samestep inspect``: what is in a file, for people and for machines."""

# ruff: noqa: PLC0415  (frameworks are imported only for files of their own)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from samestep.checkpoints import Checkpoint, CheckpointError, read

from . import as_json as machine
from .descriptions import bytes_words, few, rule_facts, rule_words, rules_of
from .kinds import Kind, kind_of
from .rows import Asked, Measured, Row, chosen, of_checkpoint, of_safetensors, with_figures

__all__ = ["inspect"]

ROWS = 40
"""Arrays up to which each has a row of its own."""


def inspect(path: Path, asked: Asked, console: Console) -> None:
    """Print what a file is and has.

    Raises:
        CheckpointError: it is damaged, or nothing of what is asked for is in it.
    """
    kind = kind_of(path)
    if kind.name == "samestep":
        saved = read(path, lazily=True)
        _show(path, kind, saved, asked, console)
    elif kind.name == "torch":
        _inspect_torch(path, kind, asked, console)
    else:
        _inspect_other(path, kind, asked, console)


def _inspect_torch(path: Path, kind: Kind, asked: Asked, console: Console) -> None:
    from . import torch_files

    content = torch_files.loaded(path)
    words = f"{kind.words} with {torch_files.described(content)}"
    known = Kind("torch", words, files=kind.files)
    state_dict, _ = torch_files.optimizer_in(content)
    if state_dict is None:
        _show_nothing(path, known, asked, console)
        return
    try:
        saved, _ = torch_files.taken(content, None)
    except CheckpointError as error:
        groups = torch_files.groups_of(state_dict)
        _show_nothing(path, known, asked, console, (*groups, f"convert: {error}"))
        return
    _show(path, known, saved, asked, console)


def _inspect_other(path: Path, kind: Kind, asked: Asked, console: Console) -> None:
    if not kind.arrays:
        _show_nothing(path, kind, asked, console)
        return
    everything = of_safetensors(path, kind)
    rows = [row for row, _ in everything]
    shown = chosen(rows, asked)
    if asked.norms:
        kept = {row.path for row in shown}
        shown = [*with_figures([(row, own) for row, own in everything if row.path in kept])]
    if asked.as_json:
        machine.write(console.file, {**machine.about(path, kind), "arrays": machine.nested(shown)})
        return
    _print_kind(console, path, kind)
    console.print(_totals(rows), markup=False, highlight=False)
    _print_rows(console, shown, asked)


def _show_nothing(
    path: Path, kind: Kind, asked: Asked, console: Console, more: Sequence[str] = ()
) -> None:
    if asked.as_json:
        machine.write(
            console.file, {**machine.about(path, kind), **({"more": [*more]} if more else {})}
        )
        return
    _print_kind(console, path, kind)
    for line in more:
        console.print(line, markup=False, highlight=False)


def _show(path: Path, kind: Kind, saved: Checkpoint, asked: Asked, console: Console) -> None:
    """A checkpoint, of whatever file."""
    everything = [*of_checkpoint(saved)]
    wanted_names = {(row.path, row.slot) for row in chosen([row for row, _ in everything], asked)}
    wanted = [(row, tensor) for row, tensor in everything if row[:2] in wanted_names]
    shown = [*with_figures(wanted)] if asked.norms else [row for row, _ in wanted]
    if asked.as_json:
        machine.write(console.file, {**machine.about(path, kind), **machine.contents(saved, shown)})
        return
    _print_kind(console, path, kind)
    _print_facts(console, kind, saved)
    _print_rows(console, shown, asked)
    _print_nonfinite(console, shown)


# For people


def _print_kind(console: Console, path: Path, kind: Kind) -> None:
    text = f"{path}: this is {kind.words}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_facts(console: Console, kind: Kind, saved: Checkpoint) -> None:
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    rules = rules_of(saved)
    for place, (description, paths) in enumerate(rules):
        several = f"{place + 1}" if len(rules) > 1 else ""
        facts.add_row(f"rule {several}".strip(), rule_words(description))
        for label, words in rule_facts(description):
            facts.add_row(f"  {label}", words)
        if several:
            facts.add_row("  for", few(paths))
    facts.add_row("steps", _steps(saved))
    facts.add_row("layout", saved.layout)
    facts.add_row("parameters", _parameters(saved))
    state = sum(own.nbytes for own in saved.parameters.values())
    state += sum(tensor.nbytes for tensor in saved.shared.values())
    values = saved.nbytes - state
    facts.add_row(
        "bytes",
        f"{bytes_words(state)} of state, "
        + (f"{bytes_words(values)} of values" if values else "no values of parameters"),
    )
    files = f" in {len(kind.files)} files, the index included" if len(kind.files) > 1 else ""
    facts.add_row("file", f"{bytes_words(kind.nbytes)}{files}{_written(kind.texts)}")
    console.print(facts, markup=False, highlight=False)


def _written(texts: Mapping[str, str]) -> str:
    if "format_version" not in texts:
        return ""
    return f", version {texts['format_version']} of the format, by {texts.get('written_by')}"


def _steps(saved: Checkpoint) -> str:
    counts: dict[str, list[str]] = {}
    for path, own in saved.parameters.items():
        counts.setdefault("none yet" if own.slots is None else f"{own.step:,}", []).append(path)
    if len(counts) < 2:
        return next(iter(counts), "none")
    return "; ".join(f"{count} of {few(paths)}" for count, paths in counts.items())


def _parameters(saved: Checkpoint) -> str:
    count = sum(math.prod(own.shape) for own in saved.parameters.values())
    dtypes = dict.fromkeys(own.dtype for own in saved.parameters.values())
    return f"{len(saved.parameters):,} of {count:,} elements, {', '.join(dtypes)}"


def _totals(rows: list[Row]) -> str:
    size = sum(row.nbytes for row in rows)
    return f"{len(rows):,} arrays, {bytes_words(size)}"


def _print_rows(console: Console, rows: list[Row], asked: Asked) -> None:
    short = len(rows) > ROWS and asked.parameter is None
    table = _summary(rows) if short else _table_of(rows)
    console.print(table, markup=False, highlight=False)
    if short:
        hint = f"{len(rows):,} arrays, here by slot; --parameter '*' shows each, or a pattern some"
        console.print(hint, markup=False, highlight=False)


def _new_table(*columns: str, right: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=False)
    for column in columns:
        justify: Any = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column in right)
    return table


RIGHT = ("bytes", "norm", "non-finite", "arrays", "elements")


def _table_of(rows: list[Row]) -> Table:
    """A row for every array, and a total."""
    known, slotted = any(row.measured for row in rows), any(row.slot for row in rows)
    titles = ("parameter" if slotted else "array", "slot", "shape", "dtype", "bytes")
    kept = [title for title in titles if slotted or title != "slot"]
    table = _new_table(*kept, *(("norm", "non-finite") if known else ()), right=RIGHT)
    last = None
    for row in rows:
        cells = ["" if row.path == last else row.path, row.slot] if slotted else [row.path]
        cells += [_shape(row.shape), row.dtype, f"{row.nbytes:,}"]
        table.add_row(*cells, *(_figures([row]) if known else ()))
        last = row.path
    if len(rows) > 1:
        table.add_section()
        empty = [""] * (len(kept) - 2 - slotted)
        for slot, own in _by_slot(rows).items():
            size = f"{sum(row.nbytes for row in own):,}"
            norm, bad = _figures(own) if known else ("", "")
            cells = ["total", slot] if slotted else ["total"]
            table.add_row(*cells, *empty, size, *((norm if slotted else "", bad) if known else ()))
    return table


def _by_slot(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.slot, []).append(row)
    return found


def _summary(rows: list[Row]) -> Table:
    """A row for every slot and dtype."""
    known = any(row.measured for row in rows)
    figures = ("norm", "non-finite") if known else ()
    table = _new_table("slot", "dtype", "arrays", "elements", "bytes", *figures, right=RIGHT)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.slot, row.dtype), []).append(row)
    for (slot, dtype), own in groups.items():
        table.add_row(slot or "(array)", dtype, *_sizes(own), *(_figures(own) if known else ()))
    if len(groups) > 1:
        table.add_section()
        bad = sum(row.measured.nonfinite for row in rows if row.measured)
        table.add_row("total", "", *_sizes(rows), *(("", f"{bad:,}") if known else ()))
    return table


def _sizes(rows: list[Row]) -> tuple[str, str, str]:
    elements = sum(math.prod(row.shape) for row in rows)
    return f"{len(rows):,}", f"{elements:,}", f"{sum(row.nbytes for row in rows):,}"


def _figures(rows: list[Row]) -> tuple[str, ...]:
    found = [row.measured for row in rows if row.measured is not None]
    if not found:
        return ("", "")
    norm = math.hypot(*(one.norm for one in found))
    return f"{norm:.4g}", f"{sum(one.nonfinite for one in found):,}"


def _print_nonfinite(console: Console, rows: list[Row]) -> None:
    """The arrays with elements that are no numbers, by name."""
    bad = [row for row in rows if row.measured and row.measured.nonfinite]
    for row in bad[:10]:
        own = row.measured or Measured(0.0, 0, 0)
        words = [f"{n:,} {what}" for n, what in ((own.nan, "NaN"), (own.infinite, "infinite")) if n]
        text = f"{row.path}, {row.slot}: {' and '.join(words)} of {math.prod(row.shape):,} elements"
        console.print(text, markup=False, highlight=False, style="red")
    if len(bad) > 10:
        console.print(f"and {len(bad) - 10:,} more arrays with such elements", style="red")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "0-d"
