"""``samestep inspect``: the contents of a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from samestep import recording
from samestep.checkpoints import Checkpoint, CheckpointError, read
from samestep.command_line import options
from samestep.command_line.files.descriptions import (
    bytes_words,
    few,
    rule_facts,
    rule_words,
    rules_of,
)
from samestep.command_line.files.kinds import Kind, kind_of
from samestep.command_line.files.rows import (
    ALL,
    VALUE,
    Asked,
    Measured,
    Row,
    chosen,
    of_checkpoint,
    of_safetensors,
    with_figures,
)
from samestep.command_line.report import Block, Facts, Line, Report, Table, show

__all__ = ["command"]

ROWS = 40
"""Arrays up to which each has a row of its own."""
RIGHT = ("bytes", "norm", "non-finite", "arrays", "elements")
"""Columns of numbers."""


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--slots", metavar="NAME,NAME,...", help="Slots; all by default.")
@click.option(
    "--parameter",
    metavar="PATTERN",
    help="Only parameters like this, one by one: 'layers.*.weight'; '*' shows all.",
)
@click.option(
    "--norms/--no-norms",
    default=True,
    show_default=True,
    help="Read the arrays, to show norms and count NaN and infinite elements.",
)
@options.as_json
def command(
    file: Path, slots: str | None, parameter: str | None, norms: bool, as_json: bool
) -> None:
    """Show the contents of FILE: rule, numbers, steps, and every array of the state.

    More than 40 arrays are summed up by slot. Of a file that is no checkpoint of samestep the
    command says what it is; nothing in the file is run.
    """
    names = () if slots is None else tuple(name.strip() for name in slots.split(","))
    with options.refusing():
        show(_report(file, Asked(names, parameter, norms)), as_json=as_json)


def _report(path: Path, asked: Asked) -> Report:
    """The report on a file of any kind.

    Raises:
        CheckpointError: the file is damaged, or has no such slot or parameter.
    """
    kind = kind_of(path)
    if kind.name == "samestep":
        return _of_state(path, kind, read(path, lazily=True), asked)
    if kind.name == "recording":
        return _of_recording(path, kind)
    return (_of_torch if kind.name == "torch" else _of_other)(path, kind, asked)


def _of_recording(path: Path, kind: Kind) -> Report:
    lines = []
    for session in recording.read(path).sessions:
        numbers = [step.number for step in session.steps]
        span = f" from {numbers[0]} to {numbers[-1]}" if numbers else ""
        of = session.run.get("optimizer") or session.run.get("framework")
        names = {name for step in session.steps for name in step.before}
        lines.append(f"{of}: {len(numbers):,} steps{span}, of {len(names):,} parameters")
    return _about(path, kind, map(Line, lines), {"sessions": lines})


def _of_torch(path: Path, kind: Kind, asked: Asked) -> Report:
    from samestep.command_line.files import torch_files

    content = torch_files.loaded(path)
    words = f"{kind.words} with {torch_files.described(content)}"
    known = Kind("torch", words, files=kind.files)
    state_dict, _ = torch_files.optimizer_in(content)
    if state_dict is None:
        return _about(path, known)
    try:
        saved, _ = torch_files.taken(content, None)
    except CheckpointError as error:
        more = [*torch_files.groups_of(state_dict), f"convert: {error}"]
        return _about(path, known, map(Line, more), {"more": more})
    return _of_state(path, known, saved, asked)


def _of_other(path: Path, kind: Kind, asked: Asked) -> Report:
    if not kind.arrays:
        return _about(path, kind)
    everything = of_safetensors(path, kind)
    rows = [row for row, _ in everything]
    shown = chosen(rows, asked)
    if asked.norms:
        kept = {row.path for row in shown}
        shown = [*with_figures([(row, own) for row, own in everything if row.path in kept])]
    size = bytes_words(sum(row.nbytes for row in rows))
    blocks = (Line(f"{len(rows):,} arrays, {size}"), *_arrays(shown, asked))
    return _about(path, kind, blocks, {"arrays": _nested(shown)})


def _of_state(path: Path, kind: Kind, saved: Checkpoint, asked: Asked) -> Report:
    """The report on a checkpoint, whatever file it comes from."""
    everything = [*of_checkpoint(saved)]
    wanted_names = {(row.path, row.slot) for row in chosen([row for row, _ in everything], asked)}
    wanted = [(row, tensor) for row, tensor in everything if row[:2] in wanted_names]
    shown = [*with_figures(wanted)] if asked.norms else [row for row, _ in wanted]
    blocks = (Facts(_facts(kind, saved)), *_arrays(shown, asked), *_nonfinite(shown))
    return _about(path, kind, blocks, _contents(saved, shown))


def _about(
    path: Path, kind: Kind, blocks: Iterable[Block] = (), data: Mapping[str, Any] | None = None
) -> Report:
    """The report: first the kind of the file, then the given blocks."""
    texts = {n: kind.texts[n] for n in ("format_version", "written_by") if n in kind.texts}
    return Report(
        [Line(f"{path}: this is {kind.words}", whole=True), *blocks],
        data={
            "file": str(path),
            "kind": kind.name,
            "is": kind.words,
            **texts,
            "files": [file.name for file in kind.files],
            "bytes_of_files": kind.nbytes,
            **(data or {}),
        },
    )


def _facts(kind: Kind, saved: Checkpoint) -> list[tuple[str, str]]:
    """Rules with their numbers, steps, layout and sizes."""
    facts = []
    rules = rules_of(saved)
    for place, (description, paths) in enumerate(rules):
        several = f"{place + 1}" if len(rules) > 1 else ""
        facts.append((f"rule {several}".strip(), rule_words(description)))
        facts += [(f"  {label}", words) for label, words in rule_facts(description)]
        facts += [("  for", few(paths))] if several else []
    state = sum(own.nbytes for own in saved.parameters.values())
    state += sum(tensor.nbytes for tensor in saved.shared.values())
    values = saved.nbytes - state
    valued = f"{bytes_words(values)} of values" if values else "no values of parameters"
    files = f" in {len(kind.files)} files, the index included" if len(kind.files) > 1 else ""
    return [
        *facts,
        ("steps", _steps(saved)),
        ("layout", saved.layout),
        ("parameters", _parameters(saved)),
        ("bytes", f"{bytes_words(state)} of state, {valued}"),
        ("file", f"{bytes_words(kind.nbytes)}{files}{_written(kind.texts)}"),
    ]


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


def _arrays(rows: list[Row], asked: Asked) -> Iterator[Block]:
    short = len(rows) > ROWS and asked.parameter is None
    yield _summary(rows) if short else _table_of(rows)
    if short:
        yield Line(
            f"{len(rows):,} arrays, here by slot; --parameter '*' shows each, or a pattern some"
        )


def _table_of(rows: list[Row]) -> Table:
    """A row for every array, and a total."""
    known, slotted = any(row.measured for row in rows), any(row.slot for row in rows)
    titles = ("parameter" if slotted else "array", "slot", "shape", "dtype", "bytes")
    kept = [title for title in titles if slotted or title != "slot"]
    columns = (*kept, *(("norm", "non-finite") if known else ()))
    cells, last = [], None
    for row in rows:
        named = ["" if row.path == last else row.path, row.slot] if slotted else [row.path]
        about = (_shape(row.shape), row.dtype, f"{row.nbytes:,}")
        cells.append((*named, *about, *(_figures([row]) if known else ())))
        last = row.path
    count = len(cells)
    for slot, own in _by_slot(rows).items() if count > 1 else ():
        norm, bad = _figures(own) if known else ("", "")
        named = ["total", slot] if slotted else ["total"]
        empty = [""] * (len(kept) - 2 - slotted)
        size = f"{sum(row.nbytes for row in own):,}"
        cells.append((*named, *empty, size, *((norm if slotted else "", bad) if known else ())))
    return _table(columns, cells, count)


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], count: int) -> Table:
    """A table with a line below its first ``count`` rows, if it has more."""
    ends = (count - 1,) if count < len(cells) else ()
    return Table(columns, cells, right=RIGHT, unbroken=RIGHT, ends=ends, frame="head")


def _by_slot(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.slot, []).append(row)
    return found


def _summary(rows: list[Row]) -> Table:
    """A row for every slot and dtype."""
    known = any(row.measured for row in rows)
    figures = ("norm", "non-finite") if known else ()
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.slot, row.dtype), []).append(row)
    cells = [
        (slot or "(array)", dtype, *_sizes(own), *(_figures(own) if known else ()))
        for (slot, dtype), own in groups.items()
    ]
    if len(groups) > 1:
        bad = sum(row.measured.nonfinite for row in rows if row.measured)
        cells.append(("total", "", *_sizes(rows), *(("", f"{bad:,}") if known else ())))
    columns = ("slot", "dtype", "arrays", "elements", "bytes", *figures)
    return _table(columns, cells, len(groups))


def _sizes(rows: list[Row]) -> tuple[str, str, str]:
    elements = sum(math.prod(row.shape) for row in rows)
    return f"{len(rows):,}", f"{elements:,}", f"{sum(row.nbytes for row in rows):,}"


def _figures(rows: list[Row]) -> tuple[str, ...]:
    found = [row.measured for row in rows if row.measured is not None]
    if not found:
        return ("", "")
    norm = math.hypot(*(one.norm for one in found))
    return f"{norm:.4g}", f"{sum(one.nonfinite for one in found):,}"


def _nonfinite(rows: list[Row]) -> Iterator[Block]:
    """The names of the arrays with NaN or infinite elements."""
    bad = [row for row in rows if row.measured and row.measured.nonfinite]
    for row in bad[:10]:
        own = row.measured or Measured(0.0, 0, 0)
        words = [f"{n:,} {what}" for n, what in ((own.nan, "NaN"), (own.infinite, "infinite")) if n]
        text = f"{row.path}, {row.slot}: {' and '.join(words)} of {math.prod(row.shape):,} elements"
        yield Line(text, mark="bad")
    if len(bad) > 10:
        yield Line(f"and {len(bad) - 10:,} more arrays with such elements", mark="bad")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "0-d"


# For JSON


def _contents(saved: Checkpoint, rows: Sequence[Row]) -> dict[str, Any]:
    """The values of a checkpoint, with the chosen rows."""
    rules = rules_of(saved)
    place = {path: at for at, (_, paths) in enumerate(rules) for path in paths}
    arrays = _nested(rows)
    return {
        "layout": saved.layout,
        "step": saved.step,
        "bytes": saved.nbytes,
        "rules": [{**said, "repr": rule_words(said), "parameters": len(p)} for said, p in rules],
        "parameters": {
            path: {
                "shape": own.shape,
                "dtype": own.dtype,
                "step": None if own.slots is None else own.step,
                "rule": place[path],
                "slots": {s: a for s, a in arrays.get(path, {}).items() if s != VALUE},
                "value": arrays.get(path, {}).get(VALUE),
            }
            for path, own in saved.parameters.items()
            if path in arrays or own.slots is None
        },
        "shared": arrays.get(ALL, {}),
        "totals": _counts(rows) | {"bytes": sum(row.nbytes for row in rows)},
    }


def _nested(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Arrays by parameter and slot."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        array = {"shape": row.shape, "dtype": row.dtype, "bytes": row.nbytes} | _counts([row])
        if row.slot:
            found.setdefault(row.path, {})[row.slot] = array
        else:
            found[row.path] = array
    return found


def _counts(rows: Sequence[Row]) -> dict[str, Any]:
    found = [row.measured for row in rows if row.measured is not None]
    if not found:
        return {}
    return {
        "norm": math.hypot(*(one.norm for one in found)),
        "nan": sum(one.nan for one in found),
        "infinite": sum(one.infinite for one in found),
    }
