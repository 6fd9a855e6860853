"""``samestep convert``: an optimizer state in one file as another file, for another framework."""

# ruff: noqa: PLC0415  (frameworks are imported only for files of their own)

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from samestep.checkpoints import Checkpoint, CheckpointError, Map, read, write
from samestep.checkpoints.maps import Report
from samestep.checkpoints.replacing import replaced
from samestep.command_line.progress import watched

from .descriptions import few, in_bytes, rule_words, rules_of, schedules
from .kinds import kind_of
from .orders import NAMES, ordered

__all__ = ["TARGETS", "Target", "convert", "map_of"]

TARGETS = ("samestep", "torch", "optax", "mlx")
NAMED = ("torch", "mlx")
"""The targets of which --rule names the class, if several compute the rule of a checkpoint."""
LAYOUTS = {"torch": "torch", "optax": "jax", "mlx": "mlx"}
"""The layout that shapes and names must have, by target."""


class Target(NamedTuple):
    """The file to be written."""

    path: Path
    to: str = "samestep"
    rule: str | None = None
    max_shard_bytes: int | None = None
    order: Path | None = None


def convert(source: Path, target: Target, chosen: Map | None) -> Iterator[str]:
    """Write the state in ``source`` to another file, and yield sentences about it.

    Raises:
        CheckpointError: the state cannot be read, or not be carried; nothing has been written.
        OSError: the file cannot be written.
    """
    saved, what = _read(source, target)
    layout = saved.layout
    saved, report = (saved, None) if chosen is None else chosen.apply(saved)
    if report is not None:
        yield from _moved(report)
    in_order = layout == "torch" and _is_in_order(saved, report)
    if target.order is not None:
        saved, in_order = ordered(saved, target.order), True
    try:
        with _complete():
            made = _write(saved, target, in_order)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    size, steps = in_bytes(saved.nbytes), f"{saved.step:,} steps"
    yield f"{source} ({what}): {len(saved.parameters):,} parameters, {steps}, {size}"
    yield f"{target.path}: written, {made.what}"
    yield from made.lines
    if target.to != "samestep":
        yield from _not_carried(saved, target)
    elif saved.layout == "torch" != layout:
        yield f"its parameters are still in the order of {layout}; --to torch needs --order"


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
    """Refuse a state that would be carried in part, about which the adapters only warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?s).* keeps its own ", category=UserWarning)
        said = "(?s).* as a number, .* a schedule$"  # by the command itself
        warnings.filterwarnings("ignore", message=said, category=UserWarning)
        try:
            yield
        except UserWarning as warning:
            raise CheckpointError(f"not all can be carried: {warning}") from None


def _read(path: Path, target: Target) -> tuple[Checkpoint, str]:
    """The state in a file, and a text about its origin."""
    kind = kind_of(path)
    if kind.name == "samestep":
        later = target.to == "samestep"  # looked at as it is written
        with watched("reading", kind.nbytes) as progress:
            saved = read(path, lazily=later, progress=None if later else progress)
        rules = dict.fromkeys(rule_words(own.rule) for own in saved.parameters.values())
        words = ", ".join(rules) or "no rule"
        if target.rule is not None and target.to not in NAMED:
            raise CheckpointError(
                f"{path}: it is a checkpoint, which says its rule: {words}. --rule {target.rule} "
                "changes nothing of it; leave it out. samestep.load(path, optimizer) loads a "
                "checkpoint into an optimizer with other numbers"
            )
        return saved, f"{words}, layout of {saved.layout}"
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


def _is_in_order(saved: Checkpoint, report: Report | None) -> bool:
    """Whether parameters that come from a checkpoint of layout torch are in its order.

    A map may have split or merged them. And an earlier one may have given the sorted tree of JAX
    torch's layout: then a bias comes before its weight, which it does in no layer of torch.
    """
    moves = () if report is None else report.moves
    parts = [path.rpartition(".") for path in saved.parameters]
    sorted_leaves = any(
        one[2] == "bias" and other[::2] == (one[0], "weight") for one, other in pairwise(parts)
    )
    one_by_one = all(len(move.sources) == len(move.targets) == 1 for move in moves)
    return saved.layout == "torch" and one_by_one and not sorted_leaves


class _Made(NamedTuple):
    """A file that has been written."""

    what: str
    lines: tuple[str, ...] = ()
    """More sentences about it."""


def _write(saved: Checkpoint, target: Target, in_order: bool) -> _Made:
    """Write the file in the format of the target."""
    if target.to == "samestep":
        with watched("writing", saved.nbytes) as progress:
            write(target.path, saved, max_shard_bytes=target.max_shard_bytes, progress=progress)
        return _Made("a checkpoint of samestep")
    if target.to == "torch":
        return _write_torch(saved, target, in_order)
    if target.to == "mlx":
        from . import mlx_files

        flat, name = mlx_files.to_mlx(saved, target.rule)
        _replace(target.path, lambda file: mlx_files.save(flat, name, file))
        return _Made(f"the state of {name}")
    from . import optax_files

    arrays, name = optax_files.to_optax(saved)
    _replace(target.path, lambda file: optax_files.save(arrays, name, file))
    return _Made(f"the state of {name}")


def _write_torch(saved: Checkpoint, target: Target, in_order: bool) -> _Made:
    from . import torch_files

    state_dict, name = torch_files.to_torch(saved, target.rule)
    if not in_order and len(saved.parameters) > 1:
        raise CheckpointError(
            "torch.optim finds the state of a parameter by its place, not by its name, and this "
            f"checkpoint ({_not_of_torch(saved)}) does not tell the order in which an optimizer "
            "of torch has them: parameters of one shape would get each other's state. Give the "
            "order with --order FILE (a file of torch.save with the model's state dict, a list of "
            "names, or a checkpoint of layout torch), or load the checkpoint by names instead: "
            "samestep.load(path, torch_optimizer, model), with map= where that is needed"
        )
    _replace(target.path, lambda file: torch_files.save(state_dict, file))
    return _Made(f"the state dict of {name}", tuple(_arrangement(state_dict)))


def _not_of_torch(saved: Checkpoint) -> str:
    if saved.layout == "torch":
        return (
            "whose layout a map has changed to torch's, or whose parameters it has split or merged"
        )
    return f"of layout {saved.layout}"


def _arrangement(state_dict: dict[str, Any]) -> Iterator[str]:
    """The groups and the order in which an optimizer must have its parameters to load this."""
    groups = state_dict["param_groups"]
    names = [[str(name) for name in g.get("param_names", g["params"])] for g in groups]
    if len(groups) == 1:
        if "param_names" in groups[0]:
            yield f"the optimizer must have its parameters in this order: {few(names[0], NAMES)}"
        return
    yield (
        f"the optimizer must be made with these {len(groups)} groups, in this order, and the "
        "parameters of each in its order:"
    )
    apart = [n for n in groups[0] if n not in ("params", "param_names")]
    apart = [n for n in apart if any(g[n] != groups[0][n] for g in groups)]
    for place, group in enumerate(groups):
        said = ", ".join(f"{n}={group[n]!r}" for n in apart)
        yield f"group {place} ({said}): {', '.join(names[place])}"


def _replace(target: Path, write_to: Callable[[BinaryIO], None]) -> None:
    """Write a file, flush it to the disk, and put it in the target's place."""
    with replaced(Path(os.path.realpath(target))) as (file, _):  # behind a link
        write_to(file)
        file.flush()
        os.fsync(file.fileno())


def _moved(report: Report) -> Iterator[str]:
    """A sentence for each rule of a map, and one for each thing that it left."""
    by_rule: dict[str, list[str]] = {}
    for move in report.moves:
        words = f"{', '.join(move.sources)} -> {', '.join(move.targets)}"
        by_rule.setdefault(move.rule, []).append(words)
    for rule, moves in by_rule.items():
        yield f"{rule}: {len(moves):,}, such as {moves[0]}"
    if report.unmatched:
        names = few(report.unmatched, NAMES)
        yield f"no rule matched {len(report.unmatched):,}, which stay: {names}"
    yield from (f"nothing matched {rule}" for rule in report.unused)
    yield from report.remarks


def _not_carried(saved: Checkpoint, target: Target) -> Iterator[str]:
    """Sentences about schedules and values that the new file lacks, and about its layout."""
    for line in dict.fromkeys(line for rule, _ in rules_of(saved) for line in schedules(rule)):
        yield f"{line}; in the new file it is this number, which no longer changes"
    values = [path for path, own in saved.parameters.items() if own.value is not None]
    if values:
        yield f"the values of {len(values):,} parameters are not in it, only the optimizer's state"
    wanted = LAYOUTS.get(target.to)
    if wanted is not None and saved.layout not in (wanted, "numpy"):
        yield (
            f"names and shapes are still those of {saved.layout}; --map can make them those of a "
            f"model of {wanted}"
        )
