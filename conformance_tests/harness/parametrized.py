"""What a test of the suite is run with, by the names of its arguments; nothing is listed here.

``rule_class``, ``setting``, ``backend``, and ``backend`` with ``dtype``.

``SAMESTEP_BACKENDS``: names of backends or libraries to test, separated by commas; one that is
missing is an error. Without it all that are installed are tested.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from samestep.parity.backend import Backend, Missing, backends
from samestep.rule import Rule

from .settings import settings

__all__ = ["chosen", "parametrize"]


def chosen() -> list[Backend]:
    """The backends to test.

    Raises:
        pytest.UsageError: one that was asked for is missing.
    """
    names = [name for name in os.environ.get("SAMESTEP_BACKENDS", "").split(",") if name]
    if names:
        return [backend for name in names for backend in _requested(name)]
    return [b for b in backends().values() if isinstance(b, Backend)]


def _requested(name: str) -> list[Backend]:
    found = backends()
    asked = [b for b in found.values() if isinstance(b, Backend) and name in (b.name, b.library)]
    if asked:
        return asked
    missing = found.get(name)
    if isinstance(missing, Missing):
        raise pytest.UsageError(f"SAMESTEP_BACKENDS={name} is missing: {missing.reason}")
    raise pytest.UsageError(f"SAMESTEP_BACKENDS={name} is unknown; there are {', '.join(found)}")


def parametrize(metafunc: pytest.Metafunc, rules: Sequence[type[Rule]]) -> None:
    """Run a test with every rule or setting, and with every backend and dtype, that it takes."""
    names = metafunc.fixturenames
    if "rule_class" in names:
        metafunc.parametrize("rule_class", [_param(rule, rule.__name__, rule) for rule in rules])
    if "setting" in names:
        metafunc.parametrize(
            "setting",
            [
                _param(instance, f"{rule.__name__}-{label}", rule)
                for rule in rules
                for label, instance in settings(rule).items()
            ],
        )
    if "backend" in names and "dtype" in names:
        metafunc.parametrize(
            "backend, dtype",
            [
                pytest.param(backend, dtype, id=f"{backend.name}-{dtype}")
                for backend in chosen()
                for dtype in backend.dtypes
            ],
        )
    elif "backend" in names:
        metafunc.parametrize(
            "backend", [pytest.param(backend, id=backend.name) for backend in chosen()]
        )


def _param(value: object, label: str, rule: type[Rule]) -> object:
    """One worker of pytest-xdist has all tests of a rule: what is measured once is kept there."""
    return pytest.param(value, id=label, marks=pytest.mark.xdist_group(rule.__name__))
