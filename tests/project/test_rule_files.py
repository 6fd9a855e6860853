"""What a rule file looks like, and what importing a package brings."""

from __future__ import annotations

import ast
import inspect
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import resolve_name
from pathlib import Path

import pytest

import samestep
from samestep import rules
from samestep.conformance.harness.checkout import copy_packages
from samestep.conformance.harness.stubs import adapters, folder
from samestep.declaration import Hyper
from samestep.rule import Rule, registry

CORE = folder("samestep")
RULE_FILES = sorted(folder("samestep.rules").glob("[!_]*.py"))
RULES = [registry[name] for name in rules.__all__]
FRAMEWORKS = {"jax", "mlx", "optax", "torch"}
VOCABULARY = ("vocabulary", "weight_decay")
LONGEST, MEDIAN = 60, 42
CONVENTIONS = ("Source:", "Agrees with:", "Differs from:", "Shapes:")
CORRESPONDENCES = {
    folder(module.rpartition(".")[0]) / f"{module.rpartition('.')[2]}.py"
    for module in (
        "samestep.mlx.tables",
        "samestep.torch.package_tables",
        "samestep.torch.tables",
        *(entry.module for entry in entry_points(group="samestep.natives")),
    )
}
"""What says how rules and hyperparameters are called by other optimizers has to name them."""


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(path: Path, package: str) -> Iterator[str]:
    """The full name of every module that a file of a package imports, at any depth."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield resolve_name("." * node.level + (node.module or ""), package)


def _runs(code: str, *, path: Path | None = None) -> str:
    """What a fresh interpreter prints."""
    setup = f"import sys; sys.path.insert(0, {str(path)!r}); " if path else ""
    done = subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_core_imports_no_framework() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "array_api_compat", "samestep"}
    foreign = {
        (path.name, module)
        for path in sorted(CORE.rglob("*.py"))
        for module in _imports(path, "samestep")
        if module.partition(".")[0] not in allowed
    }
    assert foreign == set()


@pytest.mark.parametrize("package", ["samestep", *adapters()])
def test_importing_a_package_imports_no_other_framework(package: str) -> None:
    own = package.rpartition(".")[2]
    pytest.importorskip(package)
    imported = _runs(f"import sys, {package}; print(*sys.modules)").split()
    assert {"jax", "mlx", "torch"} & {*imported} == {own} - {"samestep"}


@pytest.mark.parametrize("package", adapters())
def test_adapters_name_no_rule_and_no_hyperparameter(package: str) -> None:
    """All but the learning rate, which is the framework's own concept."""
    declared = {name for rule in RULES for name in rule.fields()} | {*rules.__all__}
    named = set()
    for path in {*folder(package).glob("*.py")} - CORRESPONDENCES:
        for node in ast.walk(_tree(path)):
            match node:
                case ast.Attribute(ast.Name("rule") | ast.Attribute(attr="rule"), name):
                    named.add(name)
                case ast.Name(id=name) | ast.keyword(arg=name):
                    named.add(name)
                case ast.arg(arg=name) | ast.alias(name=name) | ast.Constant(value=str(name)):
                    named.add(name)
    assert named & declared <= {"lr"}


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{path.name} has {lines} lines"


def test_half_of_the_rule_files_are_shorter_than_a_page() -> None:
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in RULE_FILES]
    assert statistics.median(lines) <= MEDIAN


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_file_imports_the_vocabulary_and_no_other_rule(path: Path) -> None:
    parts = (f"samestep.parts.{part.stem}" for part in (CORE / "parts").glob("[!_]*.py"))
    vocabulary = (f"samestep.{name}" for name in VOCABULARY)
    sanctioned = {*vocabulary, *parts, "samestep.parts", "math", "itertools"}
    assert {*_imports(path, "samestep.rules")} <= sanctioned


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_assigns_nothing_in_place(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        assert not isinstance(node, ast.AugAssign | ast.Delete), f"line {node.lineno}"
        targets = node.targets if isinstance(node, ast.Assign) else []
        names = [name for target in targets for name in ast.walk(target)]
        changed = [name for name in names if isinstance(name, ast.Attribute | ast.Subscript)]
        assert changed == [], f"line {node.lineno}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_documents_itself(rule: type[Rule]) -> None:
    text = inspect.getdoc(rule) or ""
    places = [text.find(f"\n{heading}") for heading in CONVENTIONS]
    assert -1 not in places and places == sorted(places), f"{CONVENTIONS}, in this order"
    assert re.match(r"[^\n]+\.\n\n", text), "one sentence, then an empty line"
    source = text[places[0] : places[1]]
    assert re.search(r"arXiv \d{4}\.\d{4,5}\b|\b(19|20)\d\d\b", source), source
    for name, field in rule.fields().items():
        assert field.meaning.strip(), name
        assert not isinstance(field, Hyper) or field.unit.strip(), name


def test_everything_exported_is_listed() -> None:
    ours = {
        name
        for name, value in vars(samestep).items()
        if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith("samestep")
    }
    assert ours - {*samestep.__all__} == set()
    assert {*samestep.__all__} <= {*dir(samestep)}
    assert all(getattr(samestep, name) is not None for name in samestep.__all__)
    assert len(samestep.__all__) == len({*samestep.__all__})
    assert {rule.__module__.rpartition(".")[2] for rule in RULES} == {p.stem for p in RULE_FILES}


def test_adding_a_rule_is_adding_a_file(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    text = (folder("samestep.rules") / "lion.py").read_text(encoding="utf-8")
    new = tmp_path / "samestep" / "rules" / "tiger.py"
    new.write_text(text.replace("class Lion", "class Tiger"), encoding="utf-8")
    found = "import samestep; print(samestep.Tiger(), 'Tiger' in samestep.__all__, end=' '); "
    for package in adapters():
        pytest.importorskip(package)
        found += f"import {package}; print({package}.Tiger.__name__, end=' '); "
    expected = ["Tiger()", "True", *("Tiger" for _ in adapters())]
    assert _runs(found, path=tmp_path).split() == expected
