"""Every rule of the package, in float64 on NumPy, against its independent reference."""

from __future__ import annotations

import pytest

from samestep.conformance.harness.reference import (
    ROUNDING,
    allowed,
    apart,
    late,
    recorded,
    steady,
)
from samestep.conformance.harness.settings import is_own, typical
from samestep.conformance.references import follow_reference, reference_for
from samestep.parity import Trajectory, oracle
from samestep.rule import Rule, registry

of_the_package = pytest.mark.only(where=is_own)
"""A rule from outside of the package brings no reference."""


@of_the_package
def test_every_rule_of_the_package_has_a_reference(rule_class):
    assert reference_for(rule_class.__name__) is not None


@of_the_package
def test_parameters_and_state_are_the_reference_s(setting):
    agree(setting, recorded(setting))


@of_the_package
@pytest.mark.parametrize("trajectory", [late, steady])
def test_gradients_that_are_zero_at_first_or_keep_their_sign_agree_too(setting, trajectory):
    agree(setting, trajectory(setting))


PRINTED = [name for name in sorted(registry) if "paper" in registry[name].dialects]


@pytest.mark.parametrize("name", PRINTED)
def test_what_a_paper_prints_is_what_the_reference_computes(name):
    """No package computes these; the references are written from the papers."""
    rule = typical(registry[name], like="paper")
    agree(rule, recorded(rule))


def agree(rule: Rule, trajectory: Trajectory) -> None:
    found = apart(rule, oracle(rule, trajectory), follow_reference(rule, trajectory))
    assert found.ulp < ROUNDING or found.ulp < allowed(rule, trajectory), found.worst
