"""The pytest plugin of samestep: a fixture, and the report at the end of the conformance suite.

Every run of pytest on a machine that has samestep imports this module. So it stands outside of the
package samestep, whose import takes a moment, and imports it where it is used.
"""

# ruff: noqa: PLC0415  (imports inside functions, as said above)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from samestep.parity import Trajectory

__all__ = ["report_path", "trajectory"]

SUITE = "samestep.conformance"
REPORT = "samestep-conformance.json"
MARKERS = (
    "trajectory(seed, steps, shapes, decades, dtype): what the fixture trajectory is recorded "
    "with, as by samestep.parity.record; with dtype, in numbers that it holds",
    "thorough: of the conformance suite of samestep: what takes minutes",
    "sharded: of the conformance suite: what runs in several processes",
    "only(where): of the conformance suite: a condition on the rule, the backend and the dtype",
    "every_rule: of the conformance suite: not the rules alone that stand for all",
    "compiler_fails: of the conformance suite: a compiler fails in the test, and means to",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that asks for the report."""
    parser.getgroup("samestep").addoption(
        "--samestep-report",
        metavar="FILE",
        type=Path,
        help="show how closely backends agree in the tests that were run, and save it as JSON; "
        f"pytest --pyargs {SUITE} does so by itself, in {REPORT}",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and wait for what is to be reported, if anything is."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    path = report_path(config)
    if path is not None and not hasattr(config, "workerinput"):
        from samestep.conformance.harness.reporter import Reporter

        config.pluginmanager.register(Reporter(config, path), "samestep-report")


def report_path(config: pytest.Config) -> Path | None:
    """Where the report goes; ``None`` where there is none, as in a suite of somebody's own."""
    path = config.getoption("--samestep-report")
    whole = config.option.pyargs and SUITE in config.getoption("file_or_dir")
    if path is None and not whole:
        return None
    return config.invocation_params.dir / (path or REPORT)


@pytest.fixture
def trajectory(request: pytest.FixtureRequest) -> Trajectory:
    """Parameters to start from and gradients that tell rules apart, of a samestep recording.

    ``@pytest.mark.trajectory(seed=1, steps=20, shapes={"w": (3, 4)}, dtype="float32")`` says which.
    """
    from samestep.parity import record

    marker = request.node.get_closest_marker("trajectory")
    given, wanted = (marker.args, dict(marker.kwargs)) if marker else ((), {})
    dtype = wanted.pop("dtype", "float64")
    try:
        recorded = record(*given, **wanted).rounded(dtype)
        if not recorded.grads:
            raise ValueError("there must be a step at least, or a test of it could not fail")
        return recorded
    except (TypeError, ValueError, KeyError) as error:
        values = [*map(repr, given), *(f"{name}={value!r}" for name, value in wanted.items())]
        pytest.fail(
            f"@pytest.mark.trajectory({', '.join([*values, f'{dtype=}'])}): {error}; it takes "
            "seed, steps, shapes, decades, and dtype: float64, float32, bfloat16 or float16",
            pytrace=False,
        )
