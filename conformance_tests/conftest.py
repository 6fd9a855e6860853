"""Finds rules and backends, and says what is tested and what is missing. Nothing is listed here.

``SAMESTEP_RULES``: Python files whose rules are tested as well, separated like ``PATH``.
``SAMESTEP_BACKENDS``: names of backends or libraries to test, separated by commas.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from samestep.conformance.harness import compiling, memory
from samestep.conformance.harness.parametrized import chosen, parametrize
from samestep.conformance.harness.properties import NOISE
from samestep.conformance.harness.settings import all_rules, load_rules
from samestep.parity.backend import Missing, backends


def pytest_configure(config: pytest.Config) -> None:
    """Load the rules named by ``SAMESTEP_RULES``, and see that ``SAMESTEP_BACKENDS`` are there."""
    for warning in NOISE:
        config.addinivalue_line("filterwarnings", warning)
    try:
        load_rules()
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from None
    chosen()
    compiling.watch()


def pytest_report_header() -> list[str]:
    missing = [f"{m.name} ({m.reason})" for m in backends().values() if isinstance(m, Missing)]
    return [
        "samestep rules: " + ", ".join(rule.__name__ for rule in all_rules()),
        "samestep backends: " + ", ".join(backend.name for backend in chosen()),
        "samestep backends missing: " + (", ".join(missing) or "none"),
    ]


class _Installed(pytest.Module):
    """A module of an installed suite, where not everything has to be there that a checkout has."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = error.__cause__
            if not isinstance(missing, ModuleNotFoundError) or not missing.name:
                raise
            if missing.name.partition(".")[0] == "samestep":
                raise
            reason = f"needs {missing.name}, which is not installed"
            raise pytest.skip.Exception(reason, allow_module_level=True) from error


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave other people's tools out of an installed suite, unless they are asked for by name."""
    asked = any("integrations" in str(argument) for argument in config.getoption("file_or_dir"))
    left_out = config.option.pyargs and not asked and collection_path.name == "integrations"
    return True if left_out else None


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Skip a module that needs what is missing, with ``--pyargs``; here that is an error."""
    if not parent.config.option.pyargs:
        return None
    return _Installed.from_parent(parent, path=module_path)


def pytest_collection_finish() -> None:
    """Let a garbage collection, which many tests ask for, pass over what stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Look at the memory when the test's own replacements, of files too, are undone."""
    yield
    memory.bound()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test in which a rule was not compiled because the compiler failed."""
    with compiling.everything_compiles(item.get_closest_marker("compiler_fails") is not None):
        return (yield)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, all_rules())
