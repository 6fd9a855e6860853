"""``samestep parity``: whether optimizers take the same steps, and if not, what differs."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

import click

from samestep.command_line import options
from samestep.command_line.main import PACKAGES
from samestep.command_line.report import Report, show

if TYPE_CHECKING:
    from samestep.parity import Comparison, Subject

__all__ = ["command"]

FAILED, INTERRUPTED = 2, 130
"""Exit codes; reports have the others."""
PAIR = ("settings", "steps", "seed", "dtype", "ulp")
ALL = ("only", "others", "write")
"""Options of a pair, and options of ``--all``."""
SPELLED = {"settings": "set", "others": "with"}
NAMED = "name one as in torch.optim.AdamW, optax.adan, samestep:Adan or file.py:MyOptimizer"
ARGUED = "--set {side}.NAME=VALUE gives it what it needs; --traceback shows where it failed"


@click.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="SIDE.NAME=VALUE",
    help="An argument: a.lr=1e-4, b.learning_rate=1e-4; without a side it is for both. A "
    "schedule is a call: lr='samestep.schedules.CosineDecay(0.1, 100)'.",
)
@click.option("--steps", type=click.IntRange(min=3), help="Number of steps; 40 by default.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the gradients.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    help="Dtype of the parameters; float64 by default if both sides have it.",
)
@click.option(
    "--ulp",
    type=options.Finite(min=0),
    help="Units in the last place by which they may differ and still agree.",
)
@click.option(
    "--html", type=options.NOT_A_FOLDER, help="Write the report as a page, which is one file."
)
@options.as_json
@click.option("--traceback", is_flag=True, help="If the comparison fails, show where.")
@click.option("--all", "every", is_flag=True, help="Compare all libraries, without A and B.")
@click.option("--only", metavar="NAME,...", help="With --all: these optimizers.")
@click.option(
    "--with",
    "others",
    metavar="MODULE,...",
    help="With --all: compare the optimizers of these modules too, such as holocron.optim.",
)
@click.option(
    "--write", type=options.NOT_A_FOLDER, help="With --all: write the matrix as Markdown."
)
def command(every: bool, **asked: Any) -> None:
    """Say whether the optimizers A and B take the same steps, and if not, what differs.

    A and B are names such as torch.optim.AdamW, optax.adan, samestep:Adan, my_module.MyOpt or
    file.py:MyOpt. The exit code is 0 if they agree, 1 if they differ, and 2 if they could not be
    compared. With --all every optimizer is compared with the optimizers of its name in the other
    libraries; the exit code is then 0 once the matrix is made.
    """
    _refuse(asked, PAIR if every else ALL, "--all" if every else "a pair")
    for name in ("html", "write"):
        options.refuse_missing_folder(f"--{name} {asked[name]}", asked[name])
    if every and asked["a"]:
        raise click.UsageError(f"--all compares every pair; it takes no {asked['a']!r}")
    for name in ("a", "b"):
        if not every and not asked[name]:
            raise click.UsageError(f"Missing argument '{name.upper()}'.")
    sys.exit(_run(_all if every else _pair, "matrix" if every else "page", asked))


def _refuse(asked: Mapping[str, Any], names: tuple[str, ...], mode: str) -> None:
    for name in names:
        if asked[name] not in (None, ()):
            raise click.UsageError(f"--{SPELLED.get(name, name)} is not for {mode}")


def _run(
    compare: Callable[[Mapping[str, Any]], Report], made: str, asked: Mapping[str, Any]
) -> int:
    """Compare and show the report; an error is a sentence. Returns the exit code."""
    from samestep.parity import SubjectError

    try:
        report = compare(asked)
        show(report, as_json=asked["as_json"], html=asked["html"], write=asked["write"])
        for out in filter(None, (asked["write"], asked["html"])):
            print(f"samestep parity: the {made} is in {out}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("samestep parity: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:
            raise
        if asked["traceback"]:
            traceback.print_exception(error)
        known = isinstance(error, (SubjectError, OSError))
        text = str(error) if known else f"it failed with {type(error).__name__}: {error}"
        print(f"samestep parity: {' '.join(text.split())}", file=sys.stderr)
        return FAILED
    return report.code


def _all(asked: Mapping[str, Any]) -> Report:
    """The report on all pairs of optimizers of one name."""
    from samestep.command_line.pairs.all_pairs import compare_all
    from samestep.command_line.pairs.all_pairs_report import all_pairs_report
    from samestep.command_line.progress import counted

    only, others = options.names(asked["only"]), options.names(asked["others"])
    lists = {"--only": only, "--with": others}
    given = [word for name, own in lists.items() if own for word in (name, ",".join(own))]
    with counted("Importing the libraries") as watch:
        found = compare_all(only, others, ["samestep", "parity", "--all", *given], watch)
    return all_pairs_report(found)


def _pair(asked: Mapping[str, Any]) -> Report:
    """The report on two optimizers."""
    from samestep.command_line.pairs.account import Account
    from samestep.command_line.pairs.pair_report import pair_report
    from samestep.command_line.progress import busy

    names = asked["a"], asked["b"]
    how = {name: asked[name] for name in PAIR[1:] if asked[name] is not None}
    with busy(f"Comparing {names[0]} and {names[1]}"), aside(asked["traceback"]):
        found = _compared(names, asked["settings"], how)
    words = [word for setting in asked["settings"] for word in ("--set", setting)]
    words += [word for name, value in how.items() for word in (f"--{name}", str(value))]
    return pair_report(Account(found, ["samestep", "parity", *names, *words]))


def _compared(
    names: tuple[str, str], settings: Sequence[str], how: Mapping[str, Any]
) -> Comparison:
    from samestep.command_line.pairs.arguments_given import arguments
    from samestep.parity import SubjectError, compared

    if os.getcwd() not in sys.path:  # for modules in the folder in which the command is given
        sys.path.append(os.getcwd())
    sides = zip(names, arguments(settings), strict=True)
    a, b = (_subject(*side) for side in sides)
    try:
        return compared(a, b, **how)
    except SubjectError as error:
        named = (s for s, one in zip("ab", (a, b), strict=True) if _is_about(error, one))
        side = next(named, "")
        advised = not side or "try " in str(error)
        advice = "" if advised else f"; {ARGUED.format(side=side)}"
        raise SubjectError(f"{error}{advice}") from error
    except SystemExit as error:
        raise SubjectError(f"one of them ended the program ({error})") from error


def _is_about(error: Exception, one: Subject) -> bool:
    return str(error).startswith(f"{one.name} ")


def _subject(name: str, given: Mapping[str, Any]) -> Subject:
    from samestep.parity import SubjectError, subject

    try:
        return subject(name, **given)
    except SubjectError as error:
        text = str(error)
        advised = "cannot be imported" not in text or "Did you mean" in text
        raise SubjectError(text if advised else f"{text}; {NAMED}") from error
    except (Exception, SystemExit) as error:  # what it raises while it is imported
        what = f"{type(error).__name__}: {error}"
        raise SubjectError(f"{name} cannot be imported: {what}; {NAMED}") from error


@contextmanager
def aside(warn: bool = False) -> Iterator[None]:
    """Send the output of other code to stderr, output of C too; drop its warnings by default."""
    kept = None
    with suppress(OSError):  # where there is no stdout at all
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            if not warn:
                warnings.simplefilter("ignore")
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
