"""What every rule promises on every backend, whatever it computes."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import samestep
from samestep import proof
from samestep.conformance.harness.reference import sensitivity
from samestep.conformance.harness.settings import all_rules, is_own, settings, typical
from samestep.conformance.references import follow_reference, reference_for
from samestep.declaration import Hyper
from samestep.kept import Keeping
from samestep.parity import Trajectory, compare, follow, oracle, record
from samestep.parity.backend import NumPy, NumPyReadOnly
from samestep.parity.trajectory import suited
from samestep.precisions import PRECISION_KINDS

SHORT = record(seed=3, steps=8)

LIGHT = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],
}
"""Every example is a few milliseconds; the same ones in every run, and none made smaller."""

OTHER_UNITS = {
    "AdaDelta": "eps is added to the squared step as well",
    "AdamP": "eps is the least norm of a parameter as well",
    "TAdam": "eps is added to v itself, in the weight of a gradient",
}
"""Rules that use a number in units of the gradient in another sense too, and where."""


def run(rule, backend, trajectory, dtype="float32"):
    trajectory = suited(rule, trajectory).rounded(dtype)
    return follow(backend.start(rule, trajectory.params, dtype), backend, trajectory)


def test_a_rule_is_what_it_declares(rule_class):
    """As somebody's own rule is tried at its first use."""
    for rule in [typical(rule_class)] if is_own(rule_class) else settings(rule_class).values():
        proof.tried(rule)


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
    wide = ("compute", "range") if dtype == "float16" else ("compute",)
    stored = [name for name, slot in rule.slots().items() if slot.init.dtype not in wide]
    for key, kinds in first.items():
        assert key.partition("/")[0] not in stored or all(dtype in kind[1] for kind in kinds), key
    for grads in trajectory.grads[:3]:
        started.step(grads)
        assert described(started) == first


def is_plain(rule):
    """Whether a rule has a learning rate, decay and a dtype of the state of its own."""
    return not isinstance(rule, samestep.Wrapper)


@pytest.mark.only(where=lambda rule, backend: is_plain(rule) and "bfloat16" in backend.dtypes)
def test_state_dtype_is_what_was_asked_for(rule_class, backend):
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
            *(a for by_path in state.slots.values() for v in by_path.values() for a in _parts(v)),
        ]
        copies = [array.copy() for array in held]
        given = [*params.values(), *grads.values()]
        params, state = rule.update(grads, params, state)
        for array, copy in zip(held, copies, strict=True):
            numpy.testing.assert_array_equal(array, copy)
        slots = [value for by_path in state.slots.values() for value in by_path.values()]
        for array in [*params.values(), *(a for v in slots for a in _parts(v))]:
            assert not any(numpy.shares_memory(array, other) for other in given)


@pytest.mark.only(where=lambda rule: "skipped" not in rule.shared())
def test_bad_gradient_elements_reach_the_parameter_and_no_other(rule_class, backend):
    rule = typical(rule_class)
    whole = suited(rule, SHORT).taken({"matrix", "kernel"}, steps=3)
    good = run(rule, backend, whole)[2]
    for bad in (numpy.nan, numpy.inf, -numpy.inf):
        spoilt = [{path: grad.copy() for path, grad in step.items()} for step in whole.grads]
        spoilt[1]["matrix"][2, 4] = bad
        with numpy.errstate(all="ignore"):
            found = run(rule, backend, Trajectory(whole.params, spoilt))[2]
        touched = found["param", "matrix"] != good["param", "matrix"]
        if numpy.isnan(bad):
            assert numpy.isnan(found["param", "matrix"][2, 4])
        if rule.needs == "element":
            touched[2, 4] = False
            assert not touched.any(), bad
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


@given(data=st.data())
@examples(max_examples=6, **LIGHT)
def test_maximize_is_the_negated_gradient(rule_class, data):
    rule = _drawn(rule_class, data).replace(maximize=False)
    trajectory = _trajectory(rule, data)
    with numpy.errstate(all="ignore"):
        found = run(rule.replace(maximize=True), NumPy(), trajectory)
        expected = run(rule, NumPy(), _times(-1, trajectory))
    for key in [key for key in expected[0] if key[0] == "accumulated"]:
        for snapshot in (*found, *expected):  # gradients as they are given
            snapshot.pop(key)
    assert compare(found, expected, "float32").first is None


@pytest.mark.only(where=lambda rule: is_plain(rule) and not rule.has_point)
@given(data=st.data())
@examples(max_examples=6, **LIGHT)
def test_weight_decay_enters_as_its_family_says(rule_class, data):
    """Every step with decay is the step without it, moved as the table of families says."""
    rule = _drawn(rule_class, data)
    family, lr, strength = rule.decay, rule.lr, data.draw(st.floats(1e-3, 0.5))
    if "no decay without momentum" in rule.quirks and not rule.hypers["momentum"]:
        rule, family = rule.replace(weight_decay=strength), "none"
    elif rule.needs != "element":  # the norm is one of the decayed parameter
        assume(family == "l2")
    rule, plain = rule.replace(weight_decay=strength), rule.replace(weight_decay=0)
    sign = -1 if rule.maximize else 1
    trajectory = _trajectory(rule, data)
    params, state = trajectory.params, rule.init(trajectory.params)
    for step, grads in enumerate(trajectory.grads):
        coupled = family == "l2" or "decays twice" in rule.quirks
        seen = {p: sign * g + coupled * strength * params[p] for p, g in grads.items()}
        with numpy.errstate(all="ignore"):
            expected, _ = plain.replace(maximize=False).update(seen, params, state)
            new, state = rule.update(grads, params, state)
        for path, param in params.items():
            moved, entering = expected[path], family if step >= rule.waits else "none"
            if entering in ("decoupled", "in_update"):
                moved = moved - lr * strength * param
            if entering == "absolute":
                moved = moved - strength * param
            if entering == "proximal":
                moved = moved / (1 + lr * strength)
            if entering == "post":
                moved = moved * (1 - lr * strength)
            if entering == "cautious":
                toward = (param - expected[path]) * param >= 0
                moved = moved - lr * strength * numpy.where(toward, param, 0.0)
            if entering in ("corrected", "relative"):
                share = lr / rule.peak_lr * (lr if entering == "corrected" else 1.0)
                moved = moved - share * strength * param
            numpy.testing.assert_allclose(new[path], moved, rtol=1e-9, atol=1e-12, err_msg=rule)
        params = new


def test_every_number_may_be_a_schedule_of_the_step(rule_class):
    rule = typical(rule_class)
    trajectory = suited(rule, SHORT)
    for name, field in type(rule).fields().items():
        if not isinstance(field, Hyper) or rule.hypers[name] is None or name == "d0":
            continue

        value = rule.hypers[name]
        scheduled = tuple(map(_falling, value)) if isinstance(value, tuple) else _falling(value)
        parts = scheduled if isinstance(scheduled, tuple) else (scheduled,)
        pairs = [*zip(field.each, parts, strict=True)]
        if not all(
            one.contains(part(s)) for one, part in pairs for s in range(len(trajectory.grads))
        ):
            continue
        try:
            falling = rule.replace(**{name: scheduled})
        except ValueError:  # it is no number to change, beside the other values
            continue
        found = oracle(falling, trajectory)
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
    if rule.reduces and "sync_rate" in rule.fields():
        rule = rule.replace(sync_rate=0.0)  # at its default Scout's sum decides nothing here
    if "layout" in rule.fields():
        rule = rule.replace(layout="io")  # what is joined here are inputs then
    shapes = {"a": (4, 6), "b": (4, 6)}
    both = record(seed=5, steps=12, shapes=shapes, decades=(-2, 2))
    if "skipped" in rule.shared():
        both.grads[3]["a"][0, 0] = numpy.inf
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
    if not any(slot.init.dtype == "compute" for slot in rule.slots().values()):
        assert (concatenated[-1]["param", "ab"] == pieces).all() == (rule.needs == "element")


def test_rules_that_do_not_look_at_axes_take_any_shape_alike(rule_class):
    rule = typical(rule_class)
    tall = record(seed=5, steps=12, shapes={"a": (4, 6)})
    flat = Trajectory(
        {"a": tall.params["a"].reshape(3, 8)}, [{"a": g["a"].reshape(3, 8)} for g in tall.grads]
    )
    one, two = run(rule, NumPy(), tall), run(rule, NumPy(), flat)
    same = numpy.array_equal(one[-1]["param", "a"].ravel(), two[-1]["param", "a"].ravel())
    assert same == (not rule.sees_axes)


@pytest.mark.only(where=lambda rule_class: "layout" in rule_class.fields())
def test_layout_says_where_the_output_axis_is(rule_class):
    tall = record(seed=5, steps=12, shapes={"w": (6, 5, 3, 3)})
    last = Trajectory(
        {"w": numpy.moveaxis(tall.params["w"], 0, -1)},
        [{"w": numpy.moveaxis(g["w"], 0, -1)} for g in tall.grads],
    )
    first = run(typical(rule_class, layout="oi"), NumPy(), tall, "float64")
    moved = run(typical(rule_class, layout="ixxo"), NumPy(), last, "float64")
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
@examples(max_examples=20, **LIGHT)
def test_any_hyperparameters_in_range_give_finite_numbers(rule_class, data):
    """From gradients of any size whose squares are finite, zeros among them; nothing is written."""
    rule = _drawn(rule_class, data)
    sizes = [0.0, 1e-30, 1e-12, 1e-3, 1.0, 1e3, 1e15]
    trajectory = _trajectory(rule, data, scales=sizes)
    with numpy.errstate(all="ignore"):  # what overflows on the way may vanish in a quotient
        last = run(rule, NumPyReadOnly(), trajectory)[-1]
    for (slot, path), value in last.items():
        assert numpy.isfinite(value).all(), f"{rule}: {slot} of {path}"


@pytest.mark.only(where=lambda rule: _has_units(rule.replace(**_without_size(rule))))
@given(data=st.data())
@examples(max_examples=15, **LIGHT)
def test_gradients_in_other_units_move_the_parameters_alike(rule_class, data):
    """To the last bit, if every number whose unit has the gradient in it changes with them.

    With eps = 0 no number of the Adam family or of the signs has it: their steps do not depend on
    the size of the gradients at all. The lr of SGD has it.
    """
    rule = _drawn(rule_class, data)
    inner = rule.rule if isinstance(rule, samestep.Wrapper) else rule
    fields = rule.all_fields()
    # Beside the number that a matrix rule adds to a norm, decay alone is no large gradient.
    small = rule.decay == "l2" and inner.needs == "matrix"
    if small or rule.decay == "in_update" or "decays twice" in rule.quirks:
        rule = rule.replace(weight_decay=0)
    if "below" in fields:  # until it divides, RAdam's step is as long as the gradient
        rule = rule.replace(below="adam")
    if "ns_guard" in fields:  # what it adds to a norm is seen where a momentum nearly cancels
        rule = rule.replace(ns_guard=("max", rule.hypers["ns_guard"][1]))
    if "scale_clip" in fields:  # one that makes a norm 0 makes the ratio 1
        rule = rule.replace(scale_clip=(0.0, math.inf))
    clamped = rule.hypers.get("eps_at") == "clamped"  # bounds a root here and a square there
    if data.draw(st.booleans()) or inner.name in OTHER_UNITS or clamped:
        rule = rule.replace(**_without_size(rule))
    assume(_has_units(rule))  # another rule may be drawn into a wrapper
    powers = _all_powers(rule)
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    # Large gradients: a matrix rule's iteration adds a small number of its own to a norm.
    large = 2.0**24 if dtype == "float32" else 2.0**48
    trajectory = _times(large, _trajectory(rule, data, decades=(-2, 1)).rounded("float32"))
    if "tensor" in (rule.needs, inner.needs):  # a ratio with a norm of zero counts as 1, always
        trajectory = _without_zeros(trajectory)
    limited = {rule_class, *([type(inner)] if inner.needs == "matrix" else [])}
    if isinstance(rule, samestep.Wrapper) or inner.needs == "matrix":  # its limits are as large
        rule = rule.replace(
            **{n: large * rule.hypers[n] for kind in limited for n in _limits(kind)}
        )
    factor = 2.0 ** data.draw(st.integers(1, 12))
    changed = {
        name: _scaled(rule.hypers[name], [factor**power for power in power_of])
        for name, power_of in powers.items()
        if any(power_of) and rule.hypers[name] is not None
    }
    with numpy.errstate(all="ignore"):
        found = run(rule.replace(**changed), NumPy(), _times(factor, trajectory), dtype)
        expected = run(rule, NumPy(), trajectory, dtype)
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for path in trajectory.params:
            key = "param", path
            numpy.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{rule}, step {step}")


@pytest.mark.only(where=lambda rule: rule.needs == "element")
@given(data=st.data())
@examples(max_examples=6, **LIGHT)
def test_element_rules_see_no_order_and_no_boundaries(rule_class, data):
    """Elements in another order and in other pieces: the same numbers, to the last bit."""
    rule = _drawn(rule_class, data)
    assume(rule.needs == "element")  # with the options and the rule inside that were drawn
    size = data.draw(st.integers(1, 40))
    whole = _trajectory(rule, data, shapes={"a": (size,)}).rounded("float32")
    order = numpy.array(data.draw(st.permutations(range(size))))
    ends = sorted({0, *data.draw(st.lists(st.integers(0, size), max_size=3)), size})
    cuts = [order[start:end] for start, end in itertools.pairwise(ends)]

    def apart(arrays):
        return {str(i): arrays["a"][cut] for i, cut in enumerate(cuts)}

    pieces = Trajectory(apart(whole.params), [apart(step) for step in whole.grads])
    with numpy.errstate(all="ignore"):
        together, alone = run(rule, NumPy(), whole), run(rule, NumPy(), pieces)
    for ours, theirs in zip(alone, together, strict=True):
        for slot in {slot for slot, _ in theirs}:
            for i, cut in enumerate(cuts):
                numpy.testing.assert_array_equal(ours[slot, str(i)], theirs[slot, "a"][cut])


@pytest.mark.only(where=lambda rule: is_own(rule) and not rule.reduces)
@given(data=st.data())
@examples(max_examples=15, **LIGHT)
def test_any_hyperparameters_in_range_agree_with_the_reference(rule_class, data):
    """But of rules that sum grad (p0 - param): it cancels, and drawn numbers leave few digits."""
    rule = _drawn(rule_class, data, options=False)
    assume(not rule.reduces)
    assume(rule.hypers.get("scale_clip", (0, 1))[1] > 0)  # a norm of zero has no ratio
    assume("AdaBelief" not in str(rule) or rule.betas[0] > 0.01)  # grad - m would be rounding alone
    factored = isinstance(rule, samestep.Wrapper) and rule.rule.needs == "factored"
    assume(rule.hypers.get("layout") != "io" or not factored)  # slots in the order of axes as seen
    trajectory = suited(rule, record(seed=7, steps=12)).taken({"matrix", "kernel"})
    with numpy.errstate(all="ignore"):
        expected, ours = follow_reference(rule, trajectory), oracle(rule, trajectory)
        assume(all(numpy.isfinite(value).all() for value in expected[-1].values()))
        found = compare(ours, expected, "float64", whole=rule.needs == "matrix")
    worst = found.worst
    if all(difference.ulp < 1e5 for difference in worst.values()):
        return
    with numpy.errstate(all="ignore"):  # a large lr and no memory make a chaotic map of some rules
        computed = (oracle, follow_reference)
        allowed = 16 * max(sensitivity(rule, trajectory, follow) for follow in computed)
    assert all(difference.ulp < allowed for difference in worst.values()), (rule, worst)


def _falling(value):
    """A schedule that starts at a value; whole numbers rise."""
    return lambda step: value + step if isinstance(value, int) else value * 0.5**step


def _parts(value):
    return value if isinstance(value, (tuple, list)) else [value]


def _times(factor, trajectory):
    """The trajectory with every gradient multiplied."""
    grads = [{path: factor * g for path, g in step.items()} for step in trajectory.grads]
    return Trajectory(trajectory.params, grads)


def _without_zeros(trajectory):
    def filled(arrays):
        return {path: numpy.where(array == 0, 2.0**-6, array) for path, array in arrays.items()}

    return Trajectory(filled(trajectory.params), [filled(step) for step in trajectory.grads])


def _trajectory(rule, data, scales=(1.0,), shapes=None, decades=(-5, 1)):
    """A few steps for one to three parameters of any shapes, each step of some scale, rising.

    Falling, a mean of what was large over one of what is small would truly have no bound.
    """
    if shapes is None:
        sizes = st.lists(st.integers(1, 5), min_size=rule.min_ndim, max_size=3)
        drawn = data.draw(st.lists(sizes, min_size=1, max_size=3))
        shapes = {str(place): tuple(shape) for place, shape in enumerate(drawn)}
    steps = data.draw(st.integers(1, 8))
    found = record(data.draw(st.integers(0, 99)), steps, shapes, decades)
    factors = sorted(data.draw(st.lists(st.sampled_from(scales), min_size=steps, max_size=steps)))
    grads = zip(factors, found.grads, strict=True)
    return Trajectory(
        found.params, [{path: k * g for path, g in step.items()} for k, step in grads]
    )


def _drawn(rule_class, data, options=True):
    """A rule with hyperparameters drawn from their declared ranges, and options too."""
    values = {}
    for name, field in rule_class.fields().items():
        if isinstance(field, Hyper):
            values[name] = data.draw(_numbers(field), label=name)
            if field.ordered:
                values[name] = tuple(sorted(values[name]))
        elif isinstance(field, Keeping) or (options and not isinstance(field, PRECISION_KINDS)):
            values[name] = data.draw(_choices(field), label=name)
        if name in values:
            field.validated(rule_class.__name__, values[name])
    if "heads" in values:  # parameters of any shape are drawn, too
        values["heads"] = 1
    inner = []
    if issubclass(rule_class, samestep.Wrapper):
        plain = [
            rule
            for rule in all_rules()
            if reference_for(rule.__name__) and rule.continuous
            if not issubclass(rule, samestep.Wrapper)
        ]
        inner = [typical(data.draw(st.sampled_from(plain)))]
    try:
        return rule_class(*inner, **values)
    except ValueError:  # each is in its range: a combination that means nothing
        assume(False)


def _choices(option):
    """What an option may be: for a whole number the three least values."""
    if isinstance(option, Keeping):  # recorded parameters are no stacks; a factored rule is asked
        usual = "io" if option.name == "layout" else ()
        return st.sampled_from([c for c in option.choices or () if c] or [usual])
    if option.choices is not None:
        return st.sampled_from(option.choices)
    if isinstance(option.default, bool):
        return st.booleans()
    if isinstance(option.default, tuple):
        return st.just(option.default)
    return st.integers(option.ge, option.ge + 2)


def _numbers(field):
    """Numbers within a declared range: its ends, or from a hundredth of the usual up to 2."""
    if isinstance(field.default, tuple):
        return st.tuples(*map(_numbers, field.each))
    default = 0.99 if field.default is None else min(field.typical or field.default, 2.0)
    low = max(field.ge or field.gt or 0.0, default / 100)
    high = min(end for end in (field.le, field.lt, max(2.0, 2 * low)) if end is not None)
    if default < 2e-3:
        high = min(high, 1e-2)  # a step size or an eps: small numbers, since large ones overflow
    if isinstance(field.default, int):
        return st.integers(field.ge or 0, field.le or 10)
    ends = [float(end) for end in (field.ge, field.le) if end is not None]
    inside = st.floats(
        low, high, exclude_min=field.gt is not None, exclude_max=field.lt is not None
    )
    return st.one_of(inside, st.sampled_from(ends)) if ends else inside


def _powers(rule, name):
    """The powers of the gradient in a number's unit, element by element; None where unclear."""
    field, value = rule.all_fields()[name], rule.hypers[name]
    count = len(value) if isinstance(value, tuple) else 1
    if name == "weight_decay":
        of_lr = _powers(rule, "lr")[0] or 0
        apart = {"l2": 1, "absolute": 0, "in_update": 0, "relative": 0}
        return [apart.get(rule.decay, -of_lr)]
    if name == "peak_lr":
        return _powers(rule, "lr")
    units = field.unit.split(", ")
    known = {"gradient": 1, "gradient^2": 2, "parameter/gradient": -1, "gradient/parameter": 1}
    if "parameter/lr" in units:  # of a direction
        known["parameter/lr"] = -(_powers(rule, "lr")[0] or 0)
    powers = [known.get(unit, None if "^(" in unit else 0) for unit in (units * count)[:count]]
    if name == "eps" and rule.hypers.get("eps_at") == "inside" and "eps_root" in rule.hypers:
        powers = [2]  # under a root
    zero = [v == 0 for v in (value if isinstance(value, tuple) else (value,))]
    lost = (rule.rule if isinstance(rule, samestep.Wrapper) else rule).name in OTHER_UNITS
    return [
        0 if nothing else None if lost and power else power
        for power, nothing in zip(powers, zero, strict=True)
    ]


def _all_powers(rule):
    fields = rule.all_fields().items()
    return {name: _powers(rule, name) for name, field in fields if isinstance(field, Hyper)}


def _has_units(rule):
    """Whether every number has one unit; see OTHER_UNITS."""
    return not any(None in power for power in _all_powers(rule).values())


def _limits(rule_class):
    """The numbers of a rule that are in units of the gradient."""
    fields = rule_class.fields().items()
    return [n for n, f in fields if isinstance(f, Hyper) and f.unit.startswith("gradient")]


def _without_size(rule):
    """Every number in units of the gradient that may be 0, as 0: eps, above all."""
    return {
        name: _scaled(rule.hypers[name], [0.0 if "gradient" in u else 1.0 for u in _units(field)])
        for name, field in rule.all_fields().items()
        if isinstance(field, Hyper) and field.ge is not None and name not in ("lr", "weight_decay")
        if any(unit.startswith("gradient") for unit in _units(field))
    }


def _units(field):
    return field.unit.split(", ")


def _scaled(value, factors):
    if isinstance(value, tuple):
        return tuple(v * factor for v, factor in zip(value, factors, strict=True))
    return value * factors[0]
