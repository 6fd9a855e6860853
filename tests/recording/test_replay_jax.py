"""Runs of optax and of samestep.jax, recorded under jit and recomputed."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.recording import RecordingError, read
from samestep.replay import Asked, replay

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
import samestep.jax  # noqa: E402  (needs JAX)

STEPS = 20


def start(dtype="float32"):
    random = numpy.random.default_rng(0)
    sizes = {"kernel": (6, 12), "out": (12, 2)}
    found = {name: random.normal(0, 0.4, size) for name, size in sizes.items()}
    tree = {"hidden": {"kernel": found["kernel"], "bias": numpy.zeros(12)}, "out": found["out"]}
    return jax.tree.map(lambda value: jax.numpy.asarray(value, dtype), tree)


def loss(params, x, y):
    hidden = jax.numpy.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return ((hidden @ params["out"] - y) ** 2).mean()


def batches(first=0, last=STEPS, dtype="float32"):
    for step in range(first, last):
        random = numpy.random.default_rng(step)
        x = random.normal(size=(16, 6)) * 10.0 ** (step % 5 - 2)
        yield jax.numpy.asarray(x, dtype), jax.numpy.asarray(random.normal(size=(16, 2)), dtype)


def stepping(optimizer, jit=True):
    def step(params, state, x, y):
        grads = jax.grad(loss)(params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step) if jit else step


def train(path, transformation, *, jit=True, dtype="float32", **how):
    with samestep.jax.recorder(path, **how) as recording:
        optimizer = recording(transformation)
        params = start(dtype)
        state = optimizer.init(params)
        step = stepping(optimizer, jit)
        for x, y in batches(dtype=dtype):
            params, state = step(params, state, x, y)
    return path


RUNS = {
    "adamw": (optax.adamw(1e-2, weight_decay=0.1), samestep.AdamW(1e-2, weight_decay=0.1)),
    "adan": (optax.adan(1e-2), samestep.Adan(1e-2, like="optax")),
    "rmsprop": (optax.rmsprop(1e-3), samestep.RMSprop(1e-3, like="optax")),
    "lion": (samestep.jax.Lion(1e-3, weight_decay=0.1), None),
    "adopted": (samestep.jax.Prodigy(), None),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_jitted_run_agrees_with_its_rule_in_stretches(path, name):
    transformation, rule = RUNS[name]
    found = replay([read(train(path, transformation, rule=rule, steps=lambda step: step % 8 < 3))])
    assert found.verdict == "agree", found.sentences
    assert [row[0] for row in found.growth] == [0, 1, 2, 8, 9, 10, 16, 17, 18]
    assert not found.unchecked and [*found.rows] == ["hidden.bias", "hidden.kernel", "out"]


@pytest.mark.parametrize("steps", [None, 4, {1, 2, 7}, range(0, STEPS, 5), range(19, 0, -6)])
def test_steps_chosen_on_the_device_are_those_chosen_on_the_host(path, steps):
    train(path, samestep.jax.Lion(1e-3), steps=steps)
    expected = [*range(STEPS)][:4] if steps == 4 else sorted(steps or range(STEPS))
    assert [step.number for step in read(path).steps] == expected
    assert replay([read(path)]).steps == len(expected)


def test_what_is_recorded_under_jit_is_what_is_outside(tmp_path):
    paths = [tmp_path / "inside.safetensors", tmp_path / "outside.safetensors"]
    for path, jit in zip(paths, (True, False), strict=True):
        train(path, optax.sgd(1e-2), jit=jit, hyperparameters={"learning_rate": 1e-2})
    inside, outside = (read(path).steps for path in paths)
    for one, other in zip(inside, outside, strict=True):
        for name, grad in one.grads.items():
            apart = numpy.abs(grad.values() - other.grads[name].values()).max()
            assert apart < 1e-3 * numpy.abs(grad.values()).max()
        assert one.groups[0]["numbers"] == {"learning_rate": 1e-2}
    assert replay([read(paths[0])], Asked("SGD", "optax")).verdict == "agree"


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_a_run_whose_update_alone_is_jitted_agrees(path, name):
    """Outside, the update is rounded before it is added; in the recorder it may be contracted."""
    transformation, rule = RUNS[name]
    with samestep.jax.recorder(path, rule=rule) as recording:
        optimizer = recording(transformation)
        params, update = start(), jax.jit(optimizer.update)
        state = optimizer.init(params)
        for x, y in batches():
            updates, state = update(jax.grad(loss)(params, x, y), state, params)
            params = optax.apply_updates(params, updates)
    found = replay([read(path)])
    assert found.verdict == "agree" and not found.changes, found.sentences


def test_a_parameter_that_is_changed_by_more_than_a_rounding_is_named(path):
    with samestep.jax.recorder(path) as recording:
        optimizer = recording(samestep.jax.Lion(1e-3))
        params, update = start(), jax.jit(optimizer.update)
        state = optimizer.init(params)
        for place, (x, y) in enumerate(batches(0, 4)):
            updates, state = update(jax.grad(loss)(params, x, y), state, params)
            params = optax.apply_updates(params, updates)
            if place == 1:
                params["out"] = params["out"] * (1 + 4 * 2.0**-23)
    assert replay([read(path)]).changes == [(2, ["out"])]


def test_the_run_is_the_same_with_and_without_the_recorder(path):
    transformation = optax.adamw(1e-2)
    train(path, transformation)
    params, state = start(), transformation.init(start())
    step = stepping(transformation)
    for x, y in batches():
        params, state = step(params, state, x, y)
    last = read(path).steps[-1].after
    assert numpy.array_equal(last["out"].bits, numpy.asarray(params["out"]))


def test_a_schedule_that_is_injected_is_recorded_and_one_that_is_not_must_be_given(tmp_path):
    schedule = optax.cosine_decay_schedule(1e-2, STEPS)
    path = tmp_path / "injected.safetensors"
    train(path, optax.inject_hyperparams(optax.adamw)(schedule))
    recording = read(path)
    rates = [step.groups[0]["numbers"]["learning_rate"] for step in recording.steps]
    assert numpy.allclose(rates, [schedule(step) for step in range(STEPS)])
    assert replay([recording], Asked("AdamW", "optax")).verdict == "agree"
    path = train(tmp_path / "closed.safetensors", optax.adamw(schedule))
    departs = replay([read(path)], Asked("AdamW", "optax", {"lr": 1e-2}))
    assert departs.verdict == "departs" and departs.first.step <= 2
    path = tmp_path / "given.safetensors"
    train(path, optax.adamw(schedule), hyperparameters=lambda step: {"lr": float(schedule(step))})
    assert replay([read(path)], Asked("AdamW", "optax")).verdict == "agree"


def test_another_eps_departs(path):
    train(path, optax.adam(1e-2, eps=1e-5))
    right = Asked("Adam", "optax", {"lr": 1e-2, "eps": 1e-5})
    assert replay([read(path)], right).verdict == "agree"
    found = replay([read(path)], Asked("Adam", "optax", {"lr": 1e-2}))
    assert found.verdict == "departs" and found.first.step == 0
    assert found.first.recorded != found.first.computed


def test_a_gradient_that_is_changed_on_its_way_departs_at_its_step(path):
    """The transformation is given another gradient than the one that was recorded."""

    def update(grads, state, params=None):
        wrong = {**grads, "out": grads["out"] * jax.numpy.where(state == 13, 1.5, 1.0)}
        return wrong, state + 1

    bent = optax.GradientTransformation(lambda params: jax.numpy.zeros((), "int32"), update)
    made = optax.chain(bent, optax.sgd(1e-2))
    train(path, made)
    found = replay([read(path)], Asked("SGD", "optax", {"lr": 1e-2}))
    assert [(d.step, d.path, d.until) for d in found.departures] == [(13, "out", 13)]
    assert found.first.relative == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_run_is_exact_or_has_lost_its_state(path, lost):
    rule = samestep.AdamW(1e-2, weight_decay=0.1)
    transformation = optax.adamw(1e-2, weight_decay=0.1)
    params, state = start(), transformation.init(start())
    for first, last in ((0, 9), (9, STEPS)):
        with samestep.jax.recorder(path, rule=rule, append=first > 0) as recording:
            optimizer = recording(transformation)
            if lost:
                state = transformation.init(params)
            step, own = stepping(optimizer), recording.wrap(state, step=first)
            for x, y in batches(first, last):
                params, own = step(params, own, x, y)
            state = own.inner
    found = replay([read(path)])
    assert [(one.step, one.exact) for one in found.resumes] == [(9, not lost)]
    assert ("the state was empty" in found.resumes[0].sentences[0]) == lost
    assert found.verdict == ("departs" if lost else "agree") and found.steps == STEPS


def test_bfloat16_agrees(path):
    train(path, samestep.jax.AdamW(2.0**-6, weight_decay=0.1), dtype="bfloat16")
    recording = read(path)
    assert recording.steps[0].grads["out"].dtype == "bfloat16"
    assert replay([recording]).verdict == "agree"
    assert replay([recording], Asked(settings={"lr": 2.0**-5})).verdict == "departs"


def test_extra_arguments_reach_the_transformation_and_patterns_choose(path):
    seen = []

    def update(grads, state, params=None, *, value):
        seen.append(value)
        return grads, state

    made = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    with samestep.jax.recorder(path, parameters="hidden.*") as recording:
        optimizer = recording(made)
        params = start()
        grads = jax.tree.map(jax.numpy.ones_like, params)
        optimizer.update(grads, optimizer.init(params), params, value=3.0)
    assert seen == [3.0]
    assert {*read(path).steps[0].grads} == {"hidden.bias", "hidden.kernel"}


def test_mistakes_are_said(path, tmp_path):
    recorder = samestep.jax.recorder(path, parameters="*.weight")
    with pytest.raises(RecordingError, match="enter the recorder first"):
        recorder(optax.sgd(0.1))
    with (
        pytest.raises(RecordingError, match=r"no parameter; there are hidden\.bias, hidden"),
        recorder,
    ):
        recorder(optax.sgd(0.1)).init(start())
    with samestep.jax.recorder(tmp_path / "other.safetensors") as recording:
        optimizer = recording(optax.sgd(0.1))
        with pytest.raises(RecordingError, match=r"give recording\.wrap"):
            optimizer.update(start(), optax.sgd(0.1).init(start()), start())
        with pytest.raises(RecordingError, match="needs params"):
            optimizer.update(start(), optimizer.init(start()))
        with pytest.raises(RecordingError, match="records one transformation"):
            recording(optax.sgd(0.1))
        state, params = optimizer.init(start()), start()
        optimizer.update(params, state, params)


def test_steps_that_cannot_be_traced_are_refused(path):
    with (
        pytest.raises(RecordingError, match="steps= is a function that cannot be traced"),
        samestep.jax.recorder(path, steps=lambda step: step > 3 and step % 2 == 0) as recording,
    ):
        optimizer = recording(optax.sgd(0.1))
        state = optimizer.init(start())
        stepping(optimizer)(start(), state, *next(batches()))


@pytest.mark.parametrize(
    "rule",
    [pytest.param(None, marks=pytest.mark.thorough), samestep.AdamW(1e-2, weight_decay=0.1)],
)
def test_updates_that_multi_steps_discards_are_no_steps(path, rule):
    with samestep.jax.recorder(path, rule=rule) as recording:
        optimizer = optax.MultiSteps(recording(RUNS["adamw"][0]), 3)
        params = start()
        state, step = optimizer.init(params), stepping(optimizer)
        for x, y in batches(last=12):
            params, state = step(params, state, x, y)
    recorded = read(path)
    assert [(one.number, one.discarded) for one in recorded.steps] == [(n, 2) for n in range(4)]
    asked = None if rule else Asked("AdamW", "optax", {"lr": 1e-2, "weight_decay": 0.1})
    found = replay([recorded], asked)
    assert (found.verdict, found.steps, found.unchecked) == ("agree", 4, [])
    assert found.sentences == [
        "8 updates were computed and not taken, as in the accumulation of gradients; they were not "
        "judged"
    ]


def test_two_recorders_around_each_other_both_see_every_step(tmp_path):
    paths = [tmp_path / "one", tmp_path / "two"]
    with samestep.jax.recorder(paths[0]) as one, samestep.jax.recorder(paths[1]) as two:
        optimizer = one(two(samestep.jax.Lion(1e-3)))
        params = start()
        state, step = optimizer.init(params), stepping(optimizer)
        for x, y in batches(last=5):
            params, state = step(params, state, x, y)
    assert replay([read(paths[1])]).steps == 5
    assert replay([read(paths[0])], Asked("Lion", settings={"lr": 1e-3})).verdict == "agree"
