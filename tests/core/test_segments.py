"""Which rules may step several parameters as segments of one vector."""

from __future__ import annotations

import math

import pytest

from samestep import proof, trial, watched
from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.vocabulary import norm, rms
from tests.core.own_rules import mistaken, returning


@pytest.mark.parametrize(
    ("factor", "sums"),
    [
        (lambda xp, grad: 0.5 * xp.sum(grad), True),
        (lambda xp, grad: norm(xp, grad) + rms(xp, grad), True),
        (lambda xp, grad: xp.sum(xp.ones_like(grad)), True),
        (lambda xp, grad: float(grad.shape[0]), False),
        (lambda xp, grad: float(grad.ndim), False),
        (lambda xp, grad: xp.max(grad), False),
        (lambda xp, grad: xp.sum(grad, axis=None), False),
        (lambda xp, grad: xp.sum(norm(xp, grad)), False),
        (lambda xp, grad: xp.linalg.norm(grad), False),
        (lambda xp, grad: grad @ grad, False),
        (lambda xp, grad: grad[0], False),
    ],
)
@pytest.mark.parametrize("limit", [-math.inf, 1e9])
def test_parameters_are_segments_where_a_rule_sums_each_and_looks_no_further(factor, sums, limit):
    """Also where no trial comes to the limit above which it looks."""

    def result(xp, grad, state, s):
        return grad * xp.where(norm(xp, grad) > limit, factor(xp, grad), 1.0), {"m": grad}

    assert proof.sums_segments(mistaken(returning(result), needs="tensor")()) is sums


def test_a_namespace_of_segments_has_sums_and_means_and_what_leaves_elements_apart():
    rule = mistaken(returning(lambda xp, grad, *_: (grad / xp.max(grad), {"m": grad})))
    with pytest.raises(TypeError, match=r"^xp.max may look at the elements of several parameters"):
        trial.steps(watched.plain(rule()), [(3,), (5,)], segmented=True)


def test_rules_that_sum_over_a_parameter_step_segments():
    """Those of the package, also with a point of evaluation; each would be stepped by shapes."""
    rules = (typical(rule) for rule in all_rules() if is_own(rule))
    assert [
        rule for rule in rules if rule.needs == "tensor" and not proof.sums_segments(rule)
    ] == []
