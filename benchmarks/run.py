"""Everything that was asked for, row by row."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy

from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

from . import sharded
from .frameworks import COPIED, Framework, Step, framework
from .models import IMPORT, MODELS, QUICK, SHARDED, Shape, elements
from .opponents import COPY, LIBRARIES, Opponent
from .results import Results, Row, judged, machine
from .timing import alternate, median, paired, timed
from .traffic import DTYPES, moved, needed

__all__ = ["Case", "Options", "cases", "executions", "limited", "made", "prepared", "run"]

SWEPT = "AdamW"
"""The rule that is timed where a model is about the machinery."""
IN_BRIEF = ("AdamW", "Lion")
"""Every library has at least one of them."""
WARMING = 2
"""Rounds at the beginning that are not counted."""
MANY = 10_000_000
"""Arrays with more elements are released after their row."""
IMPORTS = 5
"""Fresh processes per side, at most."""


@dataclass(frozen=True)
class Options:
    """The rows to time; an empty option means all."""

    against: Sequence[str] = (*LIBRARIES, COPY)
    rules: Sequence[str] = ()
    models: Sequence[str] = ()
    dtypes: Sequence[str] = tuple(DTYPES)
    executions: Sequence[str] = ()
    variants: Sequence[str] = ()
    """The other library's ways of executing, where it has several."""
    frameworks: Sequence[str] = ()
    rounds: int = 15
    threads: int | None = None

    @classmethod
    def quick(cls, **given: Any) -> Options:
        """One small model and two rules, in three rounds; given values replace these."""
        brief = {"rules": IN_BRIEF, "models": (QUICK, IMPORT), "dtypes": ("float32",), "rounds": 3}
        return cls(**{**brief, **given})


@dataclass(frozen=True)
class Case:
    """The measurement of one row."""

    row: Row
    rule: Rule | None = None
    shapes: Sequence[Shape] = ()
    make: Callable[[Any], Any] | None = None


def executions() -> list[str]:
    """The ways of executing a step that some adapter has, of the frameworks that are installed."""
    frameworks = {library.framework for library in LIBRARIES.values() if library.installed}
    return sorted({name for one in frameworks for name in framework(one).executions})


def prepared(options: Options) -> Results:
    """No rows yet, but the libraries that there are, and their rules."""
    asked = {name: LIBRARIES[name] for name in options.against if name != COPY}
    has = {name: library.opponents() for name, library in asked.items() if library.installed}
    return Results(
        machine(options.threads or len(_cores()) or os.cpu_count() or 1),
        {n: [rule for rule in own if rule in (options.rules or own)] for n, own in has.items()},
        [name for name, library in asked.items() if not library.installed],
    )


def cases(options: Options) -> list[Case]:
    """The rows to measure; rows with the same step of ours are neighbours."""
    models = options.models or [name for name in MODELS if name != QUICK]
    installed = {name: library for name, library in LIBRARIES.items() if library.installed}
    found = []
    for name in dict.fromkeys(library.framework for library in installed.values()):
        own = [n for n in options.against if n in installed and installed[n].framework == name]
        if name not in (options.frameworks or [name]):
            continue
        if not own and COPY not in options.against:
            continue
        if name == "torch" and IMPORT in models:
            found.append(Case(Row(name, "", IMPORT, "", "", "import torch")))
        if name == "torch" and SHARDED in models:
            found += map(Case, _sharded_rows(own, options))
        has = {library: installed[library].opponents() for library in own}
        for model in models:
            found += _of_model(name, model, has, options)
    return found


def _of_model(
    name: str, model: str, has: Mapping[str, Mapping[str, Opponent]], options: Options
) -> Iterator[Case]:
    narrow, stepper = MODELS[model].narrow, framework(name)
    if MODELS[model].device not in ("", stepper.device):
        return
    for rule in options.rules or ([SWEPT] if narrow else MODELS[model].rules or sorted(registry)):
        own = {library: by_rule[rule] for library, by_rule in has.items() if rule in by_rule}
        if not own and COPY in options.against:
            own = {COPY: Opponent(made(rule), {"": _nothing})}
        for dtype in options.dtypes[:1] if narrow else options.dtypes:
            for execution in stepper.executions:
                if execution in (options.executions or stepper.executions):
                    row = Row(name, rule, model, dtype, execution, COPY, device=stepper.device)
                    yield from _of_step(row, own, options.variants)


def _of_step(row: Row, own: Mapping[str, Opponent], asked: Sequence[str]) -> Iterator[Case]:
    for shapes in MODELS[row.model].sizes:
        for library, opponent in own.items():
            taken = [shape for shape in shapes if len(shape) >= opponent.rule.min_ndim]
            for variant, make in opponent.variants.items() if taken else ():
                if asked and variant not in ("", *asked):
                    continue
                one = replace(row, library=library, variant=variant)
                one = replace(one, tensors=len(taken), elements=elements(taken))
                yield Case(one, opponent.rule, taken, None if make is _nothing else make)


def made(name: str) -> Rule:
    """The rule with its defaults and a known layout; a wrapper is around the rule that is swept."""
    cls = registry[name]
    rule = cls(registry[SWEPT]()) if issubclass(cls, Wrapper) else cls()
    return rule.replace(layout="oi") if "layout" in rule.hypers else rule


def _nothing(given: Any) -> None:
    """Stands for a library's optimizer where there is none."""


def run(
    options: Options, results: Results, path: Path, watch: Callable[[Row], None] = lambda row: None
) -> None:
    """Measure every case, and write the results after each.

    ``watch`` is called with a row before it is measured.
    """
    first: dict[Any, float] = {}
    for case in cases(options):
        watch(case.row)
        try:
            row = _measured(case, options, first)
        except Exception as error:  # whatever a library raises is said, and the others go on
            row = replace(case.row, error=f"{type(error).__name__}: {error}".splitlines()[0])
        results.rows.append(judged(row))
        results.write(path)
        if row.elements > MANY:
            gc.collect()


def _measured(case: Case, options: Options, first: dict[Any, float]) -> Row:
    if case.row.model == SHARDED:
        row = case.row
        return _timed(row, sharded.taken(row.rule, row.library, options.rounds))
    return _import(case.row, options) if case.rule is None else _step(case, options, first)


def _sharded_rows(own: Sequence[str], options: Options) -> Iterator[Row]:
    """Of DTensors, next to torch.optim and next to our own step of plain tensors."""
    size = sharded.TENSORS, sharded.TENSORS * elements([sharded.SHAPE])
    for rule, library, variant in sharded.sides():
        asked = library in own if library in LIBRARIES else "torch.optim" in own
        if asked and rule in (options.rules or [rule]):
            row = Row("torch", rule, SHARDED, "float32", "packed", library, variant)
            yield replace(row, tensors=size[0], elements=size[1])


def _step(case: Case, options: Options, first: dict[Any, float]) -> Row:
    assert case.rule is not None
    row, stepper, rule = case.row, framework(case.row.framework), case.rule
    traffic = moved(rule, case.shapes, row.dtype)
    makers: dict[str, Callable[[], Step]] = {
        "ours": partial(stepper.ours, rule, row.execution, case.shapes, row.dtype)
    }
    if case.make is not None:
        makers["theirs"] = partial(stepper.step, case.make, case.shapes, row.dtype)
    makers["copy"] = partial(stepper.copy, traffic)
    row = replace(row, bytes_per_parameter=traffic / row.elements)
    together = _have_room(row, needed(rule, case.shapes, row.dtype), stepper)
    sides: dict[str, Step] = {}
    taken: dict[str, list[float]] = {}
    for name, make in makers.items():
        held = stepper.held()
        sides[name] = make()
        row = _first(row, name, sides[name], stepper, case, first)
        peak = stepper.peak(sides[name])
        if peak is not None and name != "copy":
            row = replace(row, **{f"{name}_peak": peak - held})  # type: ignore[arg-type]
        if not together:
            taken |= _alternated(sides, options.rounds)
            sides.clear()
            gc.collect()
            stepper.emptied()
    return _timed(row, _alternated(sides, options.rounds) if together else taken)


def _first(
    row: Row, side: str, step: Step, stepper: Framework, case: Case, first: dict[Any, float]
) -> Row:
    """Take the first step of a side, in which a compiler works."""
    if side == "copy":
        step()
        return row
    if side == "theirs":
        return replace(row, theirs_first_seconds=timed(step))
    # Against another library the rule may be another dialect of ours, and so another kernel.
    key = case.rule, row.framework, row.execution, row.dtype, row.tensors, row.elements
    if key not in first:
        with stepper.uncached():
            first[key] = timed(step)
    return replace(row, first_seconds=first[key])


def _have_room(row: Row, bytes_of_side: int, stepper: Framework) -> bool:
    """Whether the device has room for both sides at once.

    Raises:
        MemoryError: It has no room for one side either. Nothing was allocated.
    """
    room = stepper.room()
    if room is None:
        return True
    # What an optimizer computes on the way takes as much as a parameter does, at most twice.
    way = 2 * row.elements * numpy.dtype(DTYPES[row.dtype]).itemsize + COPIED
    if bytes_of_side + way > room:
        raise MemoryError(
            f"a step needs {_gigabytes(bytes_of_side + way)} GB, and the device has "
            f"{_gigabytes(room)} GB free"
        )
    return 2 * bytes_of_side + way <= room


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f}"


def _alternated(sides: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of every step, after some that are not counted."""
    for _ in range(WARMING):
        alternate(sides, 1)
    return alternate(sides, rounds)


def _import(row: Row, options: Options) -> Row:
    """Time imports in fresh processes, with bytecode; both sides include the process's start."""
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    sides = {
        side: partial(
            subprocess.run, [sys.executable, "-c", f"import {module}"], check=True, env=environment
        )
        for side, module in (("ours", "samestep.torch"), ("theirs", "torch"))
    }
    alternate(sides, 1)
    return _timed(row, alternate(sides, min(options.rounds, IMPORTS)))


def _timed(row: Row, taken: Mapping[str, list[float]]) -> Row:
    """The row with its medians and ratios."""
    ours = taken["ours"]
    row = replace(row, rounds=len(ours), ours_ms=median(ours))
    for side, name in (("theirs", "ratio"), ("copy", "copy_ratio")):
        if side in taken:
            figures = {f"{side}_ms": median(taken[side]), name: paired(ours, taken[side])}
            row = replace(row, **figures)  # type: ignore[arg-type]
    return row


def _cores() -> set[int]:
    """The cores this process may run on; empty if the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Limit the process to this number of cores; frameworks imported afterwards keep to it."""
    cores = _cores()
    if threads is None or not cores:
        yield
        return
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
