"""Editors and type checkers see the classes that are made at run time."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import re
import runpy
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from samestep.conformance.harness import stubs
from samestep.conformance.harness.checkout import copy_packages
from samestep.conformance.harness.settings import all_rules
from samestep.rule import registry

SAMPLES = Path(__file__).parent / "typing_samples"
USERS = sorted(path.stem for path in SAMPLES.glob("*_user.py"))

MYPY = """
[mypy]
strict = true
[mypy-samestep.rules.*]
disallow_untyped_defs = false
disallow_untyped_calls = false
[mypy-mlx.*]
implicit_reexport = true
"""
"""Rules are not annotated, so that they read like the paper; their stubs are. mlx.nn does not mark
its names as exported."""


class Report(NamedTuple):
    """An error that a type checker reports."""

    path: Path
    line: int
    message: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is installed, and the code of users in a folder next to it."""
    for adapter in stubs.adapters():
        pytest.importorskip(adapter)
    root = tmp_path_factory.mktemp("typing")
    copy_packages(root)
    shutil.copytree(SAMPLES, root / "user", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def _mypy(root: Path, config: pytest.Config) -> list[Report]:
    (root / "mypy.ini").write_text(MYPY)
    samples = [option for path in sorted(SAMPLES.glob("*.py")) for option in ("-m", path.stem)]
    output = _output(
        [
            "mypy",
            "--config-file",
            str(root / "mypy.ini"),
            "--output",
            "json",
            "--cache-dir",
            str(config.rootpath / ".mypy_cache"),
            "-p",
            "samestep",
            *samples,
        ],
        cwd=root / "user",
        MYPYPATH=os.pathsep.join(map(str, (root, root / "user"))),
    )
    found = [json.loads(line) for line in output.splitlines()]
    return [
        Report((root / "user" / each["file"]).resolve(), each["line"], each["message"])
        for each in found
        if each["severity"] == "error"
    ]


def _pyright(root: Path, config: pytest.Config) -> list[Report]:
    settings = {"extraPaths": [str(root)], "typeCheckingMode": "standard"}
    (root / "user" / "pyrightconfig.json").write_text(json.dumps(settings))
    output = _output(["pyright", "--pythonpath", sys.executable, "--outputjson"], cwd=root / "user")
    return [
        Report(Path(each["file"]), each["range"]["start"]["line"] + 1, each["message"])
        for each in json.loads(output)["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def _output(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        capture_output=True,
        env={**os.environ, **environment},
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


CHECKERS: dict[str, Callable[[Path, pytest.Config], list[Report]]] = {
    "mypy": _mypy,
    "pyright": _pyright,
}


@pytest.fixture(scope="module", params=CHECKERS)
def reports(
    request: pytest.FixtureRequest, workplace: Path, pytestconfig: pytest.Config
) -> list[Report]:
    """Everything that a type checker says about the samples, and mypy about the package."""
    pytest.importorskip(request.param)
    return CHECKERS[request.param](workplace, pytestconfig)


@pytest.fixture(scope="module")
def said(reports: list[Report]) -> dict[int, str]:
    """What a type checker says of each line of the mistakes."""
    said: dict[int, str] = {}
    for path, line, text in reports:
        if path.stem == "mistakes":
            said[line] = f"{said.get(line, '')}\n{text}"
    return said


def _lines(reports: list[Report], chosen: Callable[[Path], bool]) -> list[str]:
    return [f"{path.name}:{line}: {text}" for path, line, text in reports if chosen(path)]


def test_the_stubs_are_of_the_declarations_as_they_are() -> None:
    stale = [path for path, text in stubs.stubs() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run make stubs"


@pytest.mark.typing
@pytest.mark.parametrize("sample", USERS)
def test_ordinary_code_passes(reports: list[Report], sample: str) -> None:
    assert _lines(reports, lambda path: path.stem == sample) == []


@pytest.mark.typing
def test_mistakes_are_reported_and_nothing_else_is(said: dict[int, str]) -> None:
    """A line's comment quotes what both checkers say of it: the argument, attribute or type."""
    lines = (SAMPLES / "mistakes.py").read_text().splitlines()
    marked = {
        number: line.partition("# error: ")[2]
        for number, line in enumerate(lines, 1)
        if "# error: " in line
    }
    assert said.keys() == marked.keys()
    assert {n: text for n, text in said.items() if marked[n] not in text} == {}


@pytest.mark.typing
def test_the_package_is_strictly_typed(reports: list[Report]) -> None:
    assert _lines(reports, lambda path: path.parent.name != "user") == []


@pytest.fixture
def linked() -> Path:
    """The folder that an editable installation names to type checkers."""
    places = map(Path, (sysconfig.get_path("purelib"), *site.getsitepackages(), *sys.path))
    found = next((path for place in places for path in place.glob("samestep_types.pth")), None)
    if found is None:
        pytest.skip("this is no editable installation, or an old one")
    return Path(found.read_text(encoding="utf-8").strip())


def test_an_editable_installation_has_the_packages_where_type_checkers_look(linked: Path) -> None:
    for name in ("", "torch", "jax", "mlx", "rules", "recording", "checkpoints/maps"):
        assert (linked / "samestep-stubs" / name / "__init__.py").is_file(), name


@pytest.mark.typing
def test_mypy_finds_an_editable_installation(linked: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("import samestep.torch\nsamestep.torch.AdamW([], lr='no')\n")
    output = _output(["mypy", "--no-error-summary", "user.py"], cwd=tmp_path)
    assert re.fullmatch(r"user\.py:2: error: Argument \"lr\" to \"AdamW\" has .*\n", output)


@pytest.mark.parametrize("sample", USERS)
def test_ordinary_code_runs(sample: str) -> None:
    pytest.importorskip(sample.removesuffix("_user"))
    known = dict(registry)
    try:
        runpy.run_path(str(SAMPLES / f"{sample}.py"))
    finally:
        registry.clear()
        registry.update(known)


@pytest.mark.parametrize("adapter", ["samestep", *stubs.adapters()])
def test_signature_and_help_show_every_hyperparameter(adapter: str) -> None:
    package = pytest.importorskip(adapter)
    for rule in all_rules():
        native: Any = getattr(package, rule.__name__, rule)
        shown = inspect.signature(native).parameters
        text = pydoc.render_doc(native, renderer=pydoc.plaintext)
        for name, field in rule.fields().items():
            assert shown[name].default == field.default, rule.__name__
            assert f"{name}={field.default!r}" in text, rule.__name__
