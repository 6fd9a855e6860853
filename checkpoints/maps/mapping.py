"""Maps: a checkpoint under the names and in the shapes of another model.

    map = Map(
        {"from": "layers.{i}.fc.weight", "to": "layers_{i}.fc.kernel", "transpose": [1, 0]},
        {"from": "{b...}.qkv.bias", "split": {"axis": 0, "into": ["{b...}.q.bias", ...]}},
    )
    checkpoint, report = map.apply(checkpoint)

The first rule that matches a parameter is applied to it. A parameter without a rule is unchanged.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from samestep.checkpoints.contents import arrays
from samestep.checkpoints.state import Checkpoint, CheckpointError, ParameterState, few

from .carrying import UNOWNED, Refused
from .layouts import between
from .map_rule import MapRule, check_keys, checked, parsed
from .steps import remark

__all__ = ["Map", "Mapped", "Move", "Report"]


@dataclass(frozen=True)
class Move:
    """The effect of a rule."""

    rule: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The effect of a map on a checkpoint; ``str`` makes a short text of it."""

    moves: tuple[Move, ...] = ()
    unmatched: tuple[str, ...] = ()
    """Parameters that no rule matched; they are unchanged."""
    unused: tuple[str, ...] = ()
    """Rules that matched nothing, except for the rules of ``Map.between``."""
    remarks: tuple[str, ...] = ()
    """Effects on later steps, although all of the state has been carried."""

    def __str__(self) -> str:
        by_rule: dict[str, list[Move]] = {}
        for move in self.moves:
            by_rule.setdefault(move.rule, []).append(move)
        lines = [
            f"{rule}: {len(moves)}, such as {', '.join(moves[0].sources)} -> "
            f"{', '.join(moves[0].targets)}"
            for rule, moves in by_rule.items()
        ]
        if self.unmatched:
            lines.append(f"no rule matched {len(self.unmatched)}: {', '.join(self.unmatched)}")
        lines += [f"nothing matched {rule}" for rule in self.unused]
        return "\n".join((*lines, *self.remarks))

    def then(self, later: Report) -> Report:
        """The report of two maps, one after the other."""
        return Report(
            self.moves + later.moves,
            tuple(path for path in self.unmatched if path in {*later.unmatched}),
            self.unused + later.unused,
            tuple(dict.fromkeys(self.remarks + later.remarks)),
        )


class Mapped(NamedTuple):
    """A checkpoint under its new names, and the report."""

    checkpoint: Checkpoint
    report: Report


@dataclass(frozen=True)
class _Job:
    """Parameters that one rule changes together."""

    rule: MapRule | None
    captures: dict[str, str]
    paths: dict[int, str] = field(default_factory=dict)
    """By the place of the pattern that matched."""


@dataclass(frozen=True)
class _Stage:
    """Rules; at most one of them is applied to a parameter."""

    name: str
    rules: tuple[MapRule, ...]
    strict: bool
    layouts: tuple[str, str] | None = None

    def apply(self, checkpoint: Checkpoint) -> Mapped:
        """The checkpoint after these rules."""
        self._refuse_other_layout(checkpoint)
        jobs = self._jobs(checkpoint)
        found: dict[str, ParameterState] = {}
        origin: dict[str, str] = {}
        moves, remarks = [], []
        for job in jobs:
            sources, targets = self._done(job, checkpoint)
            words = ", ".join(sources)
            for path, own in targets.items():
                if path in found:
                    raise CheckpointError(
                        f"{self.name}: {origin[path]!r} and {words!r} are both called {path!r} "
                        "after it"
                    )
                found[path], origin[path] = own, words
            if job.rule is not None:
                moves.append(Move(str(job.rule), sources, tuple(targets)))
                remarks.append(remark(checkpoint.parameters[sources[0]], job.rule.steps))
        used = {id(job.rule) for job in jobs}
        layout = self.layouts[1] if self.layouts else checkpoint.layout
        report = Report(
            tuple(moves),
            tuple(path for job in jobs if job.rule is None for path in job.paths.values()),
            () if self.layouts else tuple(str(r) for r in self.rules if id(r) not in used),
            tuple(dict.fromkeys(filter(None, remarks))),
        )
        return Mapped(replace(checkpoint, parameters=found, layout=layout), report)

    def _refuse_other_layout(self, checkpoint: Checkpoint) -> None:
        if self.layouts and checkpoint.layout not in (self.layouts[0], "numpy"):
            raise CheckpointError(
                f"{self.name}: the checkpoint's layout is that of {checkpoint.layout}; the map is "
                f"for that of {self.layouts[0]}"
            )

    def _jobs(self, checkpoint: Checkpoint) -> list[_Job]:
        jobs: dict[Any, _Job] = {}
        for path, own in checkpoint.parameters.items():
            for place, rule in enumerate(self.rules):
                match = rule.match(path, len(own.shape))
                if match is not None:
                    at, captures = match
                    job = _Job(rule, captures)
                    jobs.setdefault((place, *sorted(captures.items())), job).paths[at] = path
                    break
            else:
                jobs[path] = _Job(None, {}, {0: path})
        alone = [path for path, job in jobs.items() if job.rule is None]
        if alone and self.strict:
            raise CheckpointError(f"{self.name} is strict, and no rule matches {few(alone)}")
        return list(jobs.values())

    def _done(
        self, job: _Job, checkpoint: Checkpoint
    ) -> tuple[tuple[str, ...], dict[str, ParameterState]]:
        """The parameters that a job takes, and the parameters that it makes, by name."""
        if job.rule is None:
            path = job.paths[0]
            return (path,), {path: checkpoint.parameters[path]}
        wanted = [pattern.filled(job.captures) for pattern in job.rule.sources]
        missing = [path for at, path in enumerate(wanted) if at not in job.paths]
        if missing:
            raise CheckpointError(
                f"{job.rule.where}: {', '.join(job.paths.values())} should be merged with "
                f"{', '.join(missing)}, and the checkpoint has no such parameter that goes to this "
                "rule"
            )
        names = [pattern.filled(job.captures) for pattern in job.rule.targets]
        owns = [checkpoint.parameters[path] for path in wanted]
        try:
            for step in job.rule.steps:
                owns = step(owns, job.captures)
        except Refused as error:
            few = "parameter" if len(wanted) == 1 else "parameters"
            raise CheckpointError(
                f"{job.rule.where}: {few} {', '.join(map(repr, wanted))}: {error}"
            ) from None
        if len({*names}) < len(names):
            raise CheckpointError(f"{job.rule.where}: pieces of {wanted[0]!r} are called alike")
        return tuple(wanted), dict(zip(names, owns, strict=True))

    def inverse(self) -> _Stage:
        """The inverse rules."""
        rules = tuple(rule.inverse() for rule in self.rules)
        layouts = self.layouts and (self.layouts[1], self.layouts[0])
        return _Stage(f"{self.name}, backwards", rules, self.strict, layouts)


def _together(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its ``others`` among the parameters, marked as ``UNOWNED``."""
    others = {
        path: ParameterState(value.shape, value.dtype, 0, UNOWNED, None, value)
        for path, value in checkpoint.others.items()
    }
    return replace(checkpoint, parameters={**checkpoint.parameters, **others}, others={})


def _apart(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the parameters marked as ``UNOWNED`` among its ``others``."""
    owned = {p: own for p, own in checkpoint.parameters.items() if own.rule != UNOWNED}
    others = {
        path: own.value
        for path, own in checkpoint.parameters.items()
        if path not in owned and own.value is not None
    }
    return replace(checkpoint, parameters=owned, others=others)


KEYS = ("strict", "between", "rules")
BETWEEN = ("from", "to", "embeddings")


class Map:
    """Rules that turn a checkpoint into the checkpoint of another model, state and values.

    Args:
        rules: dicts, which are tables in a TOML file:

            ``from``: a pattern of the parameter's path. ``{i}`` is one part of the path, or a piece
            of a part. ``{block...}`` is any number of parts. ``to``: the new path, with the same
            gaps. ``ndim``: the rule is only for parameters with this number of dimensions.
            ``merge``: ``{axis, from}``, instead of ``from``: several patterns, whose parameters are
            concatenated; ``sizes`` are the sizes that they must have.
            ``transpose``: the old axes in their new order.
            ``reshape``: the new sizes; one of them may be -1, and any may be ``"{i}"``. ``was``:
            the old sizes, which the inverse needs. ``split``: ``{axis, into}``, instead of ``to``:
            several paths, for equal pieces or for pieces of ``sizes``.

            The order is: merge, transpose, reshape, split.
        strict: whether a parameter that no rule matches is an error; else it is unchanged.

    Raises:
        ValueError: a rule is malformed.
    """

    def __init__(self, *rules: Mapping[str, Any], strict: bool = False) -> None:
        self.stages: tuple[_Stage, ...] = (_stage("Map", rules, strict),)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """The map in a TOML file: ``strict``, ``[[rules]]``, and ``between``, which comes last.

            between = { from = "torch", to = "flax", embeddings = ["tokens"] }

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not TOML, or is not a map.
        """
        name = os.fspath(path)
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{name}: this is no TOML: {error}") from None
        check_keys(name, table, KEYS)
        strict = checked(f"{name}: strict", table.get("strict", False), bool)
        rules = checked(f"{name}: rules", table.get("rules", []), list)
        made = cls._of(_stage(name, rules, strict))
        if "between" not in table:
            return made
        where = f"{name}: between"
        preset = checked(where, table["between"], dict)
        check_keys(where, preset, BETWEEN)
        if not {"from", "to"} <= preset.keys():
            raise ValueError(f"{where} must have from and to")
        return made.then(cls._between(where, *(preset.get(key, ()) for key in BETWEEN)))

    @classmethod
    def between(cls, source: str, target: str, *, embeddings: str | Iterable[str] = ()) -> Self:
        """The map from the layers of one framework to the layers of another.

        Linear layers, convolutions of one to three dimensions, norms and embeddings; modules keep
        their names. A weight of two dimensions belongs to a linear layer, unless its module is
        among ``embeddings``.

        Args:
            source: ``"torch"``, ``"mlx"``, ``"flax"`` (Linen), ``"nnx"`` or ``"equinox"``.
            target: the same.
            embeddings: patterns of the modules that are embeddings, such as ``"tokens"`` and
                ``"{block...}.embed"``. Only Flax has another name for their weights, so give them
                for a map to Flax, and for the inverse of a map from Flax.
        """
        return cls._between(f"Map.between({source!r}, {target!r})", source, target, embeddings)

    @classmethod
    def _between(cls, name: str, source: Any, target: Any, embeddings: Any) -> Self:
        several = [embeddings] if isinstance(embeddings, str) else embeddings
        if not isinstance(several, Iterable) or not all(isinstance(one, str) for one in several):
            raise ValueError(f"{name}: embeddings is {embeddings!r}; it must be a list of paths")
        try:
            rules, layouts = between(source, target, tuple(several))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return cls._of(replace(_stage(name, rules, False), layouts=layouts))

    @classmethod
    def _of(cls, *stages: _Stage) -> Self:
        made = cls.__new__(cls)
        made.stages = stages
        return made

    def then(self, later: Map) -> Self:
        """This map and then another, whose rules see the new names and shapes."""
        return self._of(*self.stages, *later.stages)

    def apply(self, checkpoint: Checkpoint) -> Mapped:
        """The checkpoint under its new names and in its new shapes, and a report.

        Raises:
            CheckpointError: two parameters get one name, an array does not have the shape of its
                rule, or state cannot be carried exactly.
        """
        report = None
        checkpoint = _together(checkpoint)
        for stage in self.stages:
            checkpoint, own = stage.apply(checkpoint)
            report = own if report is None else report.then(own)
        return Mapped(_apart(checkpoint), report or Report())

    def inverse(self) -> Self:
        """The inverse map.

        Raises:
            ValueError: a rule has no inverse: its new name lacks a gap of the old name, or it
                reshapes without ``was``.
        """
        return self._of(*(stage.inverse() for stage in reversed(self.stages)))

    def check(self, checkpoint: Checkpoint) -> Report:
        """The report of the map, if the inverse map restores the checkpoint to the last bit.

        Raises:
            CheckpointError: it does not. The message names the first difference.
        """
        there, report = self.apply(checkpoint)
        back, _ = self.inverse().apply(there)
        difference = _difference(checkpoint, back)
        if difference:
            raise CheckpointError(f"{self!r} is not undone by its inverse: {difference}")
        return report

    def __repr__(self) -> str:
        stages = (f"{stage.name}: {len(stage.rules)} rules" for stage in self.stages)
        return f"<map {', then '.join(stages)}>"


def _stage(name: str, rules: Iterable[Any], strict: bool) -> _Stage:
    return _Stage(
        name, tuple(parsed(f"{name}: rules[{n}]", r) for n, r in enumerate(rules)), strict
    )


def _difference(one: Checkpoint, other: Checkpoint) -> str | None:
    """In words, the first difference of two checkpoints; the order of names does not count."""
    for path in one.parameters.keys() ^ other.parameters.keys():
        return f"{path!r} is only in {'the first' if path in one.parameters else 'the last'}"
    for path, own in one.parameters.items():
        theirs = other.parameters[path]
        if replace(own, slots=None, value=None) != replace(theirs, slots=None, value=None):
            return f"{path!r} has another shape or rule"
    mine, others = arrays(one), arrays(other)
    for key in mine.keys() ^ others.keys():
        return f"{key} is only in one of them"
    for key, tensor in mine.items():
        twin = others[key]
        if (tensor.dtype, tensor.shape) != (twin.dtype, twin.shape):
            return f"{key} has another shape or dtype"
        if tensor.bits.tobytes() != twin.bits.tobytes():
            return f"{key} has other values"
    return None
