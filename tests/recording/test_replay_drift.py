"""Two recordings that part slowly, by a change from outside, or at once by NaN."""

from __future__ import annotations

import math

import numpy
import pytest

import samestep
from samestep.recording import Recorder, read
from samestep.replay import against

STEPS = 60
RULE = samestep.AdamW(lr=0.03)


def start():
    random = numpy.random.default_rng(0)
    return {"w": random.normal(size=(6, 4)).astype("f4"), "b": random.normal(size=4).astype("f4")}


def gradients(step, mean, noise):
    """Gradients that are the same for every run, apart from what one of them is given on top."""
    random = numpy.random.default_rng(step)
    made = {n: random.normal(mean, size=value.shape) for n, value in start().items()}
    made["w"] += noise
    return {name: value.astype("f4") for name, value in made.items()}


def train(path, *, rule=RULE, mean=1.0, noise=0.0, between=None, after=None, **how):
    """A run; ``between`` changes parameters after a step, ``after`` what the optimizer makes."""
    params = start()
    state = rule.init(params)
    with Recorder(path, **how) as recording:
        for step in range(STEPS):
            grads = gradients(step, mean, noise)
            new, following = rule.update(grads, params, state)
            new = {name: numpy.array(value) for name, value in new.items()}
            if after is not None:
                after(step, new)
            recording.note(step, grads, params, new, {}, None)
            params, state = {name: value.copy() for name, value in new.items()}, following
            if between is not None:
                between(step, params)
    return read(path)


@pytest.fixture
def usual(tmp_path):
    return train(tmp_path / "usual.safetensors")


def test_an_optimizer_that_differs_by_little_in_each_step_is_the_one_that_is_named(tmp_path, usual):
    other = train(tmp_path / "slow.safetensors", rule=RULE.replace(lr=0.03 * 1.005))
    for found in (against(usual, other), against(other, usual)):
        assert found.sentence == "the optimizer differed first, by little in each step"
        assert found.first.kind == "drift" and found.first.step > 5
        assert max(row.gradients for row in found.rows) == 0
        assert f"have added up by step {found.first.step}" in str(found.first)
        assert "each within 0.01" in str(found.first)


def test_changes_that_are_as_far_apart_as_the_gradients_accuse_nobody(tmp_path):
    rule = samestep.SGD(lr=0.5)
    runs = [
        train(tmp_path / f"{noise}.safetensors", rule=rule, mean=0.0, noise=noise)
        for noise in (0.0, 6e-4)
    ]
    found = against(*runs)
    assert (found.first.kind, found.first.path) == ("small", "w")
    assert found.sentence == "small differences of gradients and of changes have added up"
    assert max(row.gradients for row in found.rows[: found.first.step]) < 1e-3


@pytest.mark.parametrize("side", [0, 1])
def test_parameters_that_something_else_changes_are_said_to_be(tmp_path, usual, side):
    def between(step, params):
        if step == 20:
            params["b"][1] += 0.01

    runs = [usual, train(tmp_path / "moved.safetensors", between=between)]
    found = against(runs[side], runs[1 - side])
    assert found.sentence == "something else than the optimizer changed parameters first"
    assert (found.first.kind, found.first.step, found.first.path) == ("parameters", 21, "b")


def test_parameters_that_something_else_changes_by_little_are_said_to_be_too(tmp_path, usual):
    def between(step, params):
        params["w"] *= 1 + 1e-4

    found = against(usual, train(tmp_path / "moved.safetensors", between=between))
    assert found.first.kind == "parameters" and found.first.step > 3


def test_something_else_that_changes_both_runs_alike_is_not_what_differs(tmp_path):
    def between(step, params):
        for name in params:
            params[name] *= numpy.float32(0.999)

    one = train(tmp_path / "one.safetensors", between=between)
    other = train(tmp_path / "two.safetensors", between=between, rule=RULE.replace(lr=0.03 * 1.005))
    assert against(one, other).first.kind == "drift"


@pytest.mark.parametrize(
    ("kept", "kind", "step"), [(3, "parameters", 21), (1, "gap", 30)], ids=["recorded", "gap"]
)
def test_what_happened_in_steps_that_were_not_recorded_is_not_guessed(tmp_path, kept, kind, step):
    def between(step, params):
        if step == 20:
            params["b"][1] += 0.01

    one, two = (
        train(tmp_path / name, steps=lambda step: step % 10 < kept, between=changes)
        for name, changes in (("one", None), ("two", between))
    )
    found = against(one, two)
    assert (found.first.kind, found.first.step) == (kind, step)
    missing = found.sentence.endswith("after steps that are not in both recordings")
    assert missing == (kind == "gap")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_from_one_optimizer_is_its_own_at_once(tmp_path, usual, value, side):
    def after(step, params):
        if step >= 0:
            params["b"][2] = value

    runs = [usual, train(tmp_path / "nan.safetensors", after=after)]
    found = against(runs[side], runs[1 - side])
    assert found.sentence == "the optimizer differed first"
    assert (found.first.kind, found.first.step, found.first.path) == ("optimizer", 0, "b")
    assert "by NaN or infinity in one of them" in str(found.first)


def test_what_is_not_finite_in_both_runs_at_the_same_place_differs_in_nothing(tmp_path):
    def after(step, params):
        if step == 3:
            params["b"][2], params["w"][1, 1] = math.nan, math.inf

    runs = [train(tmp_path / f"{name}.safetensors", after=after) for name in ("one", "two")]
    found = against(*runs)
    assert found.verdict == "agree", found.first


def test_a_run_that_went_back_is_compared_by_what_it_did_last(tmp_path, usual):
    path = tmp_path / "back.safetensors"
    train(path, steps=30)
    train(path, steps=range(20, STEPS), append=True, first_step=20)
    found = against(read(path), usual)
    assert found.verdict == "agree" and [row.step for row in found.rows] == [*range(STEPS)]
