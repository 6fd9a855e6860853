"""The parity kit itself: trajectories that discriminate, ULP that count, the first difference."""

from __future__ import annotations

import ml_dtypes
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import samestep
from samestep.parity import compare, follow, oracle, record, rounded, spacing, ulps
from samestep.parity.backend import NumPy

NARROW = {"float32": numpy.float32, "float16": numpy.float16, "bfloat16": ml_dtypes.bfloat16}
FINITE = st.floats(-6e4, 6e4, width=64)


def test_a_trajectory_tells_rules_apart():
    trajectory = record(seed=0)
    grads = numpy.stack([step["matrix"] for step in trajectory.grads])
    assert len(grads) == 200
    turning = (numpy.sign(grads[1:]) * numpy.sign(grads[:-1]) < 0).mean()
    assert 0.3 < turning < 0.6
    sizes = numpy.abs(grads[grads != 0])
    assert sizes.max() / sizes.min() > 1e6
    assert 0.05 < (grads == 0).mean() < 0.2
    assert (grads[100] == 0).all() and (grads[1:, 0, 0] == 0).all()
    assert (trajectory.params["matrix"] == 0).any()
    again = record(seed=0)
    assert all(
        (a[path] == b[path]).all()
        for a, b in zip(trajectory.grads, again.grads, strict=True)
        for path in a
    )


@pytest.mark.parametrize("dtype", NARROW)
@given(value=FINITE)
def test_rounding_is_to_nearest_even(dtype, value):
    narrow = numpy.float64(numpy.asarray(numpy.float64(value)).astype(NARROW[dtype]))
    if dtype == "bfloat16":  # ml_dtypes goes by way of float32, which rounds twice
        value = float(numpy.float32(value))
    assert rounded(numpy.asarray(value), dtype) == narrow


@given(value=FINITE)
def test_spacing_is_numpy_s(value):
    for dtype in (numpy.float32, numpy.float64):
        exact = dtype(value)
        assert spacing(numpy.float64(exact), dtype.__name__) == abs(numpy.spacing(abs(exact)))


def test_ulps_count_steps_of_the_format_and_know_nan_and_infinity():
    one = numpy.float64(1)
    assert ulps(one + 3 * 2.0**-23, one, one, "float32") == 3
    assert ulps(one + 2.0**-7, one, one, "bfloat16") == 1
    values = numpy.array([numpy.nan, numpy.inf, numpy.nan, 1.0])
    others = numpy.array([numpy.nan, numpy.inf, 1.0, numpy.inf])
    assert [*ulps(values, others, numpy.ones(4), "float32")] == [0, 0, numpy.inf, numpy.inf]


def test_the_first_difference_is_found_with_its_step_and_slot():
    rule, trajectory = samestep.AdamW(), record(seed=1, steps=20)
    one, two = oracle(rule, trajectory), oracle(rule, trajectory)
    assert compare(one, two, "float64").first is None
    two[7]["v", "matrix"][3, 2] *= 1 + 2.0**-50
    found = compare(two, one, "float64")
    assert (found.first.step, found.first.slot, found.first.path) == (7, "v", "matrix")
    assert str(found.first).startswith("step 7: v of matrix differs by ")
    assert found.growth[:7] == [0] * 7 and found.growth[7] == found.ulp > 0


def test_a_run_in_float32_differs_from_the_oracle_by_rounding_alone():
    rule, trajectory = samestep.AdamW(), record(seed=1, steps=20).rounded("float32")
    run = follow(NumPy().start(rule, trajectory.params, "float32"), NumPy(), trajectory)
    assert 0.3 < compare(run, oracle(rule, trajectory), "float32").ulp < 40
    faulty = oracle(rule.replace(betas=(0.9, 0.99)), trajectory)
    assert compare(run, faulty, "float32").ulp > 1e4


def test_differences_count_at_the_largest_size_so_far():
    start, far, back = ({("param", "w"): numpy.array([value])} for value in (0.5, 4.0, 1e-6))
    off = {("param", "w"): back["param", "w"] + numpy.spacing(numpy.float32(4.0))}
    found = compare([start, far, off], [start, far, back], "float32")
    assert found.growth == [0, 0, 1]
