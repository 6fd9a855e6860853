"""How closely the backends of this machine agree: a table for the terminal, and a file to send in.

What a test measured comes with its report, from whichever process it ran in: ``measured_row`` is
put among the properties of the test, and ``Reporter`` finds it there.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import pytest

from samestep.nonfinite import encoded
from samestep.parity.backend import Backend, Missing, backends
from samestep.rule import Rule
from samestep.version import __version__

from .agreement import Agreement
from .hardware import device_of, machine, versions

__all__ = ["FORMAT", "PROPERTY", "Report", "Reporter", "Row", "as_row", "lines"]

FORMAT = 1
"""Raised when a key changes its meaning or goes."""
PROPERTY = "samestep agreement"
FEW = 40
"""Rows that are shown one by one."""


class Row(TypedDict):
    """One rule on one backend in one dtype, in ULP; ``"inf"`` where one side alone is no number."""

    rule: str
    backend: str
    library: str
    device: str
    dtype: str
    one_step: float | str
    """The largest error of a parameter or of the state in one step, against float64."""
    all_steps: float | str
    """The largest error over all steps."""
    numpy: float | str | None
    """The largest difference from NumPy in the same dtype; ``None`` where NumPy has no such."""


class Report(TypedDict):
    """The content of the saved file."""

    format: int
    samestep: str
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str]
    """Backends whose library cannot be imported, and why."""
    exit_status: int
    """The exit status of pytest; 0 or 1 if the run came to its end."""
    selection: str
    """The part of the suite that was run: the expressions given with ``-k`` and ``-m``."""
    counts: dict[str, int]
    failures: list[str]
    agreement: list[Row]


def as_row(rule: Rule, backend: Backend, dtype: str, measured: Agreement) -> Row:
    """A measurement as values that go from process to process."""
    apart = measured.numpy
    return {
        "rule": rule.name,
        "backend": backend.name,
        "library": backend.library,
        "device": device_of(backend),
        "dtype": dtype,
        "one_step": _ulp(measured.one_step.ulp),
        "all_steps": _ulp(measured.in_all.ulp),
        "numpy": None if apart is None else _ulp(apart.ulp),
    }


def _ulp(ulp: float) -> Any:
    return encoded(round(float(ulp), 3), instead=lambda _: "inf")


class Reporter:
    """Gathers what tests report, and at the end shows and saves it."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self.config, self.path = config, path
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome, and what was measured; a failure anywhere in a test is its outcome."""
        for name, value in report.user_properties:
            if name == PROPERTY:
                row: Any = value
                self.rows[row["rule"], row["backend"], row["dtype"]] = row
        telling = report.when == "call" or not report.passed
        if telling and self.outcomes.get(report.nodeid) != "failed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not even be collected."""
        if report.failed:
            self.outcomes[report.nodeid] = "failed"

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        """Show the table and save the file."""
        found = self.report(int(exitstatus))
        terminalreporter.section("samestep: agreement on this machine")
        every = terminalreporter.verbosity > 0
        for line in lines(found, every):
            terminalreporter.write_line(line)
        try:
            _write(self.path, json.dumps(found, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            terminalreporter.write_line(f"not saved: {error}", red=True)
        else:
            terminalreporter.write_line(f"saved in {self.path}")

    def report(self, exit_status: int) -> Report:
        """All of it."""
        outcomes = list(self.outcomes.values())
        asked = {"-k": self.config.getoption("keyword"), "-m": self.config.getoption("markexpr")}
        return {
            "format": FORMAT,
            "samestep": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "missing": _missing(),
            "exit_status": exit_status,
            "selection": " ".join(f"{option} {text!r}" for option, text in asked.items() if text),
            "counts": {name: outcomes.count(name) for name in ("passed", "failed", "skipped")},
            "failures": sorted(n for n, outcome in self.outcomes.items() if outcome == "failed"),
            "agreement": [self.rows[key] for key in sorted(self.rows)],
        }


def _missing() -> dict[str, str]:
    found = [each for each in backends().values() if isinstance(each, Missing)]
    return {each.name: str(each.reason) for each in found}


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def lines(found: Report, every: bool = False) -> Iterator[str]:
    """The table in 80 columns: each row, or of many the worst of each backend and dtype.

    Args:
        found: what was measured.
        every: show each row, however many there are.
    """
    rows = found["agreement"]
    if not rows:
        yield "no test that measures agreement was run"
        return
    yield from _devices(rows)
    if found["missing"]:
        yield from _wrapped(f"not here: {', '.join(found['missing'])}")
    yield "ULP of the dtype, against the rule in float64; NumPy: against it in the dtype."
    yield ""
    yield from _each(rows) if every or len(rows) <= FEW else _worst(rows)


def _devices(rows: list[Row]) -> Iterator[str]:
    """Every device with its backends."""
    places: dict[str, list[str]] = {}
    for row in rows:
        names = places.setdefault(row["device"], [])
        if row["backend"] not in names:
            names.append(row["backend"])
    for device, names in places.items():
        yield from _wrapped(f"{device}: {', '.join(names)}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, subsequent_indent="  ", break_on_hyphens=False)


def _each(rows: list[Row]) -> Iterator[str]:
    form = "{:16} {:18} {:9} {:>9} {:>10} {:>8}"
    yield form.format("rule", "backend", "dtype", "one step", "all steps", "NumPy")
    for row in rows:
        figures = (_shown(row[name]) for name in ("one_step", "all_steps", "numpy"))
        yield form.format(row["rule"], row["backend"], row["dtype"], *figures)


def _worst(rows: list[Row]) -> Iterator[str]:
    form = "{:18} {:9} {:>5}  {:>7} {:16} {:>9} {:>9}"
    yield form.format("backend", "dtype", "rules", "one", "step, of", "all steps", "as NumPy")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["backend"], row["dtype"]), []).append(row)
    for (backend, dtype), own in sorted(groups.items()):
        worst = max(own, key=lambda row: _size(row["one_step"]))
        last = _shown(max((row["all_steps"] for row in own), key=_size))
        known = any(row["numpy"] is not None for row in own)
        equal = str(sum(row["numpy"] == 0 for row in own)) if known else "-"
        step = _shown(worst["one_step"])
        yield form.format(backend, dtype, len(own), step, worst["rule"], last, equal)
    yield ""
    yield "The worst of all rules; as NumPy: how many are to the last bit. With -v: each."


def _size(ulp: float | str | None) -> float:
    return math.inf if isinstance(ulp, str) else ulp or 0.0


def _shown(ulp: float | str | None) -> str:
    if ulp is None:
        return "-"
    if isinstance(ulp, str) or ulp == 0:
        return str(ulp)[:3].removesuffix(".0")
    return f"{ulp:.1f}" if ulp < 1e5 else f"{ulp:.1e}"
