"""A copy of an optimizer has a state of its own."""

from __future__ import annotations

import copy
import pickle

import mlx.core as mx
import pytest
from mlx import utils

import samestep
import samestep.mlx as adapter
from samestep.conformance.harness.mlx_trees import assert_equal, copied
from samestep.conformance.harness.settings import typical

KINDS = ["AdamW", "SM3", "LAMB", "Adafactor", "Muon", "Prodigy", "Lookahead"]
"""A rule of every kind: by element, axis, norm, factor, matrix, over all parameters, a wrapper."""


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("name", KINDS)
def test_a_copy_goes_its_own_way(name, copying):
    rule = typical(getattr(samestep, name))
    params = {"layers": [mx.ones((2, 3)), mx.ones((3, 3))]}
    grads = {"layers": [mx.ones((2, 3)), -mx.ones((3, 3))]}
    optimizer = adapter.bind(rule, execution="reference")
    params = optimizer.apply_gradients(grads, params)
    twin = copying(optimizer)
    assert_equal(twin.state, optimizer.state)
    kept = copied(optimizer.state)
    new = twin.apply_gradients(grads, params)
    assert_equal(optimizer.state, kept)
    assert_equal(optimizer.apply_gradients(grads, params), new)
    assert_equal(twin.state, optimizer.state)


ONES = {"b": mx.ones(2), "c": mx.ones(2)}
GRADS = {"b": mx.array([0.5, 1.0]), "c": mx.array([0.5, 1.0])}


def stepped(*calls, optimizer=None):
    """AdamW after calls in which these parameters have gradients."""
    optimizer = optimizer or adapter.AdamW(lr=0.1)
    for names in calls:
        optimizer.apply_gradients({name: GRADS[name] for name in names}, ONES)
    return optimizer


def test_counts_of_missed_calls_go_with_their_step():
    optimizer = stepped(*["bc"] * 5)
    saved = copied(optimizer.state)
    stepped("b", "b", "b", "bc", optimizer=optimizer)
    later = copied(optimizer.state)
    optimizer.state.update(saved)  # in which nothing was missed, so it has no shared state
    for use in (lambda: stepped("bc", optimizer=optimizer), lambda: optimizer.checkpoint(ONES)):
        with pytest.raises(ValueError, match=r"step was replaced, .* has 'step missed by c'\. Rep"):
            use()
    del optimizer.state["shared_state"]["step missed by c"]
    resumed = optimizer.apply_gradients(GRADS, ONES)
    assert_equal(resumed, stepped(*["bc"] * 5).apply_gradients(GRADS, ONES))
    for _ in range(2):
        optimizer.state.update(later)
        later = {**optimizer.state}
        stepped("bc", optimizer=optimizer)
    optimizer.state = {**optimizer.state, "step": mx.array(2)}
    with pytest.raises(ValueError, match="step was replaced"):
        stepped("bc", optimizer=optimizer)
    optimizer.state = {**copied(optimizer.state), "step": mx.array(2)}
    with pytest.raises(ValueError, match=r"counts 3 calls \(step missed by c\), and .* step is 2"):
        stepped("bc", optimizer=optimizer)


def test_mx_compile_replaces_counts_with_their_step():
    optimizer, twin = (stepped("bc", "b", "bc") for _ in range(2))
    compiled = mx.compile(
        lambda: optimizer.apply_gradients(GRADS, ONES), optimizer.state, optimizer.state
    )
    for _ in range(2):
        compiled(), compiled(), stepped("bc", "bc", optimizer=twin)
        found, expected = (o.apply_gradients(GRADS, ONES)["c"] for o in (optimizer, twin))
        assert mx.allclose(found, expected, rtol=1e-6)


def test_a_shared_state_of_another_rule_is_refused():
    skipping = stepped("bc", optimizer=adapter.bind(samestep.SkipNonFinite(samestep.AdamW(lr=0.1))))
    optimizer = stepped("bc")
    optimizer.state.update(skipping.state)
    with pytest.raises(ValueError, match="AdamW: the shared state has skipped; AdamW keeps none"):
        stepped("bc", optimizer=optimizer)
    optimizer = stepped("bc", optimizer=adapter.Prodigy())
    del optimizer.state["shared_state"]
    with pytest.raises(ValueError, match="Prodigy: the shared state has none; Prodigy keeps d, d_"):
        stepped("bc", optimizer=optimizer)
    for state in (stepped("bc").state, {**skipping.state, "shared_state": {}}):
        skipping.state = state  # it does not say what was skipped
        with pytest.raises(ValueError, match="the shared state has none; SkipNonFinite keeps skip"):
            skipping.apply_gradients(GRADS, ONES)
    skipping.state = {**state, "shared_state": {"skipped": mx.array(0.0)}}
    found = skipping.apply_gradients(GRADS, ONES)
    assert_equal(found, stepped("bc").apply_gradients(GRADS, ONES))


@pytest.mark.parametrize("rule", [samestep.Prodigy(), samestep.SkipNonFinite(samestep.AdamW())])
def test_shared_state_begins_with_the_first_parameter_that_is_not_frozen(rule):
    optimizer, fresh = adapter.bind(rule), adapter.bind(rule)
    optimizer.init({"layers": [{}]})
    found, expected = (
        one.apply_gradients({"layers": [GRADS]}, {"layers": [ONES]}) for one in (optimizer, fresh)
    )
    assert_equal(found["layers"][0], expected["layers"][0])


@pytest.mark.parametrize("missed", [(), ("a", "ab")])
@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("rule", [samestep.NAdam(lr=0.1), samestep.SkipNonFinite(samestep.NAdam())])
def test_a_state_that_is_removed_is_made_anew_with_its_count(rule, init, missed):
    """And that of a parameter which has none in a state that was loaded."""
    ones = {**ONES, "a": mx.ones(2), "d": [mx.ones(2)]}
    grads = {name: utils.tree_map(lambda one: one * 0.3, one) for name, one in ones.items()}

    def after(optimizer, *calls):
        for names in calls:
            moved = optimizer.apply_gradients({name: grads[name] for name in names}, ones)
        return moved

    fresh = after(adapter.bind(rule), "abcd", "abcd")
    for remove in (
        lambda state: (state.pop("c"), state.pop("d")),
        lambda state: (state.update(c={}), state["d"].__setitem__(0, {})),
        lambda state: (state.update(c={}), state.pop("d"), state.pop("a")),
    ):
        optimizer = adapter.bind(rule)
        after(optimizer, "abcd", *missed, "abcd")
        twin = copy.deepcopy(optimizer)
        remove(optimizer.state)
        kept = "ab" if "a" in optimizer.state else "b"
        if init:
            optimizer.init(ones)
        found, going = (after(one, "abcd", "abcd") for one in (optimizer, twin))
        expected = {name: (going if name in kept else fresh)[name] for name in found}
        assert_equal(found, expected)
