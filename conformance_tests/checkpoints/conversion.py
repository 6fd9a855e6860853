"""``samestep convert``: an optimizer state in one file as another file, for another framework."""

# ruff: noqa: PLC0415  (frameworks are imported only for files of their own)

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from samestep.checkpoint import Checkpoint, CheckpointError, Map, read, write
from samestep.checkpoint.maps import Report

from .descriptions import few, in_bytes, rule_words
from .kinds import kind_of
from .progress import watched

__all__ = ["TARGETS", "Target", "convert", "map_of"]

TARGETS = ("samestep", "torch", "optax", "mlx")
LAYOUTS = {"torch": "torch", "optax": "jax", "mlx": "mlx"}
"""What the shapes must follow."""
NAMES = 8
"""That are printed of many."""


class Target(NamedTuple):
    """What is to be written."""

    path: Path
    to: str = "samestep"
    rule: str | None = None
    max_shard_bytes: int | None = None


def convert(source: Path, target: Target, chosen: Map | None, console: Console) -> None:
    """Write the state in ``source`` to another file, and print what has been done.

    Raises:
        CheckpointError: it cannot be read, or not be carried; nothing has been written.
        OSError: it cannot be written.
    """
    saved, what = _read(source, target)
    saved, report = (saved, None) if chosen is None else chosen.apply(saved)
    if report is not None:
        _print_report(console, report)
    try:
        with _complete():
            made = _write(saved, target)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    size, steps = in_bytes(saved.nbytes), f"{saved.step:,} steps"
    _say(console, f"{source} ({what}): {len(saved.parameters):,} parameters, {steps}, {size}")
    _say(console, f"{target.path}: written, {made}")
    _print_left(console, saved, target)
    _print_layout(console, saved, target)


def map_of(text: str) -> Map:
    """The map that an argument names: a TOML file, or ``torch:flax``.

    Raises:
        ValueError: it is neither.
        FileNotFoundError: there is no such file.
    """
    source, colon, target = text.partition(":")
    if colon and not Path(text).exists():
        return Map.between(source, target)
    return Map.read(text)


@contextmanager
def _complete() -> Iterator[None]:
    """Refuse what would be carried in part, of which libraries only warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?s).* keeps its own ", category=UserWarning)
        try:
            yield
        except UserWarning as warning:
            raise CheckpointError(f"not all can be carried: {warning}") from None


def _read(path: Path, target: Target) -> tuple[Checkpoint, str]:
    """The state in a file, and what wrote it."""
    kind = kind_of(path)
    if kind.name == "samestep":
        later = target.to == "samestep"  # looked at as it is written
        with watched("reading", kind.nbytes) as progress:
            saved = read(path, lazily=later, progress=None if later else progress)
        words = dict.fromkeys(rule_words(own.rule) for own in saved.parameters.values())
        return saved, f"{', '.join(words) or 'no rule'}, layout of {saved.layout}"
    try:
        if kind.name == "torch":
            from . import torch_files

            return torch_files.taken(torch_files.loaded(path), target.rule)
        if kind.name == "mlx":
            from . import mlx_files

            return mlx_files.taken(path, target.rule, kind.texts.get("optimizer"))
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if str(path) in text else f"{path}: {text}") from None
    raise CheckpointError(f"{path}: this is {kind.words}; it cannot be converted")


def _write(saved: Checkpoint, target: Target) -> str:
    """Write the file of the kind that is asked for; what it is."""
    if target.to == "samestep":
        with watched("writing", saved.nbytes) as progress:
            write(target.path, saved, max_shard_bytes=target.max_shard_bytes, progress=progress)
        return "a checkpoint of samestep"
    if target.to == "torch":
        from . import torch_files

        state_dict, name = torch_files.to_torch(saved, target.rule)
        _replace(target.path, lambda path: torch_files.save(state_dict, path))
        return f"the state dict of {name}"
    if target.to == "mlx":
        from . import mlx_files

        flat, name = mlx_files.to_mlx(saved, target.rule)
        _replace(target.path, lambda path: mlx_files.save(flat, name, path))
        return f"the state of {name}"
    from . import optax_files

    arrays, name = optax_files.to_optax(saved)
    _replace(target.path, lambda path: optax_files.save(arrays, name, path))
    return f"the state of {name}"


def _replace(target: Path, write_to: Callable[[Path], None]) -> None:
    """Write a file under another name, flush it to the disk, and put it in the target's place."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.safetensors")
    try:
        write_to(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # where folders cannot be flushed the system sees to it
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_report(console: Console, report: Report) -> None:
    """What a map has done, a line for each rule."""
    by_rule: dict[str, list[str]] = {}
    for move in report.moves:
        words = f"{', '.join(move.sources)} -> {', '.join(move.targets)}"
        by_rule.setdefault(move.rule, []).append(words)
    for rule, moves in by_rule.items():
        _say(console, f"{rule}: {len(moves):,}, such as {moves[0]}")
    if report.unmatched:
        names = few(report.unmatched, NAMES)
        _say(console, f"no rule matched {len(report.unmatched):,}, which stay: {names}")
    for rule in report.unused:
        _say(console, f"nothing matched {rule}")
    for remark in report.remarks:
        _say(console, remark)


def _print_layout(console: Console, saved: Checkpoint, target: Target) -> None:
    wanted = LAYOUTS.get(target.to)
    if wanted is not None and saved.layout not in (wanted, "numpy"):
        _say(
            console,
            f"names and shapes are still those of {saved.layout}; --map can make them those of a "
            f"model of {wanted}",
        )


def _print_left(console: Console, saved: Checkpoint, target: Target) -> None:
    """What the new file has no place for."""
    values = [path for path, own in saved.parameters.items() if own.value is not None]
    if values and target.to != "samestep":
        _say(
            console,
            f"the values of {len(values):,} parameters are not in it, only the optimizer's state",
        )
