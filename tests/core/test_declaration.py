"""Declarations and what is derived from them; every refusal says what to do."""

from __future__ import annotations

import importlib
import math
import pickle
import types
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import array_api_strict
import numpy
import pytest

import samestep
from samestep import (
    LAMB,
    SGD,
    AdaBelief,
    Adam,
    AdamW,
    ClipNorm,
    Lookahead,
    Muon,
    Prodigy,
    RAdam,
    RaLars,
    Rprop,
    Rule,
    TAdam,
    Where,
    hyper,
    option,
    route,
    shared,
    slot,
)
from samestep.conformance.harness.refusals import refusals

W = numpy.ones((2, 3))
STATE = AdamW().init({"w": W})
NAMES = {**globals(), **vars(samestep), "strict": array_api_strict.asarray}
"""What the tables of refusals name."""


@refusals(
    """
    >>> Adan(betas=(0.98, 1.5, 0.99))
    ValueError: Adan(betas=(0.98, 1.5, 0.99)): betas must be in [0, 1) (decay per step of m, v and
    n)
    >>> Adan(betas=(0.9, 0.999))
    ValueError: Adan(betas=(0.9, 0.999)): betas must be 3 numbers in [0, 1), each of which may be a
    schedule
    >>> AdamW(lr=-1)
    ValueError: AdamW(lr=-1): lr must be >= 0 (step size)
    >>> AdamW(lr=float('nan'))
    ValueError: AdamW(lr=nan): lr must be >= 0 (step size)
    >>> AdamW(lr='1e-3')
    ValueError: AdamW(lr='1e-3'): lr must be a number >= 0, or a schedule (a callable of the step)
    >>> AdamW(lr=True)
    ValueError: AdamW(lr=True): lr must be a number >= 0
    >>> AdamW(learning_rate=1)
    TypeError: AdamW(learning_rate=1): there is no learning_rate; AdamW takes lr, betas, eps,
    eps_root, weight_decay, peak_lr, eps_at, bias_correction, amsgrad, decay, maximize,
    state_dtype, like, mask, groups. Did you mean lr?
    >>> AdamW(weight_deacy=1)
    TypeError: Did you mean weight_decay?
    >>> AdamW(1, 2, 3, 4, 5, 6, 7)
    TypeError: AdamW: too many positional arguments
    >>> AdamW(decay='none')
    ValueError: AdamW(decay='none'): decay must be one of 'l2', 'decoupled', 'absolute', 'proximal',
    'in_update'
    >>> AdamW(maximize=1)
    ValueError: AdamW(maximize=1): maximize must be True or False
    >>> Muon(ns_steps=0)
    ValueError: Muon(ns_steps=0): ns_steps must be a whole number >= 1 (Newton-Schulz iterations)
    >>> Muon(layout='hwio')
    ValueError: layout must be one of 'oi', 'io'
    >>> SGD(nesterov=True)
    ValueError: nesterov needs momentum > 0 and dampening = 0
    >>> Lookahead(3)
    TypeError: Lookahead(3): the first argument must be a rule
    >>> Lookahead(AdamW(), sync_period=2.5)
    ValueError: sync_period must be a whole number >= 1 (steps of the wrapped rule
    >>> Lookahead(Lookahead(AdamW()))
    ValueError: both have slow, sync_period, sync_rate; Lookahead cannot wrap Lookahead
    >>> Lookahead()
    TypeError: Lookahead(): the first argument must be a rule, such as
    >>> AdamW(betas=lambda step: (0.9, 0.99))
    ValueError: betas must be 2 numbers in [0, 1), each of which may be a schedule (a callable of
    the step) (decay per step of m and v)
    >>> AdamW(betas=numpy.ones(3) / 2)
    ValueError: betas must be 2 numbers in [0, 1)
    >>> AdamW(lr=numpy.ones(2))
    ValueError: lr must be a number >= 0, or a schedule
    >>> AdamW(lr=math.inf)
    ValueError: AdamW(lr=inf): lr must be finite and >= 0 (step
    >>> AdamW(amsgrad=1)
    ValueError: AdamW(amsgrad=1): amsgrad must be True or False
    >>> AdamW(decay=numpy.array([1, 2]))
    ValueError: AdamW(decay=array([1, 2])): decay must be one of 'l2', 'decoupled', 'absolute',
    'proximal', 'in_update'
    >>> AdamW(like=['torch'])
    ValueError: AdamW(like=['torch']): there is no such
    >>> Lookahead(AdamW()).replace(like='foo')
    ValueError: Lookahead(like='foo'): there is no such dialect; Lookahead has 'holocron', 'optax',
    >>> setattr(AdamW(), 'lr', 1)
    AttributeError: use rule.replace(lr=1)
    >>> AdamW().replace(foo=1)
    TypeError: AdamW(foo=1): there is no foo
    """
)
def test_refusals_name_rule_argument_value_and_range(refusal):
    assert refusal.message in refusal.said(NAMES)


@refusals(
    """
    >>> AdamW().init(numpy.ones(3, int))
    TypeError: AdamW: the parameter has dtype int64; allowed: bfloat16, float16, float32, float64
    >>> AdamW().init({'a': {'b': numpy.ones(3, complex)}})
    TypeError: AdamW: parameter 'a.b' has dtype complex128; allowed: bfloat16, float16, float32, \
float64; give the real and the imaginary part of a complex one as two parameters
    >>> Muon().init({'bias': numpy.ones(3)})
    ValueError: Muon: parameter 'bias' has shape (3,); Muon takes arrays with at least 2 dimensions
    >>> AdamW(state_dtype='bfloat16').init(W)
    ValueError: has no dtype bfloat16
    >>> AdamW().update({'w': W.T}, {'w': W}, STATE)
    ValueError: AdamW: parameter 'w' has shape (2, 3), its gradient (3, 2); they must be equal
    >>> AdamW().update({'w': W + 1j}, {'w': W}, STATE)
    TypeError: AdamW: parameter 'w': its gradient has dtype complex128
    >>> AdamW().update({'v': W}, {'w': W}, STATE)
    ValueError: AdamW: there is a gradient for 'v' and no such parameter
    >>> AdamW().update(W, {'w': W}, STATE)
    ValueError: AdamW: the gradient is ndarray, where the parameters are a tree: w
    >>> AdamW().update({'a': W}, {'a': [W]}, AdamW().init({'a': [W]}))
    ValueError: AdamW: the gradient for 'a' is ndarray, where the parameters are a tree: a.0
    >>> AdamW().init(1.0)
    TypeError: AdamW: the parameter is float; it must be an arra
    >>> AdamW().init([1.0])
    TypeError: AdamW: parameter '0' is float; it must be an ar
    >>> AdamW().init({'a': W, 'b': strict(W)})
    TypeError: AdamW: parameter 'a' is numpy's ndarray, parameter 'b' is array_api_strict's Array;
    all must be arrays of one library
    >>> AdamW().update({'w': strict(W)}, {'w': W}, STATE)
    TypeError: AdamW: parameter 'w' is numpy's ndarray, the gradient of parameter 'w' is
    array_api_strict's Array; all must be
    >>> AdamW().update({'w': 1.0}, {'w': W}, STATE)
    TypeError: AdamW: the gradient of parameter 'w' is float; it must be an array
    >>> AdamW().update({'w': W}, {'w': W}, AdamW().init({'w': strict(W)}))
    TypeError: AdamW: parameter 'w' is numpy's ndarray, slot m of parameter 'w' is array_api_
    >>> Adan().update({'w': W}, {'w': W}, STATE)
    ValueError: Adan: the state of 'the parameters' has slots m, v; Adan keeps m, n, prev, v
    >>> AdamW().update({'w': W}, {'w': W}, STATE._replace(slots={'m': STATE.slots['m']}))
    ValueError: AdamW: the state of 'the parameters' has slots m; AdamW keeps m, v
    >>> AdamW().update({'u': W}, {'u': W}, STATE)
    ValueError: AdamW: the state has no slot m for parameter 'u'; was it made for other parameters?
    >>> AdamW().update({'w': W[0]}, {'w': W[0]}, STATE)
    ValueError: AdamW: the state of 'w' has a slot m of shape (2, 3); it must be (3,)
    >>> AdamW().update(W, W, {})
    TypeError: AdamW.update: state is dict; it must be what init() or update() returned
    """
)
def test_arrays_and_states_that_do_not_fit_are_refused_by_path(refusal):
    assert refusal.message in refusal.said(NAMES)


def test_a_declaration_that_cannot_work_is_refused_where_it_is_made():
    with pytest.raises(TypeError, match="declares no lr"):
        type("NoStepSize", (Rule,), {"m": slot("mean")})
    with pytest.raises(TypeError, match="needs is 'elements'; it must be one of"):
        type("Misspelt", (Rule,), {"lr": hyper(1.0, "step", unit="1"), "needs": "elements"})
    with pytest.raises(TypeError, match="declares 'step', which every rule has already"):
        type("Reserved", (Rule,), {"lr": hyper(1.0, "step", unit="1"), "step": slot("count")})
    for name in ("groups", "like", "mask"):
        with pytest.raises(TypeError, match=f"declares '{name}', which every rule has already"):
            type(
                "Taken", (Rule,), {"lr": hyper(1.0, "s", unit="1"), name: hyper(0.1, "s", unit="1")}
            )
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


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("local", r"Sums\.local returned slots n; Sums keeps m"),
        ("combine", r"Sums\.combine returned totl; Sums keeps the shared state total"),
        ("direction", r"Sums\.direction returned slots n; Sums keeps m"),
    ],
)
def test_a_misspelt_slot_of_a_rule_that_sums_is_refused(function, message):
    class Sums(Rule, register=False):
        needs = "tree"
        lr = hyper(1.0, "step", unit="1")
        m = slot("mean")
        total = shared("sum", start=0.0)

        def local(self, xp, grad, param, state, s):
            return {"n" if function == "local" else "m": grad}, {"sum": xp.sum(grad)}

        def combine(self, xp, sums, shared, s):
            return {"totl" if function == "combine" else "total": sums.sum}

        def direction(self, xp, grad, param, state, s):
            return grad, {"n": grad} if function == "direction" else {}

    rule = Sums()
    with pytest.raises(ValueError, match=message):
        rule.update(W, W, rule.init(W))


def test_a_misspelt_coefficient_is_refused_with_the_names_there_are():
    class Misspells(Rule, register=False):
        lr = hyper(1.0, "step", unit="1")

        def scalars(self, xp, t):
            return {"half": self.lr / 2}

        def direction(self, xp, grad, param, state, s):
            return s.halv * grad, {}

    with pytest.raises(AttributeError, match=r"there is no halv here; there are .*half"):
        Misspells().update(W, W, Misspells().init(W))


def test_everything_comes_from_the_declaration():
    class Declared(Rule, register=False):
        needs = "tree"

        lr = hyper(0.5, "step size", unit="parameter", ge=0)
        pair = hyper((0.1, 0.2), "two weights", unit="1", gt=0, le=1)
        mode = option("a", "which way", choices=("a", "b"))
        m = slot("mean")
        total = shared("sum of all", start="lr")

    assert str(Declared.__signature__) == (
        "(lr=0.5, pair=(0.1, 0.2), weight_decay=0.0, peak_lr=None, *, mode='a', decay='decoupled', "
        "maximize=False, state_dtype=None, batch_axes=None, like=None, mask=None, groups=())"
    )
    rule = Declared(0.25, mode="b", maximize=True)
    assert repr(rule) == "Declared(lr=0.25, mode='b', maximize=True)"
    assert rule == Declared(lr=0.25, mode="b", maximize=True) != Declared(0.25)
    assert hash(rule) == hash(Declared(0.25, mode="b", maximize=True))
    assert [*rule.slots()] == ["m"]
    assert rule.first_value(rule.shared()["total"]) == 0.25
    assert Declared.pair.range == "in (0, 1]"


@pytest.mark.parametrize("etas", [(1.0, 0.5), (1.5, 1.2), (1.0, 1.2), (0.5, 1.0), (0.0, 1.2)])
def test_each_number_of_a_tuple_has_its_own_range(etas):
    with pytest.raises(ValueError, match=r"Rprop\(etas=.*\): etas must be in \(0, 1\) and > 1 \("):
        Rprop(etas=etas)
    rule = Rprop(etas=(lambda step: etas[0], lambda step: etas[1]))
    with pytest.raises(ValueError, match=r"etas must be in .*; the schedule gave it for step 0"):
        rule.update(W, W, rule.init(W))


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


class Pair(NamedTuple):
    first: object
    second: object


@pytest.mark.parametrize(
    "tree",
    [defaultdict(list, a=W, b=[W]), OrderedDict(b=W, a={"c": W}), Pair(W, Pair(W, None))],
    ids=["defaultdict", "OrderedDict", "NamedTuple"],
)
def test_a_tree_keeps_the_types_of_its_nodes(tree):
    rule = AdamW()
    new, state = rule.update(tree, tree, rule.init(tree))
    for made in (new, state.slots["m"], state.slots["v"]):
        assert type(made) is type(tree) and [*samestep.tree.leaves(made)]
        assert getattr(made, "default_factory", None) == getattr(tree, "default_factory", None)
        paths = [path for path, _ in samestep.tree.leaves(made)]
        assert paths == [path for path, _ in samestep.tree.leaves(tree)]


def test_an_array_is_no_tree_of_its_rows():
    assert samestep.tree.subtree(W, (0,)) is None
    state = SGD(momentum=0.9).init(W)
    with pytest.raises(ValueError, match="the state has no slot m for parameter '0'"):
        SGD(momentum=0.9).update([*W], [*W], state)


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
    with pytest.raises(ValueError, match="Prodigy: the shared state has none; Prodigy keeps d, "):
        rule.update(W, W, rule.init(W)._replace(shared={}))


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "jax.jit", "mlx"])
@pytest.mark.parametrize("wrong", ["whole", "three", "number"])
def test_shared_state_is_a_floating_number_in_an_array(library, wrong):
    """A whole number stays 0 where the rule grows it by a factor; the step is then another."""
    lib = library.partition(".")[0]
    names = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "mlx": "mlx.core"}
    pytest.importorskip(names[lib])
    xp = importlib.import_module(names[lib])
    bad = {"whole": xp.zeros((), dtype=xp.int32), "three": xp.zeros((3,)), "number": 0}[wrong]
    if library == "jax.jit" and wrong == "number":
        bad = numpy.int32(0)
    params, replaced = {"w": xp.ones((2,))}, {"d": bad}
    with pytest.raises(ValueError, match=r"Prodigy: d of the shared state is .*; it must be a 0-d"):
        if library == "numpy":
            rule = Prodigy()
            state = rule.init(params)
            rule.update(params, params, state._replace(shared=state.shared | replaced))
        elif lib == "jax":
            optimizer = samestep.jax.Prodigy()
            update = (
                optimizer.update
                if library == "jax"
                else importlib.import_module("jax").jit(optimizer.update)
            )
            state = optimizer.init(params)
            update(params, state._replace(shared=state.shared | replaced), params)
        elif library == "mlx":
            optimizer = samestep.mlx.Prodigy()
            optimizer.apply_gradients(params, params)
            optimizer.state["shared_state"] |= replaced
            optimizer.apply_gradients(params, params)
        else:
            param = xp.nn.Parameter(params["w"])
            param.grad = params["w"]
            optimizer = samestep.torch.Prodigy([param])
            optimizer.step()
            optimizer.param_groups[0] |= replaced
            optimizer.step()


def test_a_wrapper_shows_the_hyperparameters_of_the_rule_inside():
    rule = Lookahead(AdamW(lr=0.5, weight_decay=0.25))
    assert (rule.lr, rule.weight_decay, rule.decay) == (0.5, 0.25, "decoupled")
    assert rule.sync_period == Lookahead.sync_period.default


def test_a_misspelt_name_on_a_wrapper_is_the_wrapper_s_error():
    rule = Lookahead(AdamW())
    with pytest.raises(AttributeError, match=r"Lookahead: there is no sync_perod; .*sync_period"):
        _ = rule.sync_perod
    with pytest.raises(
        AttributeError, match=r"sync_rate, and AdamW is inside\. Did you mean sync_"
    ):
        _ = rule.sync_perod

    class Helps(SGD, register=False):
        def helped(self):
            return 1

    around = Lookahead(Helps())
    assert around.rule.helped() == 1
    with pytest.raises(AttributeError, match="Lookahead: there is no helped"):
        around.helped()


def test_a_rule_of_rules_without_schedules_is_itself_at_every_step():
    plain = ClipNorm(route((Where(min_ndim=2), Muon()), Lookahead(AdamW())))
    assert plain.at(3) is plain
    scheduled = plain.rule.branches[1].replace(lr=lambda step: 0.5**step)
    around = ClipNorm(route((Where(min_ndim=2), Muon()), scheduled))
    assert around.at(1) is not around
    assert around.at(1).branches[0].rule is around.branches[0].rule
    assert around.at(1).branches[1].rule.hypers["lr"] == 0.5


def test_an_array_is_held_to_the_range_where_its_value_is_known(array):
    for name, values in {"lr": (-0.5, math.nan, math.inf, True, 1j), "eps": (-1.0,)}.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"AdamW\({name}=.*\): {name} must be "):
                AdamW(**{name: array(value)})
    with pytest.raises(ValueError, match="sync_period must be a whole number >= 1"):
        Lookahead(AdamW(), sync_period=array(2.5))
    with pytest.raises(ValueError, match=r"betas must be in \[0, 1\)"):
        AdamW(betas=(0.5, array(1.0)))
    assert AdamW(lr=array(0.5)).lr == 0.5


def test_a_traced_number_is_not_held_to_the_range():
    jax = pytest.importorskip("jax")
    for wrap in (jax.jit, jax.grad, jax.vmap):
        value = jax.numpy.ones(1) if wrap is jax.vmap else 1.0
        wrap(lambda lr: AdamW(lr=-lr).lr)(value)


def test_a_derivative_by_what_a_schedule_reads_is_not_lost():
    jax = pytest.importorskip("jax")
    params = jax.numpy.ones(2)

    def moved(lr):
        rule = SGD(lr=lambda step: 2 * lr)
        return rule.update(params, params, rule.init(params))[0].sum()

    assert jax.grad(moved)(0.5) == -4.0


def test_rules_with_arrays_for_numbers_are_equal_and_hashed_by_value(array):
    one, two = AdamW(lr=array(0.5)), AdamW(lr=array(0.5), betas=(0.9, 0.999))
    assert one == two == AdamW(lr=0.5) != AdamW(lr=array(0.25))
    assert hash(one) == hash(two) == hash(AdamW(lr=0.5))
    assert len({Lookahead(one), Lookahead(two)}) == 1


def test_a_rule_with_a_traced_number_can_be_compared_and_hashed():
    jax = pytest.importorskip("jax")

    def both(lr):
        one, two = AdamW(lr=lr), AdamW(lr=lr)
        assert one == two != AdamW(lr=2 * lr) and hash(one) == hash(two)
        return lr

    jax.jit(both)(0.5)


def test_numbers_in_an_array_are_a_tuple():
    assert AdamW(betas=numpy.array([0.5, 0.75])) == AdamW(betas=(0.5, 0.75))


def test_infinity_is_a_value_only_where_it_means_no_bound():
    assert Prodigy(growth_rate=math.inf).growth_rate == math.inf
    assert (
        LAMB(scale_clip=(0.0, math.inf)).scale_clip == RaLars(scale_clip=(0, math.inf)).scale_clip
    )
    assert Rprop(step_sizes=(0.0, math.inf)).step_sizes[1] == math.inf
    assert samestep.Adafactor(clip_threshold=math.inf).clip_threshold == math.inf
    for name in ("lr", "eps", "weight_decay"):
        with pytest.raises(ValueError, match=f"{name} must be finite and >= 0"):
            AdamW(**{name: math.inf})
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            rule = AdamW(**{name: lambda step: math.inf})
            rule.update({"w": W}, {"w": W}, STATE)


def test_a_schedule_gives_numbers_and_no_schedules():
    rule = AdamW(lr=lambda step: lambda other: 1.0)
    with pytest.raises(ValueError, match=r"lr must be a number >= 0 \(step size\); the schedule"):
        rule.update({"w": W}, {"w": W}, STATE)
    rule = Lookahead(AdamW(), sync_period=lambda step: 2.5)
    with pytest.raises(ValueError, match=r"a whole number >= 1 .* the schedule gave it for step 0"):
        rule.update(W, W, rule.init(W))


def test_combinations_are_refused_when_a_schedule_gives_them():
    rule = TAdam(betas=(lambda step: max(0.0, 0.5 - 0.25 * step), 0.99))
    params, state = W, rule.init(W)
    for _ in range(2):
        params, state = rule.update(W, params, state)
    message = r"TAdam\(betas=\(0, ...\)\): beta1 must be > 0, .*; the schedule gave it for step 2"
    with pytest.raises(ValueError, match=message):
        rule.update(W, params, state)


def test_a_momentum_that_a_schedule_starts_at_zero_may_look_ahead():
    rule = SGD(momentum=lambda step: 0.5 * step, nesterov=True)
    _, state = rule.update(W, W, rule.init(W))
    numpy.testing.assert_array_equal(state.slots["m"], W)
    assert [*rule.at(0).slots()] == ["m"]


@pytest.mark.parametrize("kind", [RAdam, RaLars, AdaBelief])
@pytest.mark.parametrize("beta2", [0.6, 1 / 3, 0.0])
def test_a_short_average_is_never_rectified(kind, beta2):
    """The quotient divides by zero where rho_inf is 4, at beta2 = 0.6, or 2, at 1/3."""
    jax = pytest.importorskip("jax")
    rule = kind(lr=0.1, betas=(0.5, beta2), eps=1e-8)
    expected, state = W, rule.init(W)
    params = jax.numpy.asarray(W, "float32")
    traced, update = rule.init(params), jax.jit(rule.update)
    for t in range(5):
        expected, state = rule.update((0.5 + t) * W, expected, state)
        params, traced = update((0.5 + t) * jax.numpy.ones_like(params), params, traced)
        numpy.testing.assert_allclose(params, expected, rtol=0, atol=1e-6)
    assert numpy.isfinite(expected).all()


def test_a_rule_that_does_not_rectify_has_no_coefficients_for_it():
    assert {"r", "trusted"}.isdisjoint(AdaBelief().at(0).coefficients(numpy, 1))
    assert {"r", "trusted"} <= {*AdaBelief(rectify=True).at(0).coefficients(numpy, 1)}


def test_replacing_by_a_dialect_is_making_the_rule_with_it():
    """What was given stays; what a dialect before had set does not."""
    given = {"lr": 0.5, "eps": 1e-3}
    for name, rule in samestep.registry.items():
        for first in rule.dialects if not issubclass(rule, samestep.Wrapper) else ():
            one = {n for n, f in rule.fields().items() if not isinstance(f.default, tuple)}
            mine = {n: v for n, v in given.items() if n in one}
            made = rule(like=first, **mine)
            for second in rule.dialects:
                assert made.replace(like=second) == rule(like=second, **mine), (name, first, second)
                assert pickle.loads(pickle.dumps(made)).replace(like=second) == made.replace(
                    like=second
                )
    rule = Adam(lr=0.5, betas=(0.5, 0.75))
    later = rule.replace(eps=1e-3).replace(like="keras")
    assert later == Adam(lr=0.5, betas=(0.5, 0.75), eps=1e-3, like="keras")
    assert rule.replace(like="keras", eps=1e-5).hypers["eps"] == 1e-5
    assert rule.at(3).map_numbers(float).replace(like="keras") == rule.replace(like="keras")
    assert rule.replace(like=None) == rule
    wrapped = Lookahead(rule, sync_rate=0.25)
    assert wrapped.replace(like="keras") == Lookahead(rule.replace(like="keras"), sync_rate=0.25)
    both = Lookahead(rule.replace(like="paper"), sync_rate=0.25, sync_period=5)
    assert wrapped.replace(like="paper") == both
    assert wrapped.replace(like="paper", sync_period=7).hypers["sync_period"] == 7


@pytest.mark.parametrize(
    ("name", "value", "base", "meant"),
    [
        ("prepar", lambda self, xp, grad, param, state, s: grad, samestep.Wrapper, "prepare"),
        ("scalers", lambda self, xp, t: {}, samestep.SGD, "scalars"),
        ("need", "tensor", samestep.SGD, "needs"),
    ],
)
def test_a_misspelt_hook_is_named(name: str, value: Any, base: type, meant: str) -> None:
    said = rf"^Slip\.{name}: nothing reads it\. Did you mean '{meant}'\?$"
    with pytest.raises(TypeError, match=said):
        types.new_class("Slip", (base,), {"register": False}, lambda own: own.update({name: value}))


@pytest.mark.parametrize(("name", "meant"), [("rates", "rate"), ("weight_decy", "weight_decay")])
def test_a_misspelt_coefficient_is_named(name: str, meant: str) -> None:
    class Slip(samestep.SGD, register=False):
        def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
            return {**super().scalars(xp, t), name: 0.5}

    said = rf"Slip.scalars returned '{name}', which nothing reads. Did you mean '{meant}'\?"
    rule, param = Slip(lr=0.1), numpy.ones(2)
    for _ in range(2):
        with pytest.raises(ValueError, match=said):
            rule.update(param, param, rule.init(param))


@pytest.mark.parametrize("name", ["keep", "lost", "shrink"])
def test_the_coefficients_of_weight_decay_are_nobody_else_s(name: str) -> None:
    class Taken(samestep.SGD, register=False):
        def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
            return {**super().scalars(xp, t), name: 0.5}

    rule, param = Taken(lr=0.1), numpy.ones(2)
    with pytest.raises(ValueError, match=f"Taken: {name} is a coefficient of weight decay.*name"):
        rule.update(param, param, rule.init(param))


@pytest.mark.parametrize(
    ("word", "meant"), [("start", "lr"), ("only_if", "momentum")], ids=["start", "only_if"]
)
def test_a_slot_of_a_misspelt_number_is_refused_where_it_is_declared(word: str, meant: str) -> None:
    given: Any = {word: f"{meant}s"}
    body = {"m": samestep.slot("mean of the gradient", **given)}
    said = (
        rf"^Slip\.m: {word}='{meant}s' is no hyperparameter of the rule\. Did you mean {meant}\?$"
    )
    with pytest.raises(TypeError, match=said):
        types.new_class("Slip", (samestep.SGD,), {"register": False}, lambda own: own.update(body))


@pytest.mark.parametrize("name", ["jax", "mlx"])
def test_the_repr_of_an_optimizer_is_its_rule_with_every_number(name):
    pytest.importorskip(name)
    adapter = getattr(samestep, name)
    rule = Lookahead(AdamW(lr=0.5, like="torch"), sync_rate=0.25)
    text = repr(adapter.bind(rule))
    assert text == (
        f"samestep.{name}.bind(Lookahead(AdamW(lr=0.5, betas=(0.9, 0.999), eps=1e-08, "
        "eps_root=0.0, weight_decay=0.01), sync_period=6, sync_rate=0.25))"
    )
    assert repr(eval(text)) == text
    assert "lr=0.001" in repr(adapter.AdamW()) and "<" not in repr(adapter.bind(route(rule)))


def test_the_repr_of_an_optimizer_of_mlx_has_the_rate_of_now():
    pytest.importorskip("mlx")
    optimizer = samestep.mlx.AdamW(lr=0.5)
    optimizer.learning_rate = 0.25
    assert "lr=0.25" in repr(optimizer)
