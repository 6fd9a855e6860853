"""Wrappers around each other, and around routes."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy
import pytest

import samestep
from samestep import (
    SGD,
    Accumulate,
    AdamW,
    AdaptiveClip,
    Average,
    Cautious,
    Centralize,
    ClipGlobalNorm,
    ClipNorm,
    ClipUpdate,
    ClipValue,
    Lookahead,
    Muon,
    Prodigy,
    Scout,
    SkipNonFinite,
    Where,
    route,
)
from samestep.conformance.references import follow_reference
from samestep.conformance.rules.test_preparation import (
    BACKENDS,
    BAD,
    PLAIN,
    SHAPES,
    TRAJECTORY,
    assert_close,
    assert_same,
    by_hand,
    followed,
    of_samestep,
    spoilt,
    without_bad,
)
from samestep.parity import Trajectory, oracle, record
from samestep.parity.backend import NUMPY

WRAPPERS = {
    "Accumulate": partial(Accumulate, every=2),
    "AdaptiveClip": partial(AdaptiveClip, clipping=0.1),
    "Average": partial(Average, average_decay=0.9),
    "Cautious": Cautious,
    "Centralize": Centralize,
    "ClipGlobalNorm": partial(ClipGlobalNorm, max_norm=0.5),
    "ClipNorm": partial(ClipNorm, clip_norm=0.2),
    "ClipUpdate": partial(ClipUpdate, max_rms=0.2),
    "ClipValue": partial(ClipValue, max_value=0.1),
    "Lookahead": partial(Lookahead, sync_period=3),
    "Scout": partial(Scout, sync_period=3, sync_rate=0.1),
    "SkipNonFinite": SkipNonFinite,
}
PREPARING = ("AdaptiveClip", "Centralize", "ClipGlobalNorm", "ClipNorm", "ClipValue")
REDIRECTING = ("Cautious", "ClipUpdate")
BRIEF = record(seed=8, steps=14, shapes=SHAPES, decades=(-2, 1))


def refused(outer, inner):
    """Why one wrapper does not go around another."""
    if outer == inner or {outer, inner} == {"Lookahead", "Scout"}:
        return f"cannot wrap {inner}"
    if outer in REDIRECTING and inner not in (*PREPARING, *REDIRECTING):
        return f"let {inner} be the outer one"
    if outer == "Scout" and inner in ("ClipGlobalNorm", "SkipNonFinite"):
        return "cannot wrap a rule that needs a tree"
    return None


@pytest.mark.parametrize(("outer", "inner"), [*product(WRAPPERS, WRAPPERS)])
def test_wrappers_go_around_each_other_or_say_why_not(outer, inner):
    """The references go around each other as well; one that masks has the prepared gradient."""
    for plain in (PLAIN, samestep.LAMB(lr=0.05, weight_decay=0.1)):
        if (reason := refused(outer, inner)) is not None:
            with pytest.raises(ValueError, match=reason):
                WRAPPERS[outer](WRAPPERS[inner](plain))
            continue
        rule = WRAPPERS[outer](WRAPPERS[inner](plain))
        reference = rule
        if outer in REDIRECTING and inner in PREPARING:
            reference = WRAPPERS[inner](WRAPPERS[outer](plain))
        given = BRIEF
        if outer == "SkipNonFinite":
            given = Trajectory(BRIEF.params, [dict(step) for step in BRIEF.grads])
            given.grads[3] = {path: grad * numpy.nan for path, grad in BRIEF.grads[3].items()}
        with numpy.errstate(invalid="ignore"):
            ours = oracle(rule, given)
            theirs = follow_reference(reference, given)
        assert_close(ours, theirs, 1e-9)


ROUTED = route((Where(min_ndim=2), Prodigy(d0=1e-2, weight_decay=0.1)), PLAIN)
MATRICES = route((Where(ndim=2), Muon(lr=0.05, momentum=0.9)), AdamW(lr=0.01, weight_decay=0.1))


@pytest.mark.parametrize(
    ("name", "on"),
    [
        pytest.param(name, on, id=f"{name}-{on.name}")
        for name in sorted({*WRAPPERS} - {"Scout"})
        for on in BACKENDS
        if not on.slow or name in ("Accumulate", "ClipGlobalNorm")  # one sums, one does not
    ],
)
def test_a_wrapper_goes_around_a_route(name, on):
    """One of its rules sums over its parameters, or none does."""
    for routed in (ROUTED, MATRICES):
        rule = WRAPPERS[name](routed)
        found = followed(rule, on, BRIEF)
        expected = followed(rule, NUMPY, BRIEF.rounded("float32"), "float64")
        assert_close(found, expected, 1e-3 if routed is ROUTED else 1e-4)


def test_around_a_route_the_norm_is_that_of_all_parameters():
    prepare = of_samestep()
    found = followed(ClipGlobalNorm(ROUTED, max_norm=0.5), NUMPY, dtype="float64")
    assert_close(found, by_hand(ROUTED, NUMPY, TRAJECTORY, prepare, "float64"), 1e-9)


def test_around_a_route_skipping_keeps_every_rule_s_state():
    found = followed(SkipNonFinite(ROUTED), NUMPY, spoilt(), "float64")
    plain = followed(ROUTED, NUMPY, without_bad(), "float64")
    kept = [snapshot for step, snapshot in enumerate(found) if step - 1 not in BAD]
    for ours, theirs in zip(kept, plain, strict=True):
        assert_same({key: ours[key] for key in theirs}, theirs)


def test_cautious_masking_sees_the_gradient_as_wrappers_have_prepared_it():
    for name in PREPARING:
        inside, outside = Cautious(WRAPPERS[name](PLAIN)), WRAPPERS[name](Cautious(PLAIN))
        for one, other in zip(oracle(inside, BRIEF), oracle(outside, BRIEF), strict=True):
            assert_same(one, other)


class Thrice(samestep.Wrapper, register=False):
    """Three times the direction."""

    def redirect(self, xp, direction, grad, s):
        return 3 * direction


@pytest.mark.parametrize("redirecting", [Cautious, Thrice])
def test_a_direction_is_not_redirected_where_a_rule_inside_changes_the_step_after_it(redirecting):
    """The descent would come in place of that step: a skipped step would be taken."""

    class Own(SGD, register=False):
        def step(self, xp, grad, param, state, s):
            return param, {}

    routed = route((Where(ndim=1), Lookahead(SGD())), SGD())
    outer = {"Own": ClipValue(Own()), "Lookahead": routed, "SkipNonFinite": SkipNonFinite(SGD())}
    outer |= {"Scout": Scout(SGD()), "Accumulate": Accumulate(SGD())}
    for name, rule in outer.items():
        with pytest.raises(ValueError, match=rf"and {name} .* let {name} be the outer one"):
            redirecting(rule)


@pytest.mark.parametrize("inner", [Accumulate, Scout, SkipNonFinite])
def test_an_average_of_steps_is_not_taken_of_calls_without_one(inner):
    """ScheduleFree would move the parameters in a call that SkipNonFinite skips."""
    name = inner.__name__
    with pytest.raises(ValueError, match=rf"and {name} .* let {name} be the outer one"):
        samestep.ScheduleFree(ClipValue(inner(SGD())))
    assert inner(samestep.ScheduleFree(SGD())).rule.rule == SGD()


@pytest.mark.parametrize("wrapper", [*WRAPPERS])
@pytest.mark.parametrize("inner", [samestep.SM3, samestep.AdamP])
def test_a_parameter_without_elements_takes_no_part(wrapper, inner):
    """It stays as it is, as under the rule inside, and changes no sum."""
    rule, param = WRAPPERS[wrapper](inner(lr=0.1)), numpy.linspace(-1, 1, 6).reshape(3, 2)
    if "layout" in rule.all_fields():
        rule = rule.replace(groups=[(lambda p: True, {"layout": "oi"})])
    found, alone = {"none": numpy.ones((0, 2)), "w": param}, {"w": param}
    state, own = rule.init(found), rule.init(alone)
    empty = {"none": found["none"]}
    for step in range(1, 4):
        grads = {"none": found["none"], "w": numpy.sin(step * param)}
        found, state = rule.update(grads, found, state)
        alone, own = rule.update({"w": grads["w"]}, alone, own)
        numpy.testing.assert_array_equal(found["w"], alone["w"])
        assert state.shared == own.shared and found["none"].shape == (0, 2)
        assert rule.update(empty, empty, rule.init(empty))[0]["none"].shape == (0, 2)


def test_a_clipped_update_is_optax_s_clip_by_block_rms():
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    transformations = (
        optax.scale_by_adam(b2=0.99),
        optax.clip_by_block_rms(0.5),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(0.01),
    )
    rule = ClipUpdate(AdamW(lr=0.01, betas=(0.9, 0.99), weight_decay=0.1), max_rms=0.5)
    with jax.enable_x64(True):
        theirs = optax.chain(*transformations)
        params = {path: jax.numpy.asarray(array) for path, array in BRIEF.params.items()}
        state = theirs.init(params)
        for grads, snapshot in zip(BRIEF.grads, oracle(rule, BRIEF)[1:], strict=True):
            updates, state = theirs.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            for path, array in params.items():
                numpy.testing.assert_allclose(snapshot["param", path], array, 1e-10, 1e-14)
