"""A parameter's own count of updates, and the calls that schedules count, in every framework.

Gradients are missing and calls are skipped in any pattern. Each parameter must move as it does by
itself, in a run in which it is never without a gradient: that run is the reference, since nothing
is counted there but calls.
"""

from __future__ import annotations

import contextlib
from typing import Any
from zlib import crc32

import numpy
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import samestep
from samestep import (
    SGD,
    Accumulate,
    Adam,
    Adan,
    ClipGlobalNorm,
    Lookahead,
    NAdam,
    Prodigy,
    RAdam,
    SkipNonFinite,
    schedules,
)
from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.parity import Trajectory, follow, record
from samestep.parity.backend import NUMPY, Backend, backends

CALLS, PATHS = 9, ("a", "b", "c.d")
SHAPES = {"a": (3,), "b": (3,), "c.d": (2, 2)}
TRAJECTORY = record(seed=7, steps=CALLS, shapes=SHAPES, decades=(-2, 1)).rounded("float32")
FALLING = schedules.Linear(0.1, 0.01, CALLS)
RULES = {
    "Adam": Adam(lr=0.1),
    "NAdam": NAdam(lr=0.1, weight_decay=0.1),
    "RAdam": RAdam(lr=0.1),
    "Adan": Adan(lr=0.1, weight_decay=0.1),
    "schedule": Adam(lr=FALLING),
    "Lookahead": Lookahead(NAdam(lr=0.1), sync_period=3),
    "Accumulate": Accumulate(NAdam(lr=0.1), every=2),
    "SkipNonFinite": SkipNonFinite(NAdam(lr=FALLING)),
    "SkipNonFinite-Accumulate": SkipNonFinite(Accumulate(NAdam(lr=0.1), every=2)),
}
BACKENDS = [backend for backend in backends().values() if isinstance(backend, Backend)]

patterns = st.lists(st.sets(st.sampled_from(PATHS)), min_size=CALLS, max_size=CALLS)
"""Which parameters have a gradient in each call."""


def spoilt(pattern: list[set[str]], bad: set[int]) -> Trajectory:
    """The trajectory with some gradients left out; one is NaN in the calls that are bad."""
    grads = []
    for call, present in enumerate(pattern):
        own = {path: numpy.array(TRAJECTORY.grads[call][path]) for path in sorted(present)}
        if call in bad and own:
            own[min(own)].flat[0] = numpy.nan
        grads.append(own)
    return Trajectory(TRAJECTORY.params, grads)


def alone(rule: Any, path: str, trajectory: Trajectory) -> Any:
    """The last snapshot of a parameter by itself, with only the calls in which it moves."""
    finite = [all(map(_finite, grads.values())) for grads in trajectory.grads]
    taken = [call for call in range(CALLS) if finite[call] or not rule.withholds]
    calls = [call for call in taken if path in trajectory.grads[call]]
    if calls and callable(rule.lr):  # a schedule counts the calls that are not skipped
        rule = rule.replace(lr=lambda step: FALLING(taken.index(calls[int(step)])))
    grads = [{path: trajectory.grads[call][path]} for call in calls]
    own = Trajectory({path: trajectory.params[path]}, grads)
    return follow(NUMPY.start(rule, own.params, "float64"), NUMPY, own)[-1]


def _finite(array: Any) -> bool:
    return bool(numpy.isfinite(array).all())


def assert_counted(rule: Any, on: Backend, pattern: list[set[str]], bad: set[int]) -> None:
    trajectory = spoilt(pattern, bad if rule.withholds else set())
    found = follow(on.start(rule, trajectory.params, "float32"), on, trajectory)[-1]
    for path in PATHS:
        for key, expected in alone(rule, path, trajectory).items():
            if key[1] == path:
                numpy.testing.assert_allclose(
                    found[key], expected, rtol=2e-5, atol=2e-6, err_msg=f"{on.name} {key}"
                )


def on(*names: str) -> Any:
    """Backends by name, or all."""
    found = [backend for backend in BACKENDS if backend.name in (names or [backend.name])]
    return pytest.mark.parametrize("on", found, ids=lambda backend: backend.name)


by_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
few, several = (
    settings(max_examples=n, deadline=None, suppress_health_check=[*HealthCheck]) for n in (2, 6)
)
calls = given(pattern=patterns, bad=st.sets(st.integers(0, CALLS - 1), max_size=3))
skipped_apart = example(
    pattern=[{"a"}, set(), set(), {"c.d"}, set(), set(), set(), set(), {"a", "b"}], bad={0, 3}
)
"""Each of two parameters misses the call that the other one skips."""


@on("numpy", "torch (packed)", "mlx")
@by_rule
@few
@skipped_apart
@calls
def test_a_parameter_moves_as_it_does_by_itself(rule, on, pattern, bad):
    assert_counted(rule, on, pattern, bad)


@pytest.mark.thorough
@on()
@by_rule
@several
@calls
def test_a_parameter_moves_as_it_does_by_itself_in_every_execution(rule, on, pattern, bad):
    assert_counted(rule, on, pattern, bad)


@on("numpy", "torch (packed)", "jax", "mlx")
def test_a_route_without_skips_misses_none_of_another_route_s(on):
    skipping = SkipNonFinite(Adam(lr=0.1))
    rule = samestep.route((samestep.Where(path="a"), skipping), samestep.SGD(lr=0.1, momentum=0.9))
    pattern = [{*PATHS}, {"a"}, {"b", "c.d"}] * 3
    trajectory = spoilt(pattern, set())
    found = follow(on.start(rule, trajectory.params, "float32"), on, trajectory)[-1]
    for path in PATHS:
        own = skipping if path == "a" else samestep.SGD(lr=0.1, momentum=0.9)
        expected = alone(own, path, trajectory)["param", path]
        numpy.testing.assert_allclose(found["param", path], expected, rtol=2e-5, atol=2e-6)


@on("jax.jit", "mx.compile (state)")
def test_counts_are_right_where_they_are_traced(on):
    """One parameter misses the first calls; one all but two, and the call that is skipped."""
    rule = SkipNonFinite(Adam(lr=FALLING))
    pattern = [{"a"}] * 3 + [{"a", "b"}] * 3 + [{*PATHS}] * 3
    assert_counted(rule, on, pattern, {1, 4})


@on("numpy", "torch (packed)", "optax", "mlx")
def test_after_a_skipped_first_step_schedules_are_at_their_first(on, tmp_path):
    """They are not asked about a step before it, where a warm-up or ``1 / t`` may have no value."""
    asked = []
    rule = Accumulate(SkipNonFinite(Adam(lr=lambda step: asked.append(step) or 0.1)), every=2)
    run = on.start(rule, {"a": numpy.ones(2)}, "float32")
    for _ in range(2):
        run.step({"a": numpy.full(2, numpy.nan)})
    saved = run.checkpoint()
    samestep.save(tmp_path / "saved", saved)
    on.start(rule, {"a": numpy.ones(2)}, "float32").restore(saved)
    assert min(step for step in asked if isinstance(step, int)) == 0


CLIPPED = Accumulate(ClipGlobalNorm(SGD(lr=0.1), max_norm=0.5), every=2)


def clipped(trajectory: Trajectory) -> dict[str, Any]:
    """The last parameters by the formula of ``CLIPPED``: the norm is that of what steps."""
    params, sums = dict(trajectory.params), dict.fromkeys(PATHS, 0.0)
    calls = dict.fromkeys(PATHS, 0)
    for grads in trajectory.grads:
        means = {}
        for path, grad in grads.items():
            calls[path], sums[path] = calls[path] + 1, sums[path] + grad
            if calls[path] % 2 == 0:
                means[path], sums[path] = sums[path] / 2, 0.0
        norm = numpy.sqrt(sum(numpy.sum(mean * mean) for mean in means.values()))
        for path, mean in means.items():
            params[path] = params[path] - 0.1 * mean / numpy.maximum(1, norm / 0.5)
    return params


def assert_clipped(on: Backend, pattern: list[set[str]], bad: set[int]) -> None:
    trajectory = spoilt(pattern, bad)
    found = follow(on.start(CLIPPED, trajectory.params, "float32"), on, trajectory)[-1]
    for path, expected in clipped(trajectory).items():
        numpy.testing.assert_allclose(found["param", path], expected, rtol=2e-5, atol=2e-6)


apart = example(pattern=[{"a"}, {*PATHS}] + [{"a", "b"}, {"b", "c.d"}] * 3 + [{"a"}], bad={2})
"""Three parameters step in different calls; an unfinished mean is NaN while others step."""


@on("numpy", "torch (packed)", "mlx")
@few
@apart
@calls
def test_sums_are_of_the_parameters_that_step(on, pattern, bad):
    assert_clipped(on, pattern, bad)


@on("jax.jit")
def test_sums_are_of_the_parameters_that_step_where_counts_are_traced(on):
    assert_clipped(on, [{"a"}] + [{*PATHS}] * 5, {2})


@pytest.mark.thorough
@on()
@several
@apart
@calls
def test_sums_are_of_the_parameters_that_step_in_every_execution(on, pattern, bad):
    assert_clipped(on, pattern, bad)


@on("numpy", "torch (packed)", "mlx")
def test_shared_state_moves_where_any_parameter_steps(on):
    """One parameter has zero gradients, which add nothing, and has missed no call."""
    rule = Accumulate(Prodigy(d0=1e-3), every=2)
    grads = [{"a": numpy.zeros(2)}] + [
        {"a": numpy.zeros(2), "b": numpy.full(2, 0.5 + place % 3)} for place in range(8)
    ]
    run = on.start(rule, {name: numpy.ones(2) for name in "ab"}, "float32")
    alone = NUMPY.start(rule, {"b": numpy.ones(2)}, "float64")
    for own in grads:
        run.step(own)
        if "b" in own:
            alone.step({"b": own["b"]})
    expected = NUMPY.snapshot(alone)
    found = on.snapshot(run)
    assert expected["d", ""] > 2e-3
    for key, value in expected.items():
        numpy.testing.assert_allclose(found[key], value, rtol=2e-5, err_msg=str(key))


KEY = "step missed by 1 of {:08x}".format(crc32("\n".join("ab").encode()))
"""Where the state counts the calls that the second of a and b has missed."""


def test_a_state_is_as_before_while_nothing_is_missing():
    jax, adapter = pytest.importorskip("jax"), pytest.importorskip("samestep.jax")
    params = {"a": jax.numpy.ones(2), "b": jax.numpy.ones(2)}
    optimizer = adapter.Adam(lr=0.1)
    state = optimizer.init(params)
    traces = []

    @jax.jit
    def update(grads, state, params):
        traces.append(0)
        return optimizer.update(grads, state, params)[1]

    for grads in [params] * 2 + [{"a": params["a"], "b": None}] * 3:
        state = update(grads, state, params)
        assert bool(state.shared) == (grads["b"] is None)
    assert {key: int(count) for key, count in state.shared.items()} == {KEY: 3}
    assert len(traces) == 3  # all, one missing for the first time, one missing


@on("numpy", "torch (packed)", "jax", "mlx")
def test_skips_inside_a_period_are_warned_of_where_parameters_step_apart(on):
    number = 0.1 + 0.01 * BACKENDS.index(on)  # a rule warns once
    rule = Accumulate(SkipNonFinite(Adam(lr=number)), every=2)
    said = (
        r"Accumulate\(SkipNonFinite\(\.\.\.\)\): .*; SkipNonFinite\(Accumulate\(\.\.\.\)\) counts"
    )
    for pattern in ([{*PATHS}] * 3, [{"a"}] * 3, [{"a"}, {*PATHS}, {*PATHS}]):
        trajectory = spoilt(pattern, set())
        apart = len(pattern[0]) < len(pattern[-1])
        with pytest.warns(UserWarning, match=said) if apart else contextlib.nullcontext():
            follow(on.start(rule, trajectory.params, "float32"), on, trajectory)


def test_no_rule_without_slots_depends_on_the_count():
    """MLX counts calls for these: it has no state by which it knows their parameters."""
    seen = set()
    for kind in all_rules():
        may_be_0 = getattr(kind.fields().get("momentum"), "ge", None) == 0
        rule = typical(kind).replace(**({"momentum": 0.0} if may_be_0 else {}))
        if rule.slots() or not is_own(kind):
            continue
        param, grad = numpy.ones((3, 2)), numpy.full((3, 2), 0.3)
        first = rule.init({"weight": param})
        moved = [
            rule.update({"weight": grad}, {"weight": param}, first._replace(step=step))[0]["weight"]
            for step in (0, 6)
        ]
        assert numpy.array_equal(*moved), rule
        seen.add(rule.name)
    assert {"SGD", "SignSGD"} <= seen


def test_a_loop_of_jax_needs_a_prepared_state():
    jax, adapter = pytest.importorskip("jax"), pytest.importorskip("samestep.jax")
    params = {"a": jax.numpy.ones(2), "b": jax.numpy.ones(2)}
    optimizer, grads = adapter.Adam(lr=0.1), {"a": params["a"], "b": None}

    def body(state, _):
        return optimizer.update(grads, state, params)[1], None

    state = optimizer.init(params)
    with pytest.warns(UserWarning, match=r"samestep\.jax\.prepared"), pytest.raises(TypeError):
        jax.lax.scan(body, state, length=3)
    state = adapter.prepared(optimizer.rule, state, params, grads)
    after, _ = jax.lax.scan(body, state, length=3)
    assert int(after.step) == int(after.shared[KEY]) == 3


@pytest.mark.parametrize("library", ["numpy", "jax.numpy"])
def test_a_count_is_never_that_of_another_parameter(library):
    """Where a tree has lost, gained or renamed a parameter, the next step is refused."""
    xp = pytest.importorskip(library)
    rule = Adam(lr=0.1)
    params = {name: xp.ones(1) for name in "abc"}
    grads = {name: -xp.ones(1) for name in "abc"}
    if library == "numpy":
        state = rule.init(params)

        def after(grads, state, params):
            return rule.update(grads, params, state)
    else:
        optimizer = samestep.jax.bind(rule)
        state, after = optimizer.init(params), optimizer.update
    for _ in range(3):
        params_or_updates, state = after({**grads, "b": None}, state, params)
    assert len(params_or_updates) == 3

    def renamed(names):
        """The trees, with other names: those of ``names``, in their order."""
        trees = [grads, params, *state.slots.values()]
        own = [{new: tree[old] for old, new in names.items()} for tree in trees]
        return own[0], state._replace(slots=dict(zip(state.slots, own[2:], strict=True))), own[1]

    for names in ({"b": "b", "c": "c"}, {"a": "a", "b": "z", "c": "c"}):
        with pytest.raises(ValueError, match=r"missed by 1 of .* tree of other parameters"):
            after(*renamed(names))
    (key,) = state.shared
    old = state._replace(shared={key.partition(" of ")[0]: state.shared[key]})
    for before in (state, old):  # one that an earlier version wrote is read, and gets the tree
        assert {*after(grads, before, params)[1].shared} == {key}


def test_names_with_the_signs_of_a_key_have_counts_of_their_own():
    mx = pytest.importorskip("mlx.core")
    one, names = mx.array([1.0]), ["a/b", "a.b", "a~1b", "c\nd", "c", "d", "e\x0bf"]
    optimizer = samestep.mlx.Adam(lr=0.1)
    params = {"a": {"b": one}, **{name: one for name in names if "." not in name}}
    optimizer.init(params)
    flat = ("a", *(name for name in names if "." not in name))
    for _ in range(3):
        grads = {name: params[name] for name in flat if name not in ("a/b", "c\nd")}
        optimizer.apply_gradients(grads, params)
    moved = optimizer.apply_gradients(params, params)
    expected = samestep.mlx.Adam(lr=0.1).apply_gradients({"w": one}, {"w": one})["w"].item()
    later = moved["c"].item()
    assert {name: moved[name].item() for name in ("a/b", "c\nd")} == dict.fromkeys(
        ("a/b", "c\nd"), expected
    )
    assert moved["a"]["b"].item() == moved["d"].item() == moved["e\x0bf"].item() == later


def test_a_count_stays_at_the_largest_number():
    jax, adapter = pytest.importorskip("jax"), pytest.importorskip("samestep.jax")
    params, optimizer = jax.numpy.ones(2), adapter.AdamW(lr=0.1)
    most = jax.numpy.asarray(2**31 - 1, "int32")
    for update in (optimizer.update, jax.jit(optimizer.update)):
        updates, state = update(params, optimizer.init(params)._replace(step=most), params)
        assert int(state.step) == most and bool(jax.numpy.isfinite(updates).all())


def test_a_checkpoint_carries_counts_to_every_framework(tmp_path):
    """A run that is resumed elsewhere ends as one that is not."""
    rule = SkipNonFinite(NAdam(lr=FALLING))
    pattern = [{"a"}] * 3 + [{"a", "b"}] * 3 + [{*PATHS}] * 3
    trajectory = spoilt(pattern, {1, 4})
    names = [b for b in BACKENDS if b.name in ("numpy", "torch (packed)", "optax", "mlx")]
    ends = []
    for place, one in enumerate(names):
        run = one.start(rule, trajectory.params, "float32")
        for grads in trajectory.grads[:5]:
            run.step(grads)
        samestep.save(tmp_path / one.library, run.checkpoint())
        other = names[place - 1]
        resumed = other.start(rule, trajectory.params, "float32")
        resumed.restore(samestep.checkpoints.read(tmp_path / one.library))
        for grads in trajectory.grads[5:]:
            resumed.step(grads)
        ends.append(other.snapshot(resumed))
    for end in ends[1:]:
        for key, value in ends[0].items():
            numpy.testing.assert_allclose(end[key], value, rtol=1e-5, atol=1e-6, err_msg=str(key))


FAULTS = {
    "no call is missed": ("samestep.counts.Histories.later", lambda *_, **__: {}),
    "updates are calls": (
        "samestep.counts.Histories.steps",
        lambda _, __, calls, ___: lambda member: calls,
    ),
    "a skipped call counts": (
        "samestep.coefficients.withheld",
        lambda xp, rule, *_, **__: dict.fromkeys(rule.withholds, 0),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_what_is_counted_is_caught(fault, monkeypatch):
    rule, on = SkipNonFinite(NAdam(lr=FALLING)), backends()["numpy"]
    pattern = [{"a"}] * 3 + [{"a", "b"}] * 3 + [{*PATHS}] * 3
    assert_counted(rule, on, pattern, {1, 4})
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError):
        assert_counted(rule, on, pattern, {1, 4})
