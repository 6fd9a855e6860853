"""``samestep replay``: whether a recorded run does what its rule says."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samestep.command_line import options
from samestep.command_line.report import GAP, Block, Line, Report, Table, Words, show

if TYPE_CHECKING:
    from samestep.replay import Against, Departure, Replay

__all__ = ["command"]

AGREE, DEPARTS, FAILED = 0, 1, 2
"""Exit codes."""
SAID = {
    "agree": "agrees with",
    "departs": "departs from",
    "not finite": "ends in NaN or infinity, by steps of",
    "nothing moved": "moved no parameter by more than a step may be off, which tells nothing of",
    "other numbers": "was resumed with other numbers, and agrees with",
}
"""Verdicts in the title."""
MOST = 12
"""Rows of a table of parameters; of more parameters only the worst are shown."""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=options.FILE)
@click.option(
    "--rule",
    metavar="NAME",
    help="The rule, or file.py:NAME of your own; by default the recorded one.",
)
@click.option("--like", metavar="NAME", help="Its dialect: torch, optax, mlx.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A number or an option of the rule, instead of what was recorded: lr=1e-3.",
)
@click.option(
    "--ulp",
    type=options.Finite(min=0),
    help="Units in the last place that a step may be off; by default what rounding explains.",
)
@click.option(
    "--against",
    "other",
    metavar="FILE",
    type=options.FILE,
    help="Another recording of the same run: did gradients or optimizer differ first?",
)
@click.option(
    "--map",
    "mapping",
    metavar="FILE",
    help="With --against: a TOML file, or layers such as torch:flax, from FILE to the other.",
)
@click.option(
    "--tolerance",
    type=options.Finite(min=0, min_open=True),
    help="With --against: how far gradients may be apart, relative to the largest.",
)
@options.as_json
def command(as_json: bool, **asked: Any) -> None:
    """Recompute the runs recorded in FILE and say where they depart from their rule.

    Several files are parts of one run; each part was resumed from the part before it. The
    exit code is 0 if all agrees, 1 if something departs, ends in NaN or infinity, was resumed
    otherwise or moved no parameter by more than a step may be off, and 2 if nothing could be
    recomputed.
    """
    from samestep.checkpoints.state import CheckpointError

    try:
        report = _report(**asked)
    except FileNotFoundError as error:
        text = f"{error.filename}: there is no such file"
    except (CheckpointError, OSError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
    else:
        show(report, as_json=as_json)
        sys.exit(report.code)
    print(f"samestep replay: {text}", file=sys.stderr)
    sys.exit(FAILED)


def _report(
    files: Sequence[Path],
    rule: str | None,
    like: str | None,
    settings: Sequence[str],
    ulp: float | None,
    other: Path | None,
    mapping: str | None,
    tolerance: float | None,
) -> Report:
    """Recompute recordings, or compare one with another."""
    from samestep.command_line.files.conversion import map_of
    from samestep.recording import RecordingError, read
    from samestep.replay import Asked, against, replay
    from samestep.replay.judging import Bound

    how = {"--rule": rule, "--like": like, "--ulp": ulp}
    compared = {"--map": mapping, "--tolerance": tolerance}
    if other is None:
        for name, given in compared.items():
            if given is not None:
                raise RecordingError(f"{name} is for --against")
        if os.getcwd() not in sys.path:  # for a module in the folder where the command is given
            sys.path.append(os.getcwd())
        asked = Asked(rule, like, _settings(settings))
        found = replay([read(file) for file in files], asked, Bound(ulp))
        given_settings = [word for setting in settings for word in ("--set", setting)]
        return _of_replay(found, [*map(str, files), *_words(how), *given_settings])
    for name, value in {**how, "--set": settings or None}.items():
        if value is not None:
            raise RecordingError(f"{name} is not for --against, which recomputes nothing")
    if len(files) != 1:
        raise RecordingError("--against compares two recordings: give one FILE before it")
    names = None if mapping is None else map_of(mapping)
    apart = against(read(files[0]), read(other), names=names, tolerance=tolerance)
    return _of_against(apart, [str(files[0]), "--against", str(other), *_words(compared)])


def _words(given: dict[str, Any]) -> list[str]:
    return [word for name, v in given.items() if v is not None for word in (name, str(v))]


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    """Numbers and options from ``NAME=VALUE``."""
    from samestep.recording import RecordingError

    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip().isidentifier():
            raise RecordingError(f"--set {setting}: it must be NAME=VALUE, as lr=1e-3")
        found[name.strip()] = options.literal(text.strip())
    return found


def _of_replay(found: Replay, words: Sequence[str]) -> Report:
    """The report on a recomputation."""
    agrees = found.verdict == "agree"
    of = f" of {found.optimizer}" if found.optimizer else ""
    verdict = _verdict(SAID[found.verdict], agrees)
    left = sum(last - first + 1 for first, last, _ in found.unchecked)
    part = f" in {found.steps} of {found.steps + left} steps" if left and agrees else ""
    files = Words(", ".join(found.files), "strong")
    return Report(
        title=(files, of, ": ", verdict, f" {found.rule}{part}"),
        blocks=[
            *(Line(sentence, indent=2) for sentence in found.sentences),
            GAP,
            *_departures(found.departures),
            _parameters(found),
            _largest(
                "Largest difference so far, in ULP",
                ("one step", "float64", "float32"),
                found.growth,
                _units,
            ),
            GAP,
            Line(_bound(found)),
            Line(shlex.join(["samestep", "replay", *words])),
        ],
        data={
            "files": found.files,
            "verdict": found.verdict,
            "sentences": found.sentences,
            "optimizer": found.optimizer,
            "rule": found.rule,
            "ulp": found.bound.ulp,
            "steps": found.steps,
            "first": found.first,
            "instead": found.instead,
            "not_finite": found.not_finite
            and dict(zip(("step", "what", "path"), found.not_finite, strict=True)),
            "discarded": found.discarded,
            "departures": found.departures,
            "resumes": found.resumes,
            "changes": [{"before": step, "parameters": names} for step, names in found.changes],
            "lost": [{"after": last, "before": step, "why": why} for last, step, why in found.lost],
            "between": found.between,
            "unchecked": [
                {"first": first, "last": last, "why": why} for first, last, why in found.unchecked
            ],
            "parameters": [*found.rows.values()],
            "growth": [
                dict(zip(("step", "one_step", "float64", "float32"), row, strict=True))
                for row in found.growth
            ],
        },
        code=AGREE if agrees else DEPARTS,
    )


def _verdict(text: str, agrees: bool) -> Words:
    return Words(text, f"strong {'good' if agrees else 'bad'}")


def _departures(departures: Sequence[Departure]) -> Iterator[Block]:
    """The first departure, and which come after it."""
    if not departures:
        return
    yield Line(_departure(departures[0]))
    if len(departures) > 1:
        rest = ", ".join(f"{d.path} (step {d.step})" for d in departures[1:5])
        more = f" and {len(departures) - 5} others" if len(departures) > 5 else ""
        yield Line(f"After it: {rest}{more}.")
    yield GAP


def _departure(first: Departure) -> str:
    at = f"{first.path}{[*first.place]}" if first.place else first.path
    recorded, computed = f"{first.recorded:.9g}", f"{first.computed:.9g}"
    if not (math.isfinite(first.recorded) and math.isfinite(first.computed)):
        recorded, computed = (text.replace("nan", "NaN") for text in (recorded, computed))
        return f"At step {first.step} {at} is {recorded}, and should be {computed}."
    return (
        f"At step {first.step} {at} was {recorded} and should be {computed}: "
        f"{_units(first.ulp)} ULP, or {first.relative:.2g} of the largest change in the step."
    )


def _units(ulp: float) -> str:
    return f"{ulp:,.0f}" if ulp >= 100 or ulp == 0 else f"{ulp:.2g}"


def _parameters(found: Replay) -> Table:
    rows = [*found.rows.values()]
    title = "Parameters"
    if len(rows) > MOST:
        title = f"Parameters: the worst {MOST} of {len(rows)}"
        rows = sorted(rows, key=lambda row: (-row.departing, -row.ulp))[:MOST]
    numbers = ("steps", "depart", "one step", "float64", "float32")
    cells = [
        (
            *(row.path, row.dtype, str(row.steps), str(row.departing)),
            *map(_units, (row.ulp, row.float64, row.float32)),
        )
        for row in rows
    ]
    bad = {place: "bad" for place, row in enumerate(rows) if row.departing}
    columns = ("parameter", "dtype", *numbers)
    return Table(columns, cells, title=title, right=numbers, marks=bad, frame="grid")


def _largest(title: str, names: Sequence[str], rows: Sequence[Any], said: Any) -> Table:
    """The largest numbers up to steps 1, 2, 5, 10, 20, ... and the last."""
    places = [base * 10**power for power in range(9) for base in (1, 2, 5)]
    cells = []
    for place in [*(place for place in places if place < len(rows)), len(rows)]:
        so_far = rows[:place]
        largest = (max(row[at] for row in so_far) for at in (1, 2, 3))
        cells.append((str(so_far[-1][0]), *map(said, largest)))
    columns = ("to step", *names)
    return Table(columns, cells, title=title, right=columns, frame="grid")


def _bound(found: Replay) -> str:
    allowed = "what rounding explains" if found.bound.ulp is None else f"{found.bound.ulp:g} ULP"
    steps = f"{found.steps} step{'s' * (found.steps != 1)}"
    return (
        f"{steps}, counted from 0, each from the recorded parameters (one step) within {allowed}; "
        f"float64 and float32 are whole runs from the same start, in NumPy."
    )


def _of_against(found: Against, words: Sequence[str]) -> Report:
    """The report on a comparison of two recordings."""
    agrees = found.verdict == "agree"
    steps = f" {found.compared}" if found.compared else ""
    one, other = (Words(file, "strong") for file in found.files)
    first = [] if found.first is None else [found.first]
    only = [
        f"only in {file}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for file, names in zip(found.files, found.only, strict=True)
        if names
    ]
    said = map(str, (*first, *found.hyperparameters, *only))
    return Report(
        title=(one, " and ", other, ": ", _verdict(found.sentence, agrees), steps),
        blocks=[
            *(Line(sentence, indent=2) for sentence in said),
            GAP,
            _largest(
                "Largest relative difference so far",
                ("parameters", "gradients", "changes"),
                found.rows,
                "{:.2g}".format,
            ),
            GAP,
            Line(shlex.join(["samestep", "replay", *words])),
        ],
        data={
            "files": found.files,
            "verdict": found.verdict,
            "sentence": found.sentence,
            "optimizers": found.optimizers,
            "first": found.first,
            "hyperparameters": found.hyperparameters,
            "only": found.only,
            "steps_only": found.alone,
            "steps": [row._asdict() for row in found.rows],
        },
        code=AGREE if agrees else DEPARTS,
    )
