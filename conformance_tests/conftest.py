"""Finds rules and backends, and says what is tested and what is missing. Nothing is listed here.

``SAMESTEP_RULES``: Python files whose rules are tested as well, separated like ``PATH``.
``SAMESTEP_BACKENDS``: names of backends or libraries to test, separated by commas; one that is
missing is an error. Without it all that are installed are tested.
"""

from __future__ import annotations

import os

import pytest

from samestep.backend import Backend, Missing, backends
from samestep.conformance.settings import all_rules, load_rules, settings


def pytest_configure(config: pytest.Config) -> None:
    """Load the rules named by ``SAMESTEP_RULES``, and see that ``SAMESTEP_BACKENDS`` are there."""
    config.addinivalue_line(
        "markers",
        "thorough: faults planted in every rule; and for one more rule, in eager JAX, with a "
        "compiler or in another dtype than float32, what the first element rule shows",
    )
    try:
        load_rules()
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from None
    _chosen()


def _requested(name: str) -> list[Backend]:
    found = backends()
    chosen = [b for b in found.values() if isinstance(b, Backend) and name in (b.name, b.library)]
    if chosen:
        return chosen
    if isinstance(found.get(name), Missing):
        raise pytest.UsageError(f"SAMESTEP_BACKENDS={name} is missing: {found[name].reason}")
    raise pytest.UsageError(f"SAMESTEP_BACKENDS={name} is unknown; there are {', '.join(found)}")


def _chosen() -> list[Backend]:
    names = [name for name in os.environ.get("SAMESTEP_BACKENDS", "").split(",") if name]
    if names:
        return [backend for name in names for backend in _requested(name)]
    return [b for b in backends().values() if isinstance(b, Backend)]


def pytest_report_header() -> list[str]:
    missing = [f"{m.name} ({m.reason})" for m in backends().values() if isinstance(m, Missing)]
    return [
        "samestep rules: " + ", ".join(rule.__name__ for rule in all_rules()),
        "samestep backends: " + ", ".join(backend.name for backend in _chosen()),
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
                for backend in _chosen()
                for dtype in backend.dtypes
            ],
        )
    elif "backend" in names:
        metafunc.parametrize(
            "backend",
            [pytest.param(backend, id=backend.name) for backend in _chosen()],
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as thorough what ``make test`` leaves to ``make thorough``."""
    first = next(rule for rule in all_rules() if rule.needs == "element")
    for item in items:
        given = getattr(item, "callspec", None)
        rule = given.params.get("rule_class") if given else None
        backend = given.params.get("backend") if given else None
        if rule is None or backend is None or not rule.__module__.startswith("samestep."):
            continue
        unusual = (given.params.get("dtype", "float32") != "float32") + backend.slow
        if unusual > (rule is first):
            item.add_marker(pytest.mark.thorough)
