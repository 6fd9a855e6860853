"""What every rule promises on every backend, whatever it computes."""

from __future__ import annotations

import dataclasses

import numpy
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import samestep
from samestep.backend import NumPy
from samestep.conformance.references import follow_reference
from samestep.conformance.settings import suited, typical
from samestep.declaration import Hyper
from samestep.parity import Trajectory, compare, follow, oracle, record
from samestep.step import SHAPED

SHORT = record(seed=3, steps=8)


def run(rule, backend, trajectory, dtype="float32"):
    trajectory = suited(rule, trajectory).rounded(dtype)
    return follow(backend.start(rule, trajectory.params, dtype), backend, trajectory)


def test_shapes_dtypes_and_devices_are_kept(rule_class, backend, dtype):
    rule, trajectory = typical(rule_class), suited(typical(rule_class), SHORT)
    started = backend.start(rule, trajectory.params, dtype)

    def described(running):
        slots = {
            f"{name}/{path}": value
            for name, by_path in running.slots().items()
            for path, value in by_path.items()
        }
        parts = {**running.params(), **slots, **running.shared()}
        return {
            key: [
                (tuple(a.shape), str(a.dtype), str(getattr(a, "device", "")))
                for a in (value if isinstance(value, (tuple, list)) else [value])
            ]
            for key, value in parts.items()
        }

    first = described(started)
    assert all(dtype in kind[1] for path in trajectory.params for kind in first[path])
    for grads in trajectory.grads[:3]:
        started.step(grads)
        assert described(started) == first


def test_state_dtype_is_what_was_asked_for(rule_class, backend):
    if "bfloat16" not in backend.dtypes or issubclass(rule_class, samestep.Wrapper):
        pytest.skip("needs a narrow dtype; a wrapper has the wrapped rule's")
    rule = typical(rule_class, state_dtype="float32")
    trajectory = suited(rule, SHORT).rounded("bfloat16")
    started = backend.start(rule, trajectory.params, "bfloat16")
    for grads in trajectory.grads:
        started.step(grads)
    assert all("bfloat16" in str(p.dtype) for p in started.params().values())
    for by_path in started.slots().values():
        for value in by_path.values():
            assert all(
                "float32" in str(a.dtype)
                for a in (value if isinstance(value, (tuple, list)) else [value])
            )


def test_inputs_are_untouched(setting):
    rule, trajectory = setting, suited(setting, SHORT)
    params, state = trajectory.params, None
    for grads in trajectory.grads:
        state = state or rule.init(params)
        held = [
            *params.values(),
            *grads.values(),
            *state.shared.values(),
            *(
                a
                for by_path in state.slots.values()
                for v in by_path.values()
                for a in (v if isinstance(v, tuple) else [v])
            ),
        ]
        copies = [array.copy() for array in held]
        params, state = rule.update(grads, params, state)
        for array, copy in zip(held, copies, strict=True):
            numpy.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf])
def test_bad_gradient_elements_reach_the_parameter_and_no_other(rule_class, backend, bad):
    rule = typical(rule_class)
    whole = suited(rule, SHORT).taken({"matrix", "kernel"}, steps=3)
    spoilt = [{path: grad.copy() for path, grad in step.items()} for step in whole.grads]
    spoilt[1]["matrix"][2, 4] = bad
    good = run(rule, backend, whole)[2]
    with numpy.errstate(all="ignore"):
        found = run(rule, backend, Trajectory(whole.params, spoilt))[2]
    touched = found["param", "matrix"] != good["param", "matrix"]
    if numpy.isnan(bad):
        assert numpy.isnan(found["param", "matrix"][2, 4])
    if rule.needs == "element":
        touched[2, 4] = False
        assert not touched.any()
    if rule.needs != "tree":
        numpy.testing.assert_array_equal(found["param", "kernel"], good["param", "kernel"])


def test_parameters_without_a_gradient_stay(rule_class, backend):
    rule = typical(rule_class)
    trajectory = suited(rule, SHORT).taken({"matrix", "kernel"})
    started = backend.start(rule, trajectory.params, "float32")
    started.step(trajectory.grads[0])
    before = backend.snapshot(started)
    started.step({"kernel": trajectory.grads[1]["kernel"]})
    after = backend.snapshot(started)
    for (slot, path), value in before.items():
        if path == "matrix":
            numpy.testing.assert_array_equal(after[slot, path], value)
    assert (after["param", "kernel"] != before["param", "kernel"]).any()


def test_maximize_is_the_negated_gradient(rule_class):
    rule = typical(rule_class)
    negated = Trajectory(SHORT.params, [{p: -g for p, g in step.items()} for step in SHORT.grads])
    inner = rule.replace(maximize=True)
    assert compare(run(inner, NumPy(), SHORT), run(rule, NumPy(), negated), "float32").first is None


def test_every_number_may_be_a_schedule_of_the_step(rule_class):
    rule = typical(rule_class)
    trajectory = suited(rule, SHORT)
    for name, field in type(rule).fields().items():
        if not isinstance(field, Hyper) or rule.hypers[name] is None or name == "d0":
            continue

        value = rule.hypers[name]
        scheduled = tuple(map(_falling, value)) if isinstance(value, tuple) else _falling(value)
        found = oracle(rule.replace(**{name: scheduled}), trajectory)
        params, state = trajectory.params, rule.init(trajectory.params)
        for step, grads in enumerate(trajectory.grads):
            now = scheduled if callable(scheduled) else None
            number = now(step) if now else tuple(part(step) for part in scheduled)
            params, state = rule.replace(**{name: number}).update(grads, params, state)
        for path, param in params.items():
            numpy.testing.assert_array_equal(found[-1]["param", path], param, err_msg=name)


def test_needs_are_declared_truly(rule_class):
    """Element rules see elements, tensor and factored rules tensors; none claims more than that."""
    rule = typical(rule_class)
    shapes = {"a": (4, 6), "b": (4, 6)}
    both = record(seed=5, steps=12, shapes=shapes, decades=(-2, 2))
    joined = Trajectory(
        {"ab": numpy.concatenate([both.params["a"], both.params["b"]])},
        [{"ab": numpy.concatenate([g["a"], g["b"]])} for g in both.grads],
    )
    alone = {path: run(rule, NumPy(), both.taken({path})) for path in shapes}
    together, concatenated = run(rule, NumPy(), both), run(rule, NumPy(), joined)
    pieces = numpy.concatenate([alone[path][-1]["param", path] for path in shapes])
    independent = all(
        (together[-1]["param", path] == alone[path][-1]["param", path]).all() for path in shapes
    )
    assert independent == (rule.needs != "tree")
    assert (concatenated[-1]["param", "ab"] == pieces).all() == (rule.needs == "element")


def test_rules_that_do_not_look_at_axes_take_any_shape_alike(rule_class):
    rule = typical(rule_class)
    tall = record(seed=5, steps=12, shapes={"a": (4, 6)})
    flat = Trajectory(
        {"a": tall.params["a"].reshape(3, 8)}, [{"a": g["a"].reshape(3, 8)} for g in tall.grads]
    )
    one, two = run(rule, NumPy(), tall), run(rule, NumPy(), flat)
    same = numpy.array_equal(one[-1]["param", "a"].ravel(), two[-1]["param", "a"].ravel())
    assert same == (rule.needs not in SHAPED)


def test_layout_says_where_the_output_axis_is(rule_class):
    if "layout" not in rule_class.fields():
        pytest.skip("looks at no axis by name")
    tall = record(seed=5, steps=12, shapes={"w": (6, 5, 3, 3)})
    last = Trajectory(
        {"w": numpy.moveaxis(tall.params["w"], 0, -1)},
        [{"w": numpy.moveaxis(g["w"], 0, -1)} for g in tall.grads],
    )
    first = run(typical(rule_class, layout="oi"), NumPy(), tall, "float64")
    moved = run(typical(rule_class, layout="io"), NumPy(), last, "float64")
    back = numpy.moveaxis(moved[-1]["param", "w"], -1, 0)
    numpy.testing.assert_allclose(back, first[-1]["param", "w"], rtol=0, atol=1e-11)


def test_non_contiguous_arrays_give_the_same(rule_class):
    rule = typical(rule_class)
    trajectory = record(seed=5, steps=6, shapes={"a": (7, 5)}).rounded("float32")

    def turned(array):
        return numpy.asarray(array.T, dtype=numpy.float32, order="C").T

    plain = run(rule, NumPy(), trajectory)[-1]["param", "a"]
    params = {"a": turned(trajectory.params["a"])}
    state = rule.init(params)
    for grads in trajectory.grads:
        params, state = rule.update({"a": turned(grads["a"])}, params, state)
    if rule.needs in ("element", "factored"):
        numpy.testing.assert_array_equal(params["a"], plain)
    else:  # sums run in another order
        numpy.testing.assert_allclose(params["a"], plain, rtol=1e-4, atol=1e-6)


def test_state_is_all_there_is_to_resume_from(rule_class):
    rule = typical(rule_class)
    trajectory = suited(rule, SHORT)
    through = run(rule, NumPy(), trajectory)
    params, state = trajectory.rounded("float32").params, None
    params = {path: numpy.float32(p) for path, p in params.items()}
    state = rule.init(params)
    for grads in trajectory.rounded("float32").grads:
        narrow = {path: numpy.float32(g) for path, g in grads.items()}
        params, state = rule.replace().update(narrow, dict(params), samestep.State(*state))
    for path, param in params.items():
        numpy.testing.assert_array_equal(param, through[-1]["param", path])


@given(data=st.data())
@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_hyperparameters_in_range_give_finite_numbers(rule_class, data):
    rule = _drawn(rule_class, data)
    steps = data.draw(st.integers(1, 6))
    scale = data.draw(st.sampled_from([1e-12, 1e-3, 1.0, 1e3]))
    trajectory = suited(rule, record(seed=data.draw(st.integers(0, 9)), steps=steps))
    trajectory = Trajectory(
        trajectory.params, [{p: scale * g for p, g in step.items()} for step in trajectory.grads]
    )
    for (slot, path), value in run(rule, NumPy(), trajectory)[-1].items():
        assert numpy.isfinite(value).all(), f"{rule}: {slot} of {path}"


@given(data=st.data())
@examples(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_hyperparameters_in_range_agree_with_the_reference(rule_class, data):
    if not rule_class.__module__.startswith("samestep."):
        pytest.skip("a rule from outside the package brings no reference")
    rule = _drawn(rule_class, data)
    trajectory = suited(rule, record(seed=7, steps=12)).taken({"matrix", "kernel"})
    found = compare(
        oracle(rule, trajectory),
        follow_reference(rule, trajectory),
        "float64",
        whole=rule.needs == "matrix",
    )
    worst = found.worst
    if rule.reduces:  # sums of grad (p0 - param) cancel: a small d0 leaves them few digits
        worst = {"param": worst["param"]} if "param" in worst else {}
    assert all(difference.ulp < 1e5 for difference in worst.values()), (rule, worst)


def _falling(value):
    """A schedule that starts at a value; whole numbers rise."""
    return lambda step: value + step if isinstance(value, int) else value * 0.5**step


def _drawn(rule_class, data):
    """A rule with hyperparameters drawn from their declared ranges."""
    if issubclass(rule_class, samestep.Wrapper):
        return typical(rule_class)
    return rule_class(
        **{
            name: data.draw(_numbers(field))
            for name, field in rule_class.fields().items()
            if isinstance(field, Hyper)
        }
    )


def _numbers(field):
    """Numbers within a declared range: from a hundredth of the usual to its end, or to 2."""
    if isinstance(field.default, tuple):
        return st.tuples(*[_numbers(dataclasses.replace(field, default=d)) for d in field.default])
    default = 0.99 if field.default is None else min(field.typical or field.default, 2.0)
    high = min(end for end in (field.le, field.lt, max(2.0, default)) if end is not None)
    if default < 2e-3:
        high = min(high, 1e-2)  # a step size or an eps: small numbers, since large ones overflow
    low = max(field.ge or field.gt or 0.0, default / 100)
    if isinstance(field.default, int):
        return st.integers(field.ge or 0, field.le or 10)
    return st.floats(low, high, exclude_max=field.lt is not None)
