"""Finds rules and backends, and says what is tested and what is missing. Nothing is listed here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from samestep.backend import Backend, Missing, backends
from samestep.conformance.settings import all_rules, settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="test this backend or library (repeatable); an error if it is missing",
    )
    parser.addoption(
        "--rule",
        action="append",
        metavar="FILE",
        help="test the rules that a Python file defines as well (repeatable)",
    )


def pytest_configure(config: pytest.Config) -> None:
    for path in map(Path, config.getoption("--rule") or ()):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.exists():
            raise pytest.UsageError(f"--rule {path}: there is no such Python file")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    for name in config.getoption("--backend") or ():
        _requested(name)


def _requested(name: str) -> list[Backend]:
    found = backends()
    chosen = [b for b in found.values() if isinstance(b, Backend) and name in (b.name, b.library)]
    if chosen:
        return chosen
    if isinstance(found.get(name), Missing):
        raise pytest.UsageError(f"--backend {name} is missing: {found[name].reason}")
    raise pytest.UsageError(f"--backend {name} is unknown; there are {', '.join(found)}")


def _chosen(config: pytest.Config) -> list[Backend]:
    names = config.getoption("--backend")
    if names:
        return [backend for name in names for backend in _requested(name)]
    return [b for b in backends().values() if isinstance(b, Backend)]


def pytest_report_header(config: pytest.Config) -> list[str]:
    missing = [f"{m.name} ({m.reason})" for m in backends().values() if isinstance(m, Missing)]
    return [
        "samestep rules: " + ", ".join(rule.__name__ for rule in all_rules()),
        "samestep backends: " + ", ".join(backend.name for backend in _chosen(config)),
        "samestep backends missing: " + (", ".join(missing) or "none"),
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fixtures by name: ``rule_class``, ``setting``, ``backend``, ``backend`` with ``dtype``."""
    names = metafunc.fixturenames
    if "rule_class" in names:
        rules = [
            pytest.param(rule, id=rule.__name__, marks=pytest.mark.xdist_group(rule.__name__))
            for rule in all_rules()
        ]
        metafunc.parametrize("rule_class", rules)
    if "setting" in names:
        metafunc.parametrize(
            "setting",
            [
                pytest.param(
                    rule, id=f"{cls.__name__}-{label}", marks=pytest.mark.xdist_group(cls.__name__)
                )
                for cls in all_rules()
                for label, rule in settings(cls).items()
            ],
        )
    if "backend" in names and "dtype" in names:
        metafunc.parametrize(
            "backend, dtype",
            [
                pytest.param(backend, dtype, id=f"{backend.name}-{dtype}")
                for backend in _chosen(metafunc.config)
                for dtype in backend.dtypes
            ],
        )
    elif "backend" in names:
        metafunc.parametrize(
            "backend",
            [pytest.param(backend, id=backend.name) for backend in _chosen(metafunc.config)],
        )
