"""What the trial of somebody's own rule compares: steps with other numbers, sums, and axes."""

from __future__ import annotations

import functools

import numpy
import pytest

from samestep import (
    SGD,
    Accumulate,
    Adafactor,
    Average,
    ClipGlobalNorm,
    ClipNorm,
    Lookahead,
    Muon,
    Prodigy,
    Rule,
    SkipNonFinite,
    Where,
    Wrapper,
    hyper,
    proof,
    shared,
    slot,
)
from samestep.vocabulary import choose, norm
from tests.core.own_rules import mistaken, returning


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


def summing(**body):
    """A rule whose direction is the gradient times what ``combine`` returns as ``c``."""
    return mistaken(
        needs="tree",
        local=lambda self, xp, grad, param, state, s: ({}, {"q": xp.sum(grad * grad)}),
        direction=lambda self, xp, grad, param, state, s: (state.c * grad, {"m": state.m}),
        **body,
    )


@pytest.mark.parametrize("kind", ["a rule", "a wrapper"])
def test_a_number_that_groups_may_change_is_not_read_by_combine(kind):
    """Of groups with different numbers that of the first parameter was used for all."""

    def made(**whole):
        reads = {
            "k": hyper(1.0, "a number", unit="1", ge=0, **whole),
            "combine": lambda self, xp, sums, shared, s: {"c": s.k / (1 + sums.q)},
        }
        if kind == "a rule":
            return summing(**reads)()
        own = {"prepare": lambda self, xp, grad, param, state, s: state.c * grad}
        local = summing().local
        return mistaken(Wrapper, reads="tree", local=local, **own, **reads)(SGD())

    with pytest.raises(
        ValueError, match=r"^Mine\.combine reads k, .* or declare k with whole=True"
    ):
        begin(made())
    begin(made(whole=True))


def test_groups_share_the_numbers_with_which_prodigy_sums():
    with pytest.raises(ValueError, match=r"betas=.* must be the same for all groups"):
        Prodigy(groups=[(Where(path="w"), {"betas": (0.9, 0.99)})])


def dividing(default, by=norm, **body):
    """A rule that divides by something of the gradient where it has a number for it."""

    def direction(self, xp, grad, param, state, s):
        return (grad * (s.given[0] / by(xp, grad)) if s.given else grad), {"m": state.m}

    return mistaken(
        k=hyper(default, "a number", unit="1", ge=0),
        scalars=lambda self, xp, t: {"given": (self.k,) if self.k else ()},
        direction=direction,
        **body,
    )


SWITCHED = {
    "a number in place of None": (None, {"k": 1.0}),
    "a number in place of 0": (0.0, {"k": 1.0}),
    "a schedule": (0.0, {"k": lambda step: 1.0}),
    "a number of a group": (0.0, {"groups": [(Where(path="w"), {"k": 1.0})]}),
}


@pytest.mark.parametrize("given", SWITCHED)
@pytest.mark.parametrize("around", [lambda rule: rule, Lookahead])
def test_a_number_that_changes_which_coefficients_there_are_is_tried_again(given, around):
    default, values = SWITCHED[given]
    cls = dividing(default)
    begin(around(cls()))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^Mine declares needs = 'element', but"):
            begin(around(cls(**values)))


def test_whether_parameters_are_segments_is_asked_for_the_coefficients_that_there_are():
    cls = dividing(0.0, by=lambda xp, grad: xp.max(grad), needs="tensor")
    assert proof.sums_segments(cls()) and not proof.sums_segments(cls(k=1.0))


FIRST = {}


@pytest.mark.parametrize("where", ["first", "FIRST", "near"])
def test_what_a_rule_keeps_in_a_dict_from_its_first_use_is_named(where):
    """The first use is the trial, whose numbers are not those of the rule."""
    near = {}

    def scalars(self, xp, t):
        kept = {"first": self.first, "FIRST": FIRST, "near": near}[where]
        return {"rate": self.lr / kept.setdefault("lr", self.lr)}

    rule = mistaken(first={}, scalars=scalars)()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^Mine writes into {where}, .* a slot"):
            begin(rule)


def test_what_a_rule_writes_into_a_dict_is_taken_back_where_its_trial_fails():
    kept = {}

    def direction(self, xp, grad, param, state, s):
        kept["grad"] = grad

    with pytest.raises(ValueError, match="returned None"):
        begin(mistaken(direction=direction)())
    assert not kept


def test_a_rule_may_compute_something_once_for_its_arguments():
    halved = functools.cache(lambda lr: lr / 2)
    begin(mistaken(scalars=lambda self, xp, t: {"rate": halved(self.lr)})())


def by_means(*axes):
    """A rule that divides by the means of the squared gradient along axes, where there are two."""

    def result(xp, grad, state, s):
        square = grad * grad + 1.0
        for axis in axes if grad.ndim > 1 else ():
            grad = grad / xp.mean(square, axis=axis, keepdims=True)
        return grad, {"m": state.m}

    return mistaken(returning(result), needs="factored")


def test_a_factored_rule_does_not_tell_rows_from_columns():
    """Frameworks keep a matrix in either way, and a factored rule sees it as it is kept."""
    begin(by_means(-1, -2)())
    with pytest.raises(ValueError, match=r"^Mine declares needs = 'factored', but .* turned"):
        begin(by_means(-1)())


def test_a_wrapper_that_reads_axes_tells_outputs_from_inputs_around_a_factored_rule():
    def redirect(self, xp, direction, grad, s):
        length = xp.sum(xp.abs(direction), axis=tuple(range(1, direction.ndim)), keepdims=True)
        return direction / (1.0 + length)

    rows = mistaken(Wrapper, redirect=redirect, reads="axes")
    for rule in (rows(Adafactor()), Lookahead(rows(by_means(-1, -2)()))):
        rule.init({"w.weight": numpy.ones((4, 3))})
    with pytest.raises(ValueError, match=r"^Mine declares needs = 'factored', but .* turned"):
        rows(by_means(-1)()).init({"w.weight": numpy.ones((4, 3))})


def test_a_factored_rule_that_takes_axes_by_place_is_refused_for_kernels():
    kernel = {"conv.kernel": numpy.ones((3, 3, 5, 6))}
    with pytest.raises(ValueError, match=r"the order of the axes, .*factored_axes"):
        by_means(-1, -2)().init(kernel)
    begin(by_means(-1, -2)())

    def result(xp, grad, state, s):
        return grad / xp.mean(grad * grad + 1.0), {"m": state.m}

    mistaken(returning(result), needs="factored")().init(kernel)


@pytest.mark.parametrize("rule", [SGD(), Muon(layout="oi", batch_axes=()), Adafactor()], ids=repr)
def test_what_a_wrapper_reads_is_found_around_every_rule(rule):
    def redirect(self, xp, direction, grad, s):
        return direction / (1.0 + xp.sum(xp.abs(direction), axis=-1, keepdims=True))

    mine = mistaken(Wrapper, redirect=redirect)
    with pytest.raises(ValueError, match=r"^Mine declares reads = 'element', but"):
        mine(rule).init({"w.weight": numpy.ones((4, 3))})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"reads": "tensor"}, "declares reads; a rule declares needs"),
        ({"min_ndim": -1}, r"min_ndim is -1; it must be a whole number >= 0"),
        ({"min_ndim": "2"}, r"min_ndim is '2'; it must be a whole number >= 0"),
        ({"min_ndim": None}, r"min_ndim is None; it must be a whole number >= 0"),
        ({"total": shared("a sum", start=0.0)}, "declares the shared total, which only combine"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(body, words):
    with pytest.raises(TypeError, match=rf"^Mine[ .]{words}"):
        mistaken(**body)


def test_of_several_axes_of_outputs_or_of_inputs_the_last_one_is_factored():
    def kept(layout, shape):
        rule = Adafactor(layout=layout, batch_axes=())
        return [mean.shape for mean in rule.init({"w": numpy.ones(shape)}).slots["v"]["w"]]

    assert kept("ioo", (4, 2, 3)) == [(4, 2, 1), (1, 2, 3)]
    assert kept("iio", (4, 2, 3)) == [(4, 2, 1), (4, 1, 3)]
    assert kept("xxio", (7, 5, 2, 3)) == [(7, 5, 2, 1), (7, 5, 1, 3)]
    assert kept("oixx", (3, 2, 7, 5)) == [(1, 2, 7, 5), (3, 1, 7, 5)]


FORGETFUL = {
    "a step": {"step": lambda self, xp, grad, param, state, s: (param - s.lr * grad, {"m": grad})},
    "decay inside": {"decays_inside": True, "decay": Rule.decay.replaced(default="in_update")},
}


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ("a step", {"weight_decay": 0.5}),
        ("a step", {"weight_decay": lambda step: 0.5}),
        ("a step", {"maximize": True}),
        ("decay inside", {"weight_decay": 0.5}),
    ],
)
def test_a_decay_or_a_sign_that_a_step_forgets_is_refused_where_it_is_given(body, given):
    cls = mistaken(**FORGETFUL[body])
    begin(cls())
    for around in (lambda rule: rule, Lookahead, mistaken(Wrapper)):
        with pytest.raises(ValueError, match=f"^Mine takes {next(iter(given))}, and its step"):
            begin(around(cls(**given)))
        begin(around(mistaken()(**given)))


def delayed(self, xp, t):
    return {"weight_decay": choose(xp, t > 100, self.weight_decay, 0.0)}


def seldom(self, xp, t):
    return {"weight_decay": choose(xp, t % 50 == 0, self.weight_decay, 0.0)}


@pytest.mark.parametrize("body", [{"waits": 7}, {"scalars": delayed}, {"scalars": seldom}])
def test_a_rule_may_decay_after_the_steps_of_a_trial(body):
    begin(mistaken(**body)(weight_decay=0.5))


def test_what_a_rule_reads_is_found_in_steps_after_those_that_it_waits():
    cls = dividing(None, waits=7)
    with pytest.raises(ValueError, match=r"^Mine declares needs = 'element', but"):
        begin(cls(k=1.0))


@pytest.mark.parametrize("waits", [1, 9])
def test_a_step_of_its_own_that_moves_where_the_rule_waits_is_refused(waits):
    def step(self, xp, grad, param, state, s):
        return param - s.lr * grad, {"m": state.m}

    def right(self, xp, grad, param, state, s):
        return self.descended(param, grad, s), {"m": state.m}

    with pytest.raises(ValueError, match=rf"^Mine declares waits = {waits}, but moves the param"):
        begin(Lookahead(mistaken(step=step, waits=waits)()))
    begin(mistaken(step=right, waits=waits)())
