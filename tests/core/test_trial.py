"""What the trial of somebody's own rule compares: steps with other numbers, sums, and axes."""

from __future__ import annotations

import numpy
import pytest

from samestep import (
    SGD,
    Accumulate,
    Average,
    ClipGlobalNorm,
    ClipNorm,
    Prodigy,
    SkipNonFinite,
    Wrapper,
    slot,
)
from tests.core.own_rules import mistaken


def begin(rule):
    """Use a rule for the first time."""
    return rule.init({"w": numpy.ones(3)})


def stepping(grad=lambda grad, state: grad, param=lambda param: param):
    """A wrapper whose step gives the rule inside another gradient or parameter."""

    def step(self, xp, given, before, state, s):
        grad_inside, param_inside = grad(given, state), param(before)
        new, slots = self.rule.step(xp, grad_inside, param_inside, state, s.inner)
        return before + (new - param_inside), {**slots, "kept": grad_inside}

    return mistaken(Wrapper, step=step, kept=slot("the gradient"))


SUMMING = [ClipGlobalNorm(SGD()), SkipNonFinite(SGD()), Accumulate(Prodigy()), Average(Prodigy())]


@pytest.mark.parametrize("rule", SUMMING, ids=repr)
def test_a_step_that_changes_the_gradient_is_refused_around_sums_which_do_not_see_it(rule):
    heavy = stepping(grad=lambda grad, state: grad + 0.9 * state.kept)
    words = r"has another gradient, or parameter, than local had for the sums: .* in prepare"
    with pytest.raises(ValueError, match=words):
        begin(heavy(rule))
    begin(heavy(ClipNorm(SGD())))
    begin(stepping()(rule))


def test_a_step_that_changes_the_parameter_is_refused_where_the_sums_are_others():
    elsewhere = stepping(param=lambda param: param + 1)
    with pytest.raises(ValueError, match=r"^Prodigy\.direction has another gradient, or parameter"):
        begin(elsewhere(Prodigy()))
    begin(elsewhere(ClipGlobalNorm(SGD())))
