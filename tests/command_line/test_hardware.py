"""The checks of a machine with an accelerator, in a dry run: limits, failures, memory, tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

from samestep.benchmarks import check, frameworks, hardware, run
from samestep.benchmarks.hardware import Check, markdown, plan
from samestep.benchmarks.models import MODELS, Model
from samestep.benchmarks.results import Results
from samestep.benchmarks.traffic import needed
from samestep.conformance.harness.checkout import ROOT
from samestep.rule import registry

STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("still here", flush=True)
time.sleep(60)
"""
TESTS = """
print("[gw0] [ 50%] PASSED tests/test_a.py::test_one[AdamW-torch (cuda)]")
print("tests/test_a.py::test_two FAILED    [100%]")
print("FAILED tests/test_a.py::test_two - AssertionError: no")
raise SystemExit("1 failed, 1 passed")
"""
REPORT = """
import json, sys
row = {"rule": "AdamW", "backend": "torch (cuda)", "device": "pretended", "dtype": "float32"}
row |= {"one_step": 1.25, "all_steps": "inf", "numpy": None}
open(sys.argv[1], "w").write(json.dumps({"agreement": [row]}))
"""


def of_python(name: str, code: str, *arguments: str, limit: float = 30, writes: str = "") -> Check:
    return Check(name, name.partition(":")[0], ["-c", code, *arguments], limit, writes)


def written(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "hardware.json").read_text(encoding="utf-8"))
    assert (out / "hardware.md").read_text(encoding="utf-8") == markdown(found)
    return found


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "GRACE", 0.3)


def test_a_check_that_fails_or_hangs_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was measured before and after it is in the table and the file."""
    file = tmp_path / "torch-agreement.json"
    checks = [
        of_python("torch: tests", "print('fine')"),
        of_python("torch: failing tests", TESTS),
        of_python("torch: stubborn", STUBBORN, limit=1.5),
        of_python("torch: killed", "import os; os.kill(os.getpid(), 9)"),
        of_python("torch: agreement", REPORT, str(file), writes=file.name),
    ]
    hardware.run("cuda", checks, tmp_path, 60)
    found = written(tmp_path)
    assert [(one["outcome"], one["passed"], one["failed"]) for one in found["checks"]] == [
        ("passed", 0, 0),
        ("failed", 1, 1),
        ("out of time", 0, 0),
        ("failed", 0, 0),
        ("passed", 0, 0),
    ]
    assert found["checks"][1]["failures"] == ["tests/test_a.py::test_two"]
    assert found["checks"][1]["said"] == "1 failed, 1 passed"
    assert found["checks"][2]["said"] == "still here" and found["checks"][2]["seconds"] < 30
    assert [row["rule"] for row in found["agreement"]] == ["AdamW"]
    table = (tmp_path / "hardware.md").read_text(encoding="utf-8")
    assert all(f"| {one.name} |" in table for one in checks)
    assert "| torch (cuda) | pretended | float32 | 1 | 1.2 | AdamW | inf |" in table
    assert capsys.readouterr().out.count(" ... ") == len(checks)


def test_no_check_begins_when_no_time_is_left(tmp_path: Path) -> None:
    (tmp_path / "torch-agreement.json").write_text("of an earlier run", encoding="utf-8")
    checks = [of_python("torch: tests", REPORT, writes="torch-agreement.json")]
    hardware.run("cuda", checks, tmp_path, 1)
    (outcome,) = written(tmp_path)["checks"]
    assert (outcome["outcome"], outcome["said"]) == ("not begun", "no time was left")
    assert not (tmp_path / "torch-agreement.json").exists()


def test_a_framework_that_takes_no_step_is_left_out(tmp_path: Path) -> None:
    checks = [
        of_python("torch: device", "import no_such_module"),
        of_python("torch: tests", "print('fine')"),
        of_python("jax: device", "print('fine')"),
    ]
    hardware.run("cuda", checks, tmp_path, 60)
    found = written(tmp_path)["checks"]
    assert [one["outcome"] for one in found] == ["failed", "not begun", "passed"]
    assert found[0]["said"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert found[1]["said"] == "torch has no device here"


def test_an_execution_that_fails_leaves_out_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    stepper = frameworks.framework("torch")
    monkeypatch.setattr(type(stepper), "executions", ("no such", "reference"))
    assert not check.device("torch", tmp_path / "torch-device.json", "cpu")
    said = capsys.readouterr().out
    assert "no such: ValueError" in said and "AdamW, reference, was taken" in said
    if stepper.device == "cpu":
        (tmp_path / "torch-device.json").unlink()
        assert not check.device("torch", tmp_path / "torch-device.json", "cuda")
        assert not (tmp_path / "torch-device.json").exists()
        assert "torch sees no accelerator" in capsys.readouterr().out


def test_an_interrupted_run_has_written_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            if timeout is None:
                return super().wait()
            raise KeyboardInterrupt

    real, second = subprocess.Popen, of_python("jax: device", "import time; time.sleep(60)")

    def popen(command: Any, **given: Any) -> Any:
        return (Interrupted if "time.sleep(60)" in command[-1] else real)(command, **given)

    monkeypatch.setattr(hardware.subprocess, "Popen", popen)
    with pytest.raises(KeyboardInterrupt):
        hardware.run("cuda", [of_python("torch: device", ""), second], tmp_path, 60)
    found = written(tmp_path)["checks"]
    assert [one["outcome"] for one in found] == ["passed", "interrupted"]


@pytest.mark.parametrize("platform", hardware.PLATFORMS)
def test_a_plan_begins_with_the_devices_and_names_what_there_is(
    platform: str, tmp_path: Path
) -> None:
    checks = plan(platform, tmp_path)
    names = [*hardware.PLATFORMS[platform]]
    assert [one.framework for one in checks[: len(names)]] == names
    assert {one.framework for one in checks} == {*names}
    assert len({one.log for one in checks}) == len(checks)
    for one in checks:
        assert 0 < one.limit <= 180
        assert all((ROOT / part).exists() for part in one.command if part.endswith(".py"))
        if "time" in one.command:
            model, dtype, *rules = one.command[-(len(one.command) - 5) :]
            assert model in MODELS and dtype in run.DTYPES and {*rules} <= {*registry}


def test_twelve_minutes_hold_what_tells_most(tmp_path: Path) -> None:
    """Whatever hangs, every framework is compared, and GPT-2 is timed."""
    spent = 0.0
    for one in plan("cuda", tmp_path):
        spent += one.limit + 10
        if "GPT-2" in one.name:
            break
    assert spent <= 12 * 60


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes no time."""
    monkeypatch.setitem(MODELS, "quick", Model("two", [[(40, 40), (3,)]]))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", ["torch", "jax", "mlx"])
def test_a_check_times_one_framework_and_says_the_bytes_first(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.setattr(check, "ROUNDS", 2)
    executions = {"torch": ("reference",)}.get(name, frameworks.framework(name).executions)
    monkeypatch.setattr(type(frameworks.framework(name)), "executions", executions)
    rules = ("AdamW", "Adan") if name == "mlx" else ("AdamW",)
    assert check.time(name, tmp_path / "rows.jsonl", "quick", "float32", *rules)
    rows = Results.read(tmp_path / "rows.jsonl").rows
    assert {row.framework for row in rows} == {name}
    assert {row.library for row in rows} >= {check.LIBRARY[name]}
    assert all(row.ours_ms and row.copy_ms and not row.error for row in rows)
    said = capsys.readouterr().out
    assert said.index("two: 1,603 parameters, 2 tensors") < said.index(f"{name} AdamW two")


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_values_are_repeated_on_the_device_as_on_the_host(name: str) -> None:
    module = pytest.importorskip(f"samestep.benchmarks.frameworks.{name}")
    values: Any = frameworks.block(0)
    if name == "torch":
        values = module.torch.tensor(values)
    for shape in [(300, 700), (5,), (3, 2, 2), ()]:
        (expected,) = frameworks.arrays([shape], 0)
        found = module._repeated(values, shape, "float32")
        assert numpy.array_equal(numpy.asarray(found), expected)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("sides", "emptied"), [(0.5, 0), (1.5, 3), (3.0, 0)], ids=["none", "one", "both"]
)
def test_more_than_the_device_has_is_never_allocated(
    sides: float, emptied: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two sides that do not fit together are timed one after the other."""
    pytest.importorskip("torch")
    stepper, made, given_back = frameworks.framework("torch"), [], []
    rule, shapes = registry["AdamW"](), MODELS["quick"].sizes[0]
    monkeypatch.setattr(run, "COPIED", 0)
    way = 2 * 4 * 1603
    room = int(sides * needed(rule, shapes, "float32")) + way
    real = type(stepper).step
    monkeypatch.setattr(type(stepper), "room", lambda self: room)
    monkeypatch.setattr(type(stepper), "emptied", lambda self: given_back.append(1))
    monkeypatch.setattr(
        type(stepper), "step", lambda self, *given: made.append(1) or real(self, *given)
    )
    options = run.Options(
        *(("torch.optim",), ("AdamW",), ("quick",), ("float32",), ("reference",), ("foreach",)),
        rounds=2,
    )
    results = run.prepared(options)
    run.run(options, results, tmp_path / "rows.jsonl")
    (row,) = results.rows
    if sides < 1:
        assert not made and row.error.startswith("MemoryError: a step needs 0.0 GB")
        return
    assert len(made) == 2 and len(given_back) == emptied
    assert row.ratio and row.copy_ratio and not row.error


@pytest.mark.thorough
def test_the_command_runs_on_a_machine_without_an_accelerator(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "broken-1-py3-none-any.whl").touch()
    done = command(tmp_path, "--platform", "cpu", "--out", "found", "--minutes", "16")
    assert done.returncode == 0, done.stdout + done.stderr
    found = written(tmp_path / "found")
    assert {row["framework"] for row in found["benchmarks"]} == {"torch", "jax", "mlx"}
    assert {row["rule"] for row in found["agreement"]} == {"AdamW"}
    tested = [one for one in found["checks"] if "rule" in one["name"]]
    agreed = [one for one in found["checks"] if "agreement" in one["name"]]
    assert len(tested) == 1 and len(agreed) == 3
    assert all(one["passed"] > 0 for one in tested + agreed)
    assert "not installed: wheels/broken" in done.stderr


def command(where: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, called in a folder."""
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=where,
        env=os.environ | {"PYTHON": sys.executable} | environment,
    )


def test_the_command_says_what_it_lacks(tmp_path: Path) -> None:
    done = command(tmp_path, WHEELS="nowhere")
    assert done.returncode == 2 and "WHEELS is nowhere, which is no folder" in done.stderr
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    fake.chmod(0o755)
    done = command(tmp_path, PYTHON=str(fake))
    assert done.returncode == 2 and "setuptools 77 or newer" in done.stderr
