"""Declarations: what is derived from them, and that every refusal says what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import numpy
import pytest

import samestep
from samestep import SGD, AdamW, Adan, Lookahead, Muon, Prodigy, Rule, hyper, option, shared, slot
from samestep.conformance.settings import typical

DECAY = "'l2', 'decoupled', 'absolute', 'proximal', 'in_update', 'l2+proximal'"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Adan(betas=(0.98, 1.5, 0.99)),
            ValueError,
            "Adan(betas=(0.98, 1.5, 0.99)): betas must be in [0, 1) (decay per step of m, v and n)",
        ),
        (
            lambda: Adan(betas=(0.9, 0.999)),
            ValueError,
            "Adan(betas=(0.9, 0.999)): betas must be 3 numbers in [0, 1), or a schedule",
        ),
        (lambda: AdamW(lr=-1), ValueError, "AdamW(lr=-1): lr must be >= 0 (step size)"),
        (lambda: AdamW(lr=float("nan")), ValueError, "AdamW(lr=nan): lr must be >= 0 (step size)"),
        (
            lambda: AdamW(lr="1e-3"),
            ValueError,
            "AdamW(lr='1e-3'): lr must be a number >= 0, or a schedule (a callable of the step)",
        ),
        (lambda: AdamW(lr=True), ValueError, "AdamW(lr=True): lr must be a number >= 0"),
        (
            lambda: AdamW(learning_rate=1),
            TypeError,
            "AdamW(learning_rate=1): there is no learning_rate; AdamW takes lr, betas, eps, "
            "eps_root, weight_decay, eps_at, bias_correction, start, amsgrad, decay, maximize, "
            "state_dtype, like, mask, groups. Did you mean lr?",
        ),
        (lambda: AdamW(weight_deacy=1), TypeError, "Did you mean weight_decay?"),
        (lambda: AdamW(1, 2, 3, 4, 5, 6), TypeError, "AdamW: too many positional arguments"),
        (
            lambda: AdamW(decay="none"),
            ValueError,
            f"AdamW(decay='none'): decay must be one of {DECAY}",
        ),
        (
            lambda: AdamW(maximize=1),
            ValueError,
            "AdamW(maximize=1): maximize must be True or False",
        ),
        (
            lambda: Muon(ns_steps=0),
            ValueError,
            "Muon(ns_steps=0): ns_steps must be a whole number >= 1 (Newton-Schulz iterations)",
        ),
        (lambda: Muon(layout="hwio"), ValueError, "layout must be one of 'oi', 'io'"),
        (lambda: SGD(nesterov=True), ValueError, "nesterov needs momentum > 0 and dampening = 0"),
        (lambda: Lookahead(3), TypeError, "Lookahead(3): the first argument must be a rule"),
        (
            lambda: Lookahead(AdamW(), sync_period=2.5),
            ValueError,
            "sync_period must be a whole number >= 1 (steps of the wrapped rule",
        ),
        (
            lambda: Lookahead(Lookahead(AdamW())),
            ValueError,
            "both have slow, sync_period, sync_rate; Lookahead cannot wrap Lookahead",
        ),
        (lambda: setattr(AdamW(), "lr", 1), AttributeError, "use rule.replace(lr=1)"),
        (lambda: AdamW().replace(foo=1), TypeError, "AdamW(foo=1): there is no foo"),
    ],
)
def test_refusals_name_rule_argument_value_and_range(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


W = numpy.ones((2, 3))
STATE = AdamW().init({"w": W})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: AdamW().init(numpy.ones(3, int)),
            TypeError,
            "AdamW: the parameter has dtype int64; allowed: bfloat16, float16, float32, float64",
        ),
        (
            lambda: AdamW().init({"a": {"b": numpy.ones(3, complex)}}),
            TypeError,
            "AdamW: parameter 'a.b' has dtype complex128",
        ),
        (
            lambda: Muon().init({"bias": numpy.ones(3)}),
            ValueError,
            "Muon: parameter 'bias' has shape (3,); Muon takes arrays with at least 2 dimensions",
        ),
        (lambda: AdamW(state_dtype="bfloat16").init(W), ValueError, "has no dtype bfloat16"),
        (
            lambda: AdamW().update({"w": W.T}, {"w": W}, STATE),
            ValueError,
            "AdamW: parameter 'w' has shape (2, 3), its gradient (3, 2); they must be equal",
        ),
        (
            lambda: AdamW().update({"w": W + 1j}, {"w": W}, STATE),
            TypeError,
            "AdamW: parameter 'w': its gradient has dtype complex128",
        ),
        (
            lambda: AdamW().update({"v": W}, {"w": W}, STATE),
            ValueError,
            "AdamW: there is a gradient for 'v' and no such parameter",
        ),
        (
            lambda: Adan().update({"w": W}, {"w": W}, STATE),
            ValueError,
            "Adan: the state of 'the parameters' has slots m, v; Adan keeps m, n, prev, v",
        ),
        (
            lambda: AdamW().update(
                {"w": W}, {"w": W}, STATE._replace(slots={"m": STATE.slots["m"]})
            ),
            ValueError,
            "AdamW: the state of 'the parameters' has slots m; AdamW keeps m, v",
        ),
        (
            lambda: AdamW().update({"u": W}, {"u": W}, STATE),
            ValueError,
            "AdamW: the state has no slot m for parameter 'u'; was it made for other parameters?",
        ),
        (
            lambda: AdamW().update({"w": W[0]}, {"w": W[0]}, STATE),
            ValueError,
            "AdamW: the state of 'w' has a m of shape (2, 3); it must be (3,)",
        ),
        (
            lambda: AdamW().update(W, W, {}),
            TypeError,
            "AdamW.update: state is dict; it must be what init() or update() returned",
        ),
    ],
)
def test_arrays_and_states_that_do_not_fit_are_refused_by_path(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_a_declaration_that_cannot_work_is_refused_where_it_is_made():
    with pytest.raises(TypeError, match="declares no lr"):
        type("NoStepSize", (Rule,), {"m": slot("mean")})
    with pytest.raises(TypeError, match="needs is 'elements'; it must be one of"):
        type("Misspelt", (Rule,), {"lr": hyper(1.0, "step", unit="1"), "needs": "elements"})
    with pytest.raises(TypeError, match="declares 'step' twice, or it is a reserved name"):
        type("Reserved", (Rule,), {"lr": hyper(1.0, "step", unit="1"), "step": slot("count")})
    with pytest.raises(ValueError, match="a rule named AdamW exists already"):
        type("AdamW", (Rule,), {"lr": hyper(1.0, "step", unit="1"), "__module__": "elsewhere"})


def test_a_number_read_inside_the_kernel_is_refused_with_the_way_out():
    class ReadsANumber(Rule, register=False):
        lr = hyper(1.0, "step", unit="1")

        def direction(self, xp, grad, param, state, s):
            return self.lr * grad, {}

    rule = ReadsANumber()
    with pytest.raises(AttributeError, match=r"return it from scalars\(\) and read s.lr"):
        rule.update(W, W, rule.init(W))


def test_a_rule_that_forgets_a_slot_is_refused():
    class Forgets(Rule, register=False):
        lr = hyper(1.0, "step", unit="1")
        m = slot("mean")

        def direction(self, xp, grad, param, state, s):
            return grad, {}

    rule = Forgets()
    with pytest.raises(
        ValueError, match=r"Forgets\.direction returned slots none; Forgets keeps m"
    ):
        rule.update(W, W, rule.init(W))


def test_everything_comes_from_the_declaration():
    class Declared(Rule, register=False):
        lr = hyper(0.5, "step size", unit="parameter", ge=0)
        pair = hyper((0.1, 0.2), "two weights", unit="1", gt=0, le=1)
        mode = option("a", "which way", choices=("a", "b"))
        m = slot("mean")
        total = shared("sum of all", start="lr")

    assert str(Declared.__signature__) == (
        "(lr=0.5, pair=(0.1, 0.2), weight_decay=0.0, *, mode='a', decay='decoupled', "
        "maximize=False, state_dtype=None, like=None, mask=None, groups=())"
    )
    rule = Declared(0.25, mode="b", maximize=True)
    assert repr(rule) == "Declared(lr=0.25, mode='b', maximize=True)"
    assert rule == Declared(lr=0.25, mode="b", maximize=True) != Declared(0.25)
    assert hash(rule) == hash(Declared(0.25, mode="b", maximize=True))
    assert [*rule.slots()] == ["m"]
    assert rule.first_value(rule.shared()["total"]) == 0.25
    assert Declared.pair.range == "in (0, 1]"


def test_rules_can_be_copied_pickled_and_shown(rule_class):
    rule = typical(rule_class)
    assert copy.deepcopy(rule) == rule == rule.replace()
    if rule_class.__module__.startswith("samestep."):
        assert pickle.loads(pickle.dumps(rule)) == rule
        assert eval(repr(rule), vars(samestep)) == rule
    assert inspect.signature(rule_class) == rule_class.__signature__


def test_an_optional_slot_exists_only_with_its_hyperparameter():
    assert [*SGD().slots()] == []
    assert [*SGD(momentum=0.9).slots()] == ["m"]
    assert [*SGD(momentum=lambda step: 0.0).slots()] == ["m"]


def test_a_wrapper_has_the_hyperparameters_and_slots_of_both():
    rule = Lookahead(Prodigy(lr=0.5), sync_rate=0.25)
    assert rule.hypers["lr"] == 0.5 and rule.hypers["sync_rate"] == 0.25
    assert [*rule.slots()] == ["m", "v", "s", "p0", "slow"]
    assert [*rule.shared()] == ["d", "d_max", "numerator"]
    assert rule.replace(lr=2.0, sync_period=3) == Lookahead(
        Prodigy(lr=2.0), sync_period=3, sync_rate=0.25
    )
    assert repr(rule) == "Lookahead(Prodigy(lr=0.5), sync_rate=0.25)"
    assert rule.needs == "tree"


def test_trees_of_any_shape_go_in_and_come_out():
    rule = AdamW(lr=0.1)
    tree = {"a": [W, (W[0], None)], "b": {"c": W[:, 0]}}
    state = rule.init(tree)
    new, state = rule.update(tree, tree, state)
    assert isinstance(new["a"], list) and isinstance(new["a"][1], tuple)
    assert new["a"][1][1] is None and state.slots["v"]["a"][1][1] is None
    alone, _ = rule.update(W, W, rule.init(W))
    numpy.testing.assert_array_equal(new["a"][0], alone)


def test_no_array_of_the_callers_is_kept(rule_class):
    rule = typical(rule_class)
    param, grad = numpy.ones((4, 3)), numpy.full((4, 3), 0.5)
    state = rule.init(param)
    for _ in range(7):
        param, state = rule.update(grad, param, state)
    held = [
        a
        for value in state.slots.values()
        for a in (value if isinstance(value, tuple) else [value])
    ]
    assert not any(numpy.shares_memory(a, b) for a in held for b in (grad, param))


def test_what_a_schedule_gives_is_held_to_the_range():
    message = r"AdamW\(lr=-1.0\): lr must be >= 0 \(step size\); the schedule gave it for step 0"
    with pytest.raises(ValueError, match=message):
        AdamW(lr=lambda step: -1.0).update({"w": W}, {"w": W}, STATE)
    with pytest.raises(ValueError, match=r"AdamW\(betas=\(1.5, 0.9\)\): betas must be in \[0, 1\)"):
        AdamW(betas=(lambda step: 1.5, 0.9)).update({"w": W}, {"w": W}, STATE)
    with pytest.raises(ValueError, match=r"lr must be a number >= 0"):
        AdamW(lr=lambda step: None).update({"w": W}, {"w": W}, STATE)


def test_shared_state_of_another_rule_is_refused():
    rule = Prodigy()
    with pytest.raises(
        ValueError, match="Prodigy: the shared state has nothing; Prodigy keeps d, "
    ):
        rule.update(W, W, rule.init(W)._replace(shared={}))


def test_a_wrapper_shows_the_hyperparameters_of_the_rule_inside():
    rule = Lookahead(AdamW(lr=0.5, weight_decay=0.25))
    assert (rule.lr, rule.weight_decay, rule.decay) == (0.5, 0.25, "decoupled")
    assert rule.sync_period == Lookahead.sync_period.default
