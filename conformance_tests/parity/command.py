"""``samestep parity A B``: whether two optimizers take the same steps, and why not."""

from __future__ import annotations

import ast
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table

from ...parity import Comparison, Subject, SubjectError, compared, subject

__all__ = ["AGREE", "DIFFER", "FAILED", "compare"]

AGREE, DIFFER, FAILED = 0, 1, 2
"""Exit codes."""


def compare(names: tuple[str, str], settings: Sequence[str], as_json: bool, **how: Any) -> int:
    """Compare two subjects and print what was found.

    Args:
        names: what describes them.
        settings: arguments, as ``a.lr=1e-3``, ``b.eps=1e-8``, or ``lr=1e-3`` for both.
        as_json: for machines.
        how: ``steps``, ``seed`` and ``dtype`` of ``samestep.parity.compared``.

    Returns:
        The exit code.
    """
    try:
        with redirect_stdout(sys.stderr):  # what others print while they are imported
            given = _arguments(settings)
            if os.getcwd() not in sys.path:  # for modules beside which the command is given
                sys.path.append(os.getcwd())
            a, b = (subject(name, **own) for name, own in zip(names, given, strict=True))
            found = compared(a, b, **how)
    except SubjectError as error:
        print(f"samestep parity: {error}", file=sys.stderr)
        return FAILED
    if as_json:
        print(json.dumps(_plain(found), indent=2, default=repr))
    else:
        _print(Console(), found, names, settings)
    return AGREE if found.verdict == "agree" else DIFFER


def _arguments(settings: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of each side."""
    sides: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    for setting in settings:
        name, equals, text = setting.partition("=")
        side, dot, own = name.rpartition(".")
        if not equals or not own.isidentifier() or (dot and side not in sides):
            raise SubjectError(
                f"--set {setting}: it must be a.NAME=VALUE, b.NAME=VALUE, or NAME=VALUE for both"
            )
        for chosen in [side] if dot else sides:
            sides[chosen][own] = _value(text)
    return sides["a"], sides["b"]


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _print(console: Console, found: Comparison, names: Sequence[str], said: Sequence[str]) -> None:
    verdict = "agree" if found.verdict == "agree" else "differ"
    colour = "green" if found.verdict == "agree" else "red"
    console.print(f"[bold]{names[0]}[/] and [bold]{names[1]}[/]: [bold {colour}]{verdict}[/]")
    for sentence in found.sentences:
        console.print(f"  {sentence}", highlight=False)
    console.print()
    if found.first is not None:
        step, path = found.first
        console.print(f"They part at step {step}, in the parameter {path!r}.", highlight=False)
    ulp = found.divergence.ulp
    units = f" ({ulp:,.0f} ULP)" if ulp < 1e6 else ""
    console.print(
        f"After {found.steps} steps in {found.dtype}: {found.distance:.2g} apart at most, relative "
        f"to the parameter{units}.",
        highlight=False,
    )
    table = Table(title="Largest difference so far", title_justify="left")
    table.add_column("after step", justify="right")
    table.add_column("relative", justify="right")
    for step in _shown(found.steps):
        table.add_row(str(step), f"{max(found.growth[: step + 1]):.2g}")
    console.print(table)
    shared = [f"{name}={value!r}" for name, value in found.shared.items()]
    own = [f"{name}={a!r} and {b!r}" for name, (a, b) in found.own.items()]
    for title, words in (("Both were given", shared), ("Each has its own", own)):
        if words:
            console.print(f"{title}: {', '.join(words)}", highlight=False)
    for path, reason in found.left_out.items():
        console.print(f"Left out: {path}, since {reason}", highlight=False)
    settings = [word for setting in said for word in ("--set", setting)]
    console.print(f"\n{_environment(found)}", highlight=False)
    console.print(shlex.join(["samestep", "parity", *names, *settings]), highlight=False)


def _shown(steps: int) -> Iterator[int]:
    """Steps to show: 1, 2, 5, 10, 20, ... and the last."""
    step, factors = 1, [2, 2.5, 2]
    while step < steps:
        yield step
        step, factors = int(step * factors[0]), [*factors[1:], factors[0]]
    yield steps


def _environment(found: Comparison) -> str:
    packages = dict.fromkeys(["samestep", found.a.package, found.b.package, "numpy"])
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"{', '.join(versions)}; {machine}"


def _plain(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it."""

    def side(one: Subject) -> dict[str, Any]:
        return {"name": one.name, "arguments": dict(one.arguments)}

    return {
        "a": side(found.a),
        "b": side(found.b),
        "verdict": found.verdict,
        "sentences": found.sentences,
        "explained": found.explained,
        "reasons": [vars(reason) for reason in found.reasons],
        "first": found.first,
        "distance": found.distance,
        "bound": found.bound,
        "ulp": found.divergence.ulp,
        "dtype": found.dtype,
        "steps": found.steps,
        "growth": found.growth,
        "by_parameter": found.by_parameter,
        "shared": found.shared,
        "own": found.own,
        "left_out": found.left_out,
        "environment": _environment(found),
    }
