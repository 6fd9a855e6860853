"""The checkout: the table of agreement, the examples, the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache

import pytest

from samestep.conformance.harness import stubs
from samestep.conformance.harness.agreement import bound, exact, tabled
from samestep.conformance.harness.checkout import ROOT, packages
from samestep.parity.backend import Backend, backends


@cache
def shown() -> dict[tuple[str, str], str]:
    """The cells of the table of agreement by rule and backend."""
    text = (ROOT / "docs" / "pages" / "agreement.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- agreement -->\n(.*?)\n\n", text, re.S)
    assert table, "the page has no table; make agreement writes it"
    head, _, *rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in table[1].splitlines()
    ]
    return {
        (row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:], strict=True)
    }


def test_the_table_of_agreement_has_every_rule_and_backend():
    there = [backend for backend in backends().values() if isinstance(backend, Backend)]
    expected = {(name, backend.name) for name in tabled() for backend in there}
    assert set(shown()) == expected


@pytest.mark.parametrize(("name", "rule"), tabled().items(), ids=tabled())
def test_the_figures_of_agreement_are_what_is_promised_on_every_machine(name, rule):
    """The figures are one machine's; test_agreement holds every machine to the same bounds."""
    for backend in (b for b in backends().values() if isinstance(b, Backend)):
        cell = shown()[name, backend.name]
        assert float(cell.strip("*")) <= bound(rule, backend, "float32"), backend.name
        if exact(rule, backend):
            assert cell.startswith("**"), backend.name


def pinned(file):
    """The versions in a file of constraints, by name."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.M))


def test_the_floors_are_the_oldest_versions_that_are_tested():
    """torch's is the version of all tests: there is no older one for CPUs."""
    oldest, usual = pinned("constraints-oldest.txt"), pinned("constraints.txt")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    extras = project["optional-dependencies"]
    lines = [*settings["build-system"]["requires"], *project["dependencies"]]
    lines += [line for extra in ("torch", "jax", "mlx", "conformance") for line in extras[extra]]
    floors = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups() for line in lines]
    untested = {"setuptools", "hypothesis", "pytest"}
    assert {(name, floor) for name, floor in floors if name not in untested} == {
        (name, oldest.get(name, usual[name])) for name, _ in floors if name not in untested
    }
    assert {*oldest} <= {*usual}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_example_rule_trains_alike_in_every_framework():
    path = ROOT / "examples" / "quasi_hyperbolic_momentum.py"
    done = subprocess.run([sys.executable, path], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["torch", "jax", "mlx"]
    assert len({line[1] for line in lines}) == 1, done.stdout


def test_every_example_is_one_file_below_eighty_lines_for_each_framework():
    for path in (ROOT / "examples").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        frameworks = [f for f in ("torch", "jax", "mlx") if f"import samestep.{f}\n" in text]
        assert len(text.splitlines()) < 80 * max(1, len(frameworks))


def test_the_wheel_holds_every_module_type_marker_and_licence(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, ROOT], check=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    folders = packages()
    for package, folder in folders.items():
        inner = [other for other in folders.values() if folder in other.parents]
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".pyi", ".typed", ".html") and not {*inner} & {*path.parents}:
                place = package.replace(".", "/")
                assert f"{place}/{path.relative_to(folder).as_posix()}" in names
    for package in ("samestep", "samestep.rules", *stubs.adapters()):
        assert f"{package.replace('.', '/')}/__init__.pyi" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
