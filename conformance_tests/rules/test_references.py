"""The folder of references; ``test_dialects`` compares them with libraries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import samestep
from samestep.conformance.peers import FLOAT64, agree, dialects, run
from samestep.conformance.references import follow_reference, reference_for
from samestep.parity import Trajectory, oracle, record


def made(name: str, *args: Any, **values: Any) -> Any:
    reference = reference_for(name)
    assert reference is not None
    return reference(*args, **values)


def test_scout_counts_an_element_that_does_not_move_as_one() -> None:
    """Half of the elements stay: the other half's share of 1/2 is pulled less than sync_rate."""
    reference = made("Scout", made("SGD", [np.zeros(2)], lr=1.0), sync_period=2, sync_rate=0.0)
    for g in (1.0, 3.0):
        reference.step([np.array([-g, 0.0])])
    # Steps 1 and 3: their deviation is sqrt(2), the largest is 1. Mean with 1: above 1.
    np.testing.assert_array_equal(reference.state["history"][0], [[1.0, 0.0], [4.0, 0.0]])
    np.testing.assert_array_equal(reference.params[0], [0.0, 0.0])


def test_a_reference_is_found_by_the_name_of_its_rule() -> None:
    """And nothing is found by another name."""
    found = reference_for("Adan")
    assert found is not None
    assert found.__name__ == "Adan"
    assert reference_for("NoSuchRule") is None
    assert reference_for("annotations") is None


def test_a_reference_has_the_numbers_of_its_rule_and_takes_no_other() -> None:
    assert made("Adan", [np.zeros(2)]).betas == samestep.Adan().betas
    with pytest.raises(TypeError, match="the reference of Adan has no momentum"):
        made("Adan", [np.zeros(2)], momentum=0.9)


def compare_adan(trajectory: Trajectory) -> None:
    """Adan as published, and its reference, beside optax.adan."""
    pytest.importorskip("optax")
    module = dialects()["optax"]
    rule = samestep.Adan(lr=1e-2, eps=1e-3, weight_decay=0.1, decay="decoupled")
    peer = next(peer for peer in module.PEERS if peer.rule == "Adan")
    theirs = run(
        module, peer, {**rule.hypers, "quirks": samestep.Adan(like="optax").quirks}, trajectory
    )
    for ours in (oracle(rule, trajectory), follow_reference(rule, trajectory)):
        agree(ours, theirs, FLOAT64)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="optax.adan 0.2.8 weights the gradient difference by 1-b2; google-deepmind/optax#1715",
)
def test_adan_is_that_of_optax() -> None:
    """Equality holds once optax weights the gradient difference by b2."""
    compare_adan(record(seed=20).taken({"bias", "matrix"}))


def test_adan_is_that_of_optax_where_the_gradient_is_constant() -> None:
    """A gradient that never changes has no difference to weight: the rest agrees."""
    recorded = record(seed=20).taken({"bias", "matrix"})
    compare_adan(replace(recorded, grads=[recorded.grads[10]] * 200))


@pytest.mark.parametrize("layout", ["oi", "io"])
def test_heads_share_a_mean_square_and_must_divide_the_rows(layout: str) -> None:
    rule = samestep.AdamMini(per="head", heads=3, weight_decay=0.1, layout=layout)
    shapes = {"weight": (6, 9), "square": (3, 3), "bias": (5,)}
    trajectory = record(3, 20, shapes, decades=(-2, 1))
    agree(oracle(rule, trajectory), follow_reference(rule, trajectory), FLOAT64)
    state = rule.init(trajectory.params)
    with pytest.raises(ValueError, match=r"heads=4.*which are not 4 heads of as many rows"):
        rule.replace(heads=4).init(trajectory.params)
    assert state.slots["v"]["weight"].shape == ((6, 1) if layout == "oi" else (1, 9))


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="optax 0.2.8 weighs by the size of the next step, the paper by that of this one",
)
def test_schedule_free_in_a_warm_up_is_that_of_optax() -> None:
    """With a constant size it is, as the peers of optax show."""
    pytest.importorskip("optax")
    module = dialects()["optax"]
    peer = next(peer for peer in module.PEERS if peer.rule == "ScheduleFree")
    warm = samestep.schedules.Linear(0.01, 0.1, 30)
    rule = samestep.ScheduleFree(samestep.SGD(lr=warm))
    trajectory = record(seed=20).taken({"bias", "matrix"})
    theirs = run(module, peer, {**rule.hypers, "inner": "SGD"}, trajectory)
    agree(oracle(rule, trajectory), theirs, 1e-4)
