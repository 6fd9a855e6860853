"""Every rule on every backend and dtype against the rule in float64, and bit for bit with NumPy."""

from __future__ import annotations

import pytest

import samestep
from samestep.conformance.harness.agreement import bound, exact, measure, one_steps, steps_of
from samestep.conformance.harness.reporter import PROPERTY, as_row
from samestep.conformance.harness.settings import is_own, typical
from samestep.parity.backend import NUMPY, Backend, backends

ILL_CONDITIONED = 0.001
"""Share of elements that a change of the gradient by 1e-6 may turn around."""


@pytest.mark.every_rule
def test_one_step_is_within_the_bound_of_float64(rule_class, backend, dtype, record_property):
    """What is measured goes with the test's report, for the table at the end of a run."""
    rule = typical(rule_class)
    measured = measure(rule, backend, dtype)
    record_property(PROPERTY, as_row(rule, backend, dtype, measured))
    for slot, worst in measured.one_step.worst.items():
        assert worst.ulp <= bound(rule, backend, dtype, slot), worst
    assert measured.turned <= ILL_CONDITIONED


@pytest.mark.thorough
@pytest.mark.parametrize("coefficients", ["polar_express_5", "cans"])
def test_coefficients_that_amplify_a_rounding_say_how_much(coefficients):
    rule = typical(samestep.Muon, ns_coefficients=coefficients)
    off = measure(rule, NUMPY, "float32").one_step.ulp
    assert bound(typical(samestep.Muon), NUMPY, "float32") < off <= bound(rule, NUMPY, "float32")


def accumulates(rule, dtype):
    """Whether the errors of many steps have a bound.

    Storing in bfloat16 loses half a unit in every step. An element at rest may turn with the last
    bit, and a rule that is not continuous then steps otherwise in all others.
    """
    return dtype != "bfloat16" and (rule.continuous or rule.needs == "element")


@pytest.mark.every_rule
@pytest.mark.only(where=accumulates)
def test_errors_of_many_steps_stay_within_one_bound_per_step(rule_class, backend, dtype):
    rule = typical(rule_class)
    measured = measure(rule, backend, dtype)
    per_step = 8 if rule.reduces else 1  # an estimated step size feeds its error back in each step
    assert measured.in_all.ulp <= per_step * steps_of(dtype), measured.in_all.worst


@pytest.mark.every_rule
@pytest.mark.only(where=lambda rule, backend, dtype: dtype in NUMPY.dtypes and exact(rule, backend))
def test_element_rules_are_bit_for_bit_what_numpy_computes(rule_class, backend, dtype):
    measured = measure(typical(rule_class), backend, dtype)
    assert measured.numpy.first is None, str(measured.numpy.first)


def a_gpu_of_mlx():
    mx = pytest.importorskip("mlx.core")
    return mx.Device(mx.gpu)


ELSEWHERE = {
    "jax": ("jax.default_backend", lambda: "gpu"),
    "mlx": ("mlx.core.default_device", a_gpu_of_mlx),
    "torch": ("samestep.torch.backend.Torch.device", "cuda"),
}


@pytest.mark.parametrize("library", ELSEWHERE)
def test_equal_bits_are_promised_on_cpus_only(library, monkeypatch):
    """There they were measured. XLA, for example, divides approximately on GPUs."""
    pytest.importorskip(library)
    there = [b for b in backends().values() if isinstance(b, Backend)]
    found = [backend for backend in there if backend.library == library]
    assert any(exact(typical(samestep.SignSGD), backend) for backend in found)
    monkeypatch.setattr(*ELSEWHERE[library])
    assert not any(exact(typical(samestep.SignSGD), backend) for backend in found)


def assert_agrees(rule, backend):
    for slot, worst in one_steps(rule, backend).worst.items():
        assert worst.ulp <= bound(rule, backend, "float32", slot), worst


@pytest.mark.only(where=lambda rule, backend: not (is_own(rule) or backend.slow))
def test_every_setting_of_a_rule_is_within_the_bound_of_float64(setting, backend):
    """Of a rule of somebody's own: an option may be wrong in one framework only."""
    assert_agrees(setting, backend)


def is_finite(rule):
    """Whether float32 holds the square of eps; else a gradient of zero is divided by zero."""
    return rule.hypers.get("eps_at") != "clamped" or rule.hypers["eps"][0] > 1e-18


@pytest.mark.thorough
@pytest.mark.only(where=lambda rule, backend: is_own(rule) and not backend.slow)
@pytest.mark.only(where=is_finite)
def test_every_setting_is_within_the_bound_of_float64(setting, backend):
    assert_agrees(setting, backend)
