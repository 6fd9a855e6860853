"""Every check that a machine with an accelerator should run, one process after another.

    benchmarks/gpu.sh [--platform cuda|metal|tpu|cpu] [--out FOLDER] [--minutes 12]

The checks that tell most come first. Each has a limit of its own, and a check that fails, hangs or
runs out of time stops no other. After each check ``hardware.json`` and ``hardware.md`` are written
anew, and the check's own output is in a file of its name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any

from samestep.checkpoints.replacing import replace_text
from samestep.version import __version__

from .models import MODELS
from .results import machine

__all__ = ["PLATFORMS", "Check", "Outcome", "Run", "main", "markdown", "plan", "run"]

FORMAT = 1
"""Raised when a key changes its meaning or goes."""
GRACE = 10.0
"""Seconds in which an interrupted check may say what it has found."""
LEAST = 5.0
"""Seconds without which no check begins."""
PROCESSES = 8
"""Processes that share a device in a test run, at most."""
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
ALONE = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
    "TORCHINDUCTOR_COMPILE_THREADS": "8",
}
"""For a check that has the device for itself."""
DRY = "SAMESTEP_DRY_RUN"
"""The variable with which the tests of GPUs run on the CPU."""
FIRST = "AdamW"
"""The rule of a dry run."""
FEW = 50
VERDICT = r"(PASSED|FAILED|ERROR)"
TIMED = (
    ("gpt2", "float32", ("AdamW", "Lion", "Adan"), 80.0),
    ("llama7b", "bfloat16", ("AdamW",), 90.0),
    ("small", "float32", ("AdamW",), 60.0),
    ("gpt2", "bfloat16", ("AdamW", "Muon"), 60.0),
)
"""Model, dtype, rules and seconds, in the order of what they tell."""
AGREEMENT = ("backend", "device", "dtype", "rules", "worst step, ULP", "of", "all steps, ULP")
TIMES = (
    *("framework", "rule", "model", "dtype", "execution", "ms", "against", "ms", "ratio"),
    *("ratio to a copy", "peak, GB", "theirs, GB", "failed"),
)
"""The heads of the tables."""
PLATFORMS: Mapping[str, Sequence[str]] = {
    "cuda": ("torch", "jax"),
    "metal": ("torch", "mlx"),
    "tpu": ("jax",),
    "cpu": ("torch", "jax", "mlx"),
}
"""The frameworks that compute on a platform; ``cpu`` is a dry run with small shapes."""


@dataclass(frozen=True)
class Check:
    """A command of Python, and how long it may take."""

    name: str
    framework: str
    command: Sequence[str]
    limit: float
    """Seconds."""
    writes: str = ""
    """The file of its figures in the folder of the run."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """The name of the file with its output."""
        return re.sub(r"\W+", "-", self.name) + ".txt"


@dataclass
class Outcome:
    """The end of a check.

    ``passed``, ``failed``, ``out of time``, ``interrupted`` or ``not begun``.
    """

    name: str
    framework: str
    outcome: str = "not begun"
    seconds: float = 0.0
    limit: float = 0.0
    passed: int = 0
    """Tests that passed, in a check that is a run of tests."""
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """Their names; of many, the first."""
    said: str = ""
    """The reason if it did not pass: the last line of its output, or why it was not begun."""


@dataclass
class Run:
    """The content of ``hardware.json``."""

    platform: str
    machine: dict[str, Any]
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = FORMAT
    samestep: str = __version__
    devices: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Outcome] = field(default_factory=list)
    agreement: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the conformance suite's report."""
    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    """Rows of ``bench.jsonl``."""

    def write(self, out: Path) -> None:
        """Replace ``hardware.json`` and ``hardware.md``."""
        found = asdict(self)
        replace_text(out / "hardware.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        replace_text(out / "hardware.md", markdown(found))


def plan(platform: str, out: Path) -> list[Check]:
    """The checks of a platform, those first that tell most; a run writes into the folder."""
    frameworks = PLATFORMS[platform]
    found, dry = [_device(name, out, platform) for name in frameworks], platform == "cpu"
    if "torch" in frameworks:
        tests = ["conformance_tests/rules/test_gpu.py", *(["-k", f"[{FIRST}-"] if dry else [])]
        found.append(_tests("torch: every rule, capture and replay", "torch", tests, 160, dry=dry))
    found += [_agreement(name, out, dry) for name in frameworks]
    if dry:
        return found + [_timed(name, out, "quick", "float32", [FIRST], 60) for name in frameworks]
    for model, dtype, rules, limit in TIMED:
        found += [_timed(name, out, model, dtype, rules, limit) for name in frameworks]
    return found


def _device(name: str, out: Path, platform: str) -> Check:
    file = f"{name}-device.json"
    command = ["-m", "samestep.benchmarks.check", "device", name, str(out / file), platform]
    return Check(f"{name}: device", name, command, 45, file)


def _agreement(name: str, out: Path, dry: bool) -> Check:
    file = f"{name}-agreement.json"
    devices = " and (cuda or mps or xpu)" if name == "torch" else ""
    chosen = "one_step and float32" + (f" and [{FIRST}-" if dry else devices)
    tests = ["conformance_tests/rules/test_agreement.py", "-m", "thorough or not thorough"]
    tests += ["-k", chosen, "--samestep-report", str(out / file)]
    limit = 170 if dry else 100
    return _tests(f"{name}: agreement with float64", name, tests, limit, file, dry)


def _timed(
    name: str, out: Path, model: str, dtype: str, rules: Sequence[str], limit: float
) -> Check:
    file = f"{name}-{model}-{dtype}.jsonl"
    command = ["-m", "samestep.benchmarks.check", "time", name, str(out / file), model, dtype]
    title = f"{name}: time of {MODELS[model].title}, {dtype}"
    return Check(title, name, [*command, *rules], limit, file, ALONE)


def _tests(
    title: str,
    name: str,
    arguments: Sequence[str],
    limit: float,
    writes: str = "",
    dry: bool = False,
) -> Check:
    command = ["-m", "pytest", "-v", "-W", "ignore", "-p", "no:cacheprovider", "--tb=short"]
    if find_spec("xdist") is not None and not dry:
        command += ["-n", str(min(PROCESSES, os.cpu_count() or 1))]
    environment = {"SAMESTEP_BACKENDS": name, **({DRY: "1"} if dry else {})}
    return Check(title, name, [*command, *arguments], limit, writes, environment)


def run(
    platform: str, checks: Iterable[Check], out: Path, seconds: float, checkout: Path | None = None
) -> Run:
    """Run the checks within so many seconds, in the checkout, and print a line for each."""
    checks = list(checks)
    for check in checks:
        (out / (check.writes or check.log)).unlink(missing_ok=True)  # of an earlier run
    found = Run(platform, machine(os.cpu_count() or 1))
    end = monotonic() + seconds
    for check in checks:
        print(f"{check.name} ...", end=" ", flush=True)
        outcome = Outcome(check.name, check.framework, limit=check.limit)
        found.checks.append(outcome)
        try:
            _check(check, out, end - monotonic(), outcome, found, checkout)
        finally:  # also when the run is interrupted
            _gather(found, checks, out)
            found.write(out)
        print(outcome.outcome, f"({outcome.seconds:.0f} s)", outcome.said, flush=True)
    return found


def _check(
    check: Check, out: Path, left: float, outcome: Outcome, found: Run, checkout: Path | None
) -> None:
    limit = min(check.limit, left - GRACE)
    first = next(one for one in found.checks if one.framework == check.framework)
    known = {device["framework"] for device in found.devices}
    if first is not outcome and first.outcome == "failed" and check.framework not in known:
        outcome.said = f"{check.framework} has no device here"
    elif limit < min(LEAST, check.limit):
        outcome.said = "no time was left"
    else:
        _execute(check, out / check.log, outcome, limit, checkout)


def _execute(
    check: Check, log: Path, outcome: Outcome, limit: float, checkout: Path | None
) -> None:
    """Run a check, interrupt it at its limit, and kill what does not stop then."""
    outcome.outcome, began = "interrupted", monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *check.command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT, **check.environment},
            start_new_session=True,
            cwd=checkout,
        )
    try:
        outcome.outcome = "failed" if process.wait(limit) else "passed"
    except subprocess.TimeoutExpired:
        outcome.outcome = "out of time"
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # all that it began
        process.wait()
        outcome.seconds = round(monotonic() - began, 1)
        _count(outcome, log.read_text(encoding="utf-8", errors="replace"))


def _count(outcome: Outcome, text: str) -> None:
    """Count tests by what pytest said of each, as it went; note the last line of a failure."""
    found = [(test, verdict) for verdict, test in re.findall(rf"{VERDICT} (\S+::.+)", text)]
    found += re.findall(rf"^(\S+::.+?) {VERDICT}", text, re.M)
    verdicts = {test.partition(" - ")[0].strip(): verdict for test, verdict in found}
    outcome.passed = sum(verdict == "PASSED" for verdict in verdicts.values())
    failures = [test for test, verdict in verdicts.items() if verdict != "PASSED"]
    outcome.failed, outcome.failures = len(failures), failures[:FEW]
    lines = [line.strip(" =") for line in text.splitlines() if line.strip(" =")]
    if outcome.outcome != "passed" and lines:
        outcome.said = lines[-1][:200]


def _gather(found: Run, checks: Sequence[Check], out: Path) -> None:
    """The figures that checks have written so far."""
    written = [out / check.writes for check in checks if check.writes]
    read = {path: path.read_text(encoding="utf-8") for path in written if path.exists()}
    kinds: dict[str, list[Any]] = {"device": [], "agreement": [], "time": []}
    for path, text in read.items():
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        kind = "time" if path.suffix == ".jsonl" else path.stem.rpartition("-")[2]
        kinds[kind] += map(json.loads, lines)
    found.devices = kinds["device"]
    found.agreement = [row for report in kinds["agreement"] for row in report["agreement"]]
    found.benchmarks = [row for row in kinds["time"] if "rule" in row]


def markdown(found: Mapping[str, Any]) -> str:
    """The content of a ``hardware.json`` as tables."""
    about = found["machine"]
    devices = ", ".join(_named(one) for one in found["devices"]) or "no device was found"
    lines = [
        f"## {devices}",
        "",
        f"{found['date']}, samestep {found['samestep']}, platform {found['platform']}; "
        f"{about['processor']}, {about['cores']} cores, {about['system']}, Python "
        f"{about['python']}; " + ", ".join(f"{n} {v}" for n, v in about["versions"].items()) + ".",
        "",
        *_table(
            ("check", "outcome", "seconds", "of", "tests passed", "failed", "said"),
            [
                (
                    *(one["name"], one["outcome"], f"{one['seconds']:.0f}", f"{one['limit']:.0f}"),
                    *(str(one["passed"] or ""), str(one["failed"] or ""), one["said"]),
                )
                for one in found["checks"]
            ],
        ),
    ]
    if found["agreement"]:
        lines += _table(AGREEMENT, _worst(found["agreement"]))
    if found["benchmarks"]:
        lines += _table(TIMES, map(_timing, found["benchmarks"]))
    return "\n".join(lines)


def _named(device: Mapping[str, Any]) -> str:
    size = f", {device['bytes'] / 2**30:.0f} GiB" if device.get("bytes") else ""
    return f"{device['framework']} on {device.get('device') or device['platform']}{size}"


def _worst(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """A line per backend and dtype, with its worst rule."""
    for key in sorted({(row["backend"], row["device"], row["dtype"]) for row in rows}):
        own = [row for row in rows if (row["backend"], row["device"], row["dtype"]) == key]
        worst = max(own, key=lambda row: float(row["one_step"]))
        last = max(float(row["all_steps"]) for row in own)
        figures = (f"{float(worst['one_step']):.1f}", worst["rule"], f"{last:.1f}")
        yield (*key, str(len(own)), *figures)


def _timing(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratios = (row[name] and row[name]["median"] for name in ("ratio", "copy_ratio"))
    peaks = (row[name] and row[name] / 1e9 for name in ("ours_peak", "theirs_peak"))
    return (
        *(row[name] for name in ("framework", "rule", "model", "dtype", "execution")),
        _number(row["ours_ms"]),
        f"{row['library']} {row['variant']}".strip(),
        *map(_number, (row["theirs_ms"], *ratios, *peaks)),
        row["error"],
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(c.replace('|', '/') for c in row)} |" for row in cells), ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and print the tables; 0 if every check passed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh", description="Check and time samestep on this machine's devices."
    )
    parser.add_argument(
        "--platform", choices=[*PLATFORMS], default=_here(), help="%(default)s here"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("hardware-run"), help="default: %(default)s"
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="in all; default: %(default)s")
    parser.add_argument("--checkout", type=Path, help="of samestep, with its tests; default: here")
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    checks = plan(given.platform, out)
    found = run(given.platform, checks, out, 60 * given.minutes, given.checkout)
    print(f"\n{(out / 'hardware.md').read_text(encoding='utf-8')}\n{out / 'hardware.json'}")
    return int(any(check.outcome != "passed" for check in found.checks))


def _here() -> str:
    """The platform of this machine, as far as its system and what is installed tell."""
    if sys.platform == "darwin":
        return "metal"
    if find_spec("libtpu") is not None:
        return "tpu"
    return "cuda" if which("nvidia-smi") or which("rocm-smi") else "cpu"


if __name__ == "__main__":
    sys.exit(main())
