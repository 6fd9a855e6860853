"""Every rule of the package, in float64 on NumPy, against its independent reference."""

from __future__ import annotations

import pytest

from samestep.conformance.references import follow_reference, reference_for
from samestep.conformance.settings import suited
from samestep.parity import compare, oracle, record

ROUNDING = 2e4
"""ULP of float64 over 200 steps; two orders of the same sums differ by about 1e-12."""


def test_every_rule_of_the_package_has_a_reference(rule_class):
    if rule_class.__module__.startswith("samestep."):
        assert reference_for(rule_class.__name__) is not None


def test_parameters_and_state_are_the_reference_s(setting):
    if reference_for(setting.name) is None:
        pytest.skip("a rule from outside the package brings no reference")
    trajectory = suited(setting, record(seed=1))
    trajectory = trajectory.taken({path for path, p in trajectory.params.items() if p.size})
    found = compare(
        oracle(setting, trajectory),
        follow_reference(setting, trajectory),
        "float64",
        whole=setting.needs == "matrix",
    )
    assert found.ulp < ROUNDING, found.worst
