"""README, CONTRIBUTING and the docs name what exists: modules, functions, files, commands."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from samestep.command_line.main import commands
from samestep.conformance.harness.agreement import BOUNDS
from samestep.conformance.harness.checkout import ROOT
from samestep.conformance.harness.settings import all_rules, is_own

PAGES = [
    ROOT / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    *sorted((ROOT / "docs" / "pages").rglob("*.md")),
]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build", "dist"}
EXTERNAL = re.compile(r"https?:|#|mailto:")


def _pages(*left_out: str) -> Any:
    return pytest.mark.parametrize(
        "page",
        [page for page in PAGES if page.name not in left_out],
        ids=lambda page: str(page.relative_to(ROOT)),
    )


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, an attribute reached from one, or a group of plug-ins."""
    if entry_points(group=name):
        return True
    found, *rest = name.split(".")
    value: Any = import_module(found)
    for part in rest:
        found = f"{found}.{part}"
        try:
            value = getattr(value, part)
        except AttributeError:
            try:
                value = import_module(found)
            except ModuleNotFoundError:
                return False
    return True


@_pages()
def test_a_documented_name_exists(page: Path) -> None:
    for framework in ("torch", "jax", "mlx"):
        pytest.importorskip(framework)
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"(?<![\w./-])samestep(?:\.[A-Za-z_]\w*)+", text))
    defined = tuple(f".{name}" for name in re.findall(r"^class (\w+)\(", text, re.M))
    unknown = {name for name in names if not name.endswith((".py", *defined))}
    assert sorted(name for name in unknown if not _exists(name)) == []


GIVEN = {
    "torch": """
import torch
model = torch.nn.Linear(3, 1)
batches = [(torch.ones(2, 3), torch.ones(2, 1))] * 2
loss = lambda model, x, y: (model(x) - y).square().mean()
""",
    "jax": """
import jax.numpy
params = {"w": jax.numpy.ones((3, 1))}
batches = [(jax.numpy.ones((2, 3)), jax.numpy.ones((2, 1)))] * 2
loss = lambda params, x, y: ((x @ params["w"] - y) ** 2).mean()
""",
    "mlx": """
import mlx.core, mlx.nn
model = mlx.nn.Linear(3, 1)
batches = [(mlx.core.ones((2, 3)), mlx.core.ones((2, 1)))] * 2
loss = lambda model, x, y: (model(x) - y).square().mean()
""",
    "numpy": """
import numpy
params, grads = {"w": numpy.ones(3)}, {"w": numpy.ones(3)}
""",
}
"""The names that the snippets of the README have from the reader's own program."""
NAMES = ("model", "batches", "loss", "params", "grads")


def snippets() -> list[tuple[str, str]]:
    """The programs in the README, each with its framework."""
    found = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.S)
    named = [next(iter(re.findall(r"samestep\.(torch|jax|mlx)", text)), "numpy") for text in found]
    return [*zip(named, found, strict=True)]


@pytest.mark.parametrize(("framework", "text"), snippets(), ids=lambda value: value[:5])
def test_a_snippet_of_the_readme_runs_as_it_is_printed(framework: str, text: str) -> None:
    """Alone in a process; what the README calls is found after ``import samestep``."""
    pytest.importorskip(framework)
    inside = r"\w+" if framework == "numpy" else rf"{framework}\.\w+"
    called = re.findall(rf"\bsamestep\.{inside}(?=\()", PAGES[0].read_text(encoding="utf-8"))
    code = (
        f"given = {{}}; exec({GIVEN[framework]!r}, given)\n"
        f"own = {{name: given[name] for name in {NAMES} if name in given}}\n"
        f"exec({text!r}, own)\n"
    )
    code = "\n".join(["import samestep", *called, code])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_does_not_exist_is_found() -> None:
    assert _exists("samestep.checkpoints.read") and _exists("samestep.parity")
    assert not _exists("samestep.checkpoints.nothing") and not _exists("samestep.nothing.at_all")


@_pages("matrix.md", "faults.md")
def test_a_documented_path_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`([\w.-]+/[\w./-]*)`", text)
    named = {path for path in paths if path.split("/")[0] in FOLDERS}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@_pages()
def test_a_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not EXTERNAL.match(link)]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


@_pages()
def test_a_documented_command_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```\w*\n.*?^```|(?<=`)[^`\n]+(?=`)", text, re.M | re.S))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(" ".join(re.findall(r"^([a-z][\w -]*):", makefile, re.M)).split())
    assert set(re.findall(r"^make ([a-z-]+)", code, re.M)) <= targets
    known = {*commands().list_commands(None)}
    assert set(re.findall(r"^(?:\$ )?samestep ([a-z]+)\b", code, re.M)) <= known


def test_the_documented_bounds_are_the_tested_ones() -> None:
    text = (ROOT / "docs" / "pages" / "agreement.md").read_text(encoding="utf-8")
    rows = re.findall(r"^ *\| (`[a-z`, ]+`) \| (\d+)", text, re.M)
    shown = {need.strip("`"): int(limit) for needs, limit in rows for need in needs.split(", ")}
    assert shown == BOUNDS


@pytest.mark.thorough
def test_the_table_of_launches_is_that_of_the_rules() -> None:
    pytest.importorskip("torch")
    from samestep.conformance.harness.launch_table import table  # noqa: PLC0415

    rows = table(rule for rule in all_rules() if is_own(rule))
    page = (ROOT / "docs" / "pages" / "execution.md").read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == []
