"""Every rule on every backend and dtype against the rule in float64, and bit for bit with NumPy."""

from __future__ import annotations

from contextlib import suppress

import pytest

from samestep.conformance.harness.agreement import bound, exact, measure, steps_of
from samestep.conformance.harness.report import PROPERTY, as_row
from samestep.conformance.harness.settings import typical

ILL_CONDITIONED = 0.001
"""Share of elements that a change of the gradient by 1e-6 may turn around."""


@pytest.fixture
def reported(rule_class, backend, dtype, record_property):
    """What was measured goes with the report of the test, for the table at the end of a run."""
    yield
    with suppress(Exception):  # what cannot be measured has failed the test
        rule = typical(rule_class)
        record_property(PROPERTY, as_row(rule, backend, dtype, measure(rule, backend, dtype)))


@pytest.mark.usefixtures("reported")
def test_one_step_is_within_the_bound_of_float64(rule_class, backend, dtype):
    rule = typical(rule_class)
    measured = measure(rule, backend, dtype)
    for slot, worst in measured.one_step.worst.items():
        assert worst.ulp <= bound(rule, backend, dtype, slot), worst
    assert measured.turned <= ILL_CONDITIONED


def test_errors_of_many_steps_stay_within_one_bound_per_step(rule_class, backend, dtype):
    if dtype == "bfloat16":
        pytest.skip("half a unit of bfloat16 per step is what storing in bfloat16 means")
    rule = typical(rule_class)
    if not (rule.continuous or rule.needs == "element"):
        pytest.skip("an element at rest turns with the last bit, and all others step otherwise")
    measured = measure(rule, backend, dtype)
    per_step = 8 if rule.reduces else 1  # an estimated step size feeds its error back in each step
    assert measured.in_all.ulp <= per_step * steps_of(dtype), measured.in_all.worst


def test_element_rules_are_bit_for_bit_what_numpy_computes(rule_class, backend, dtype):
    rule = typical(rule_class)
    measured = measure(rule, backend, dtype)
    if measured.numpy is None or not exact(rule, backend):
        pytest.skip(
            "equality to the last bit is promised for element rules alone, in NumPy's "
            "dtypes, where square roots are rounded correctly and nothing is contracted"
        )
    assert measured.numpy.first is None, str(measured.numpy.first)
