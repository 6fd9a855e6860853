"""Rules as triples, compared with ``jax.example_libraries``; states as flat dicts and back."""

from __future__ import annotations

import pickle
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pytest

import samestep
from samestep.functional import TripleState, pack_state, triple, unpack_state
from samestep.schedules import InverseTimeDecay, Join, PiecewiseConstant, PolynomialDecay

STEPS = 100


class Pair(NamedTuple):
    first: object
    second: object


def values(seed, scale=1.0):
    """A tree of every kind of node, of float32 arrays; some gradients are exactly 0."""
    rng = np.random.default_rng(seed)

    def one(*shape):
        drawn = scale * rng.standard_normal(shape) * 10 ** rng.uniform(-2, 1)
        return np.asarray(drawn * (rng.uniform(size=shape) > 0.1), np.float32)

    return {"w": one(3, 2), "list": [one(4), one()], "pair": (one(2, 2), Pair(one(1), None))}


def mapped(function, tree):
    return samestep.tree.rebuild(tree, lambda path, leaf: function(leaf))


def arrays(tree):
    return [array for _, array in samestep.tree.leaves(tree)]


def train(functions, state, steps, array=lambda leaf: leaf):
    update = functions[1]
    for i in steps:
        state = update(i, mapped(array, values(1000 + i)), state)
    return state


def bits(flat):
    return {key: (str(a.dtype), a.shape, np.asarray(a).tobytes()) for key, a in flat.items()}


RULES = {
    "adam": samestep.Adam(lr=0.01),
    "momentum": samestep.SGD(lr=InverseTimeDecay(0.01, 10, 0.5), momentum=0.9),
    "factored": samestep.SM3(),
    "tree": samestep.Prodigy(),
    "wrapped": samestep.Lookahead(samestep.AdamW(lr=0.01), 3),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


# Compared with JAX's own.


PIECES = (30, 60), (0.03, 0.01, 0.003)
SGD, Adam = samestep.SGD, samestep.Adam
PAIRS = {
    "sgd": (SGD(lr=0.02), lambda jax: jax.sgd(0.02)),
    "sgd, inverse time": (
        SGD(lr=InverseTimeDecay(0.02, 10, 0.5, staircase=True)),
        lambda jax: jax.sgd(jax.inverse_time_decay(0.02, 10, 0.5, staircase=True)),
    ),
    "momentum": (SGD(lr=0.01, momentum=0.9), lambda jax: jax.momentum(0.01, 0.9)),
    "momentum, pieces": (
        SGD(lr=PiecewiseConstant(*PIECES), momentum=0.9),
        lambda jax: jax.momentum(jax.piecewise_constant(*PIECES), 0.9),
    ),
    "nesterov": (SGD(lr=0.01, momentum=0.9, nesterov=True), lambda jax: jax.nesterov(0.01, 0.9)),
    "adam": (Adam(lr=0.01), lambda jax: jax.adam(0.01)),
    "adam, polynomial": (
        Adam(lr=PolynomialDecay(0.02, 50, 0.001, 2.0), betas=(0.8, 0.99), eps=1e-6),
        lambda jax: jax.adam(jax.polynomial_decay(0.02, 50, 0.001, 2.0), 0.8, 0.99, 1e-6),
    ),
}
"""Our rule and the optimizer of the same meaning, each with the schedule of its library."""


@pytest.mark.parametrize("name", PAIRS)
def test_a_hundred_jitted_steps_are_those_of_jax_example_libraries(name):
    """JAX's bias correction is ``1 - beta**t`` in float32: relative errors of 1e-5 at first."""
    jax = pytest.importorskip("jax")
    rule, make = PAIRS[name]
    ours, theirs = triple(rule), make(pytest.importorskip("jax.example_libraries.optimizers"))
    params = mapped(jax.numpy.asarray, values(0))
    state, their_state = ours.init(params), theirs.init_fn(params)
    traces = []

    @jax.jit
    def update(i, grads, state):
        traces.append(i)
        return ours.update(i, grads, state)

    their_update = jax.jit(theirs.update_fn)
    tolerance = 4e-5 if "adam" in name else 4e-6
    for i in range(STEPS):
        grads = mapped(jax.numpy.asarray, values(1000 + i))
        state, their_state = update(i, grads, state), their_update(i, grads, their_state)
    assert len(traces) == 1
    found, expected = ours.get_params(state), theirs.params_fn(their_state)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for new, their, old in zip(*map(jax.tree.leaves, (found, expected, params)), strict=True):
        scale = np.abs(np.asarray(their) - np.asarray(old)).max()
        assert scale > 0
        np.testing.assert_allclose(new, their, rtol=0, atol=tolerance * max(scale, 1))


def test_a_loop_inside_jax_carries_the_state():
    jax = pytest.importorskip("jax")
    ours = triple(samestep.Adam(lr=InverseTimeDecay(0.1, 5, 1.0)))
    params = {"w": jax.numpy.ones(3)}

    def body(i, state):
        return ours.update(i, ours.get_params(state), state)

    looped = jax.lax.fori_loop(0, 20, body, ours.init(params))
    state = ours.init(params)
    for i in range(20):
        state = body(i, state)
    np.testing.assert_allclose(looped.params["w"], state.params["w"], rtol=1e-5)
    assert int(looped.state.step) == state.state.step == 20


# Every library and every kind of rule.


@every_rule
def test_a_triple_is_its_rule(array, rule):
    ours = triple(rule)
    params = mapped(array, values(0))
    state = train(ours, ours.init(params), range(5), array)
    expected, rule_state = params, rule.init(params)
    for i in range(5):
        expected, rule_state = rule.update(mapped(array, values(1000 + i)), expected, rule_state)
    found = ours.get_params(state)
    assert bits(unpack_state(state)) == bits(unpack_state(TripleState(expected, rule_state)))
    assert isinstance(found["pair"][1], Pair) and found["pair"][1].second is None
    assert state.state.step == 5


def test_parameters_are_what_init_was_given():
    params = values(0)
    init, _, get_params = triple(samestep.Adam())
    assert get_params(init(params)) is params


def test_the_caller_s_step_decides():
    ours = triple(samestep.SGD(lr=Join((1.0, 10.0), (7,))))
    state = ours.init(np.zeros(1))
    assert ours.update(6, np.ones(1), state).params == -1.0
    later = ours.update(np.int64(7), np.ones(1), state)
    assert later.params == -10.0
    assert later.state.step == 8 and type(later.state.step) is int


def test_nothing_passed_in_is_changed():
    ours = triple(samestep.Adam())
    state = ours.init(values(0))
    before = bits(unpack_state(state))
    train(ours, state, range(2))
    assert bits(unpack_state(state)) == before


def test_wrong_arguments_are_refused_in_words():
    with pytest.raises(TypeError, match=r"triple\('adam'\): give a rule such as"):
        triple("adam")
    ours = triple(samestep.Adam())
    state = ours.init(np.zeros(2))
    with pytest.raises(TypeError, match="got a state of State; it must be what"):
        ours.update(0, np.zeros(2), state.state)
    with pytest.raises(TypeError, match=r"got i = 0\.5; it must be the index of the step"):
        ours.update(0.5, np.zeros(2), state)


# Flat dicts and back.


def test_keys_say_where_an_array_belongs():
    rule = samestep.SGD(momentum=0.9)
    state = triple(rule).init({"a": [np.zeros(1), np.ones(2)], "b/c~": np.zeros(3)})
    assert {key: value.shape for key, value in unpack_state(state).items()} == {
        "step": (),
        **{f"params/{path}": s for path, s in [("a/0", (1,)), ("a/1", (2,)), ("b~1c~0", (3,))]},
        **{f"slots/m/{path}": s for path, s in [("a/0", (1,)), ("a/1", (2,)), ("b~1c~0", (3,))]},
    }
    assert {*unpack_state(rule.init(np.zeros(1)))} == {"step", "slots/m"}
    shared = {*unpack_state(samestep.Prodigy().init(np.zeros(1)))}
    assert {key for key in shared if key.startswith("shared/")} == {
        f"shared/{name}" for name in samestep.Prodigy().shared()
    }


def test_keys_that_only_look_alike_stay_apart():
    tricky = {"a/b": 0, "a": {"b": 1, "~1b": 2, "/": 3, "": 4}, "a~1b": 5, "": {"": 6}}
    params = mapped(lambda number: np.full(1, float(number)), tricky)
    state = triple(samestep.SGD()).init(params)
    flat = unpack_state(state)
    assert len(flat) == 7 + 1
    again = pack_state(flat, state)
    assert [float(a[0]) for a in arrays(again.params)] == [*map(float, range(7))]


def test_keys_written_alike_are_refused():
    state = samestep.SGD(momentum=0.9).init({1: np.zeros(1), "1": np.zeros(1)})
    with pytest.raises(ValueError, match="two entries are called 'slots/m/1'; rename one"):
        unpack_state(state)


@every_rule
def test_a_state_survives_a_file(array, rule, tmp_path):
    ours = triple(rule)
    fresh = ours.init(mapped(array, values(0)))
    state = train(ours, fresh, range(4), array)
    flat = {key: np.asarray(value) for key, value in unpack_state(state).items()}
    np.savez(tmp_path / "state.npz", **flat)
    with np.load(tmp_path / "state.npz") as stored:
        again = pack_state(stored, fresh)
    assert bits(unpack_state(again)) == bits(unpack_state(state))
    assert type(again.params["w"]) is type(state.params["w"])
    assert again.state.step == 4
    on, straight = (train(ours, s, range(4, 7), array) for s in (again, state))
    assert bits(unpack_state(on)) == bits(unpack_state(straight))


@every_rule
def test_going_on_after_pickling_in_jax_is_bit_for_bit_the_same(rule):
    jax = pytest.importorskip("jax")
    ours = triple(rule)
    update = jax.jit(ours.update)
    fresh = ours.init(mapped(jax.numpy.asarray, values(0)))
    state = train((None, update), fresh, range(10))
    again = pack_state(pickle.loads(pickle.dumps(unpack_state(state))), fresh)
    on, straight = (train((None, update), s, range(10, 20)) for s in (again, state))
    assert bits(unpack_state(on)) == bits(unpack_state(straight))


def test_a_rule_s_own_state_goes_the_same_way():
    rule, params = samestep.Adam(), values(0)
    fresh = rule.init(params)
    _, state = rule.update(values(1), params, fresh)
    flat = unpack_state(state)
    assert not any(key.startswith("params") for key in flat)
    again = pack_state(flat, fresh)
    assert type(again) is samestep.State and again.step == 1
    assert bits(unpack_state(again)) == bits(flat)


@pytest.mark.parametrize("library", ["numpy", "jax.numpy"])
def test_counts_of_missed_calls_go_the_same_way(library):
    """From a state with counts into one without, and into one with others."""
    array = pytest.importorskip(library).asarray
    ours = triple(samestep.NAdam(lr=0.1))
    fresh = ours.init({name: array(np.ones(2, np.float32)) for name in "abc"})

    def stepped(state, *names):
        grads = {name: array(np.full(2, 0.5, np.float32)) for name in names}
        return ours.update(int(state.state.step), grads, state)

    state, other = stepped(stepped(fresh, "a", "b"), "a"), stepped(fresh, "b")
    flat = unpack_state(state)
    of = f"{crc32(chr(10).join('abc').encode()):08x}"
    assert {key for key in flat if "missed" in key} == {
        f"shared/step missed by 1 of {of}",
        f"shared/step missed by 2 of {of}",
    }
    for like in (fresh, other):
        again = pack_state(flat, like)
        assert bits(unpack_state(stepped(again, *"abc"))) == bits(
            unpack_state(stepped(state, *"abc"))
        )
    assert "missed" not in str(unpack_state(pack_state(unpack_state(fresh), other)))
    for key, value, words in (
        ("shared/step missed by 1", np.asarray(1.5), "1.5; it must be a whole number"),
        ("shared/step missed by x", np.asarray(1), "too many: shared/step missed by x"),
    ):
        with pytest.raises(ValueError, match=words):
            pack_state({**flat, key: value}, fresh)


def test_a_state_moves_to_another_library():
    jnp, torch = pytest.importorskip("jax.numpy"), pytest.importorskip("torch")
    ours = triple(samestep.Adam())
    state = train(ours, ours.init(mapped(jnp.asarray, values(0))), range(3), jnp.asarray)
    flat = {key: np.asarray(value) for key, value in unpack_state(state).items()}
    moved = pack_state(flat, ours.init(mapped(torch.tensor, values(5))))
    assert all(type(array) is torch.Tensor for array in arrays(moved.params))
    for ours_, theirs in zip(arrays(moved.params), arrays(state.params), strict=True):
        np.testing.assert_array_equal(ours_.numpy(), np.asarray(theirs))


@pytest.mark.parametrize("library", ["jax.numpy", "torch", "mlx.core"])
def test_bfloat16_survives_a_file(library, tmp_path):
    """NumPy does not know it: its bits are written, with its name behind the key."""
    xp = pytest.importorskip(library)
    array = xp.tensor if library == "torch" else xp.array
    params = {"w": array([1.5, -2.0], dtype=xp.bfloat16), "b/": array(0.1, dtype=xp.bfloat16)}
    rule = samestep.Adam(state_dtype={"v": "float32"})
    fresh = rule.init(params)
    _, state = rule.update(params, params, fresh)
    flat = unpack_state(state)
    keys = ["slots/m/w~bfloat16", "slots/m/b~1~bfloat16", "slots/v/w", "slots/v/b~1"]
    assert [*flat] == ["step", *keys]
    np.savez(tmp_path / "state.npz", **flat)
    with np.load(tmp_path / "state.npz") as stored:
        assert stored["slots/m/w~bfloat16"].dtype == np.uint16
        again = pack_state(stored, fresh)
    for slot, path in (("m", "w"), ("m", "b/"), ("v", "w"), ("v", "b/")):
        new, old = again.slots[slot][path], state.slots[slot][path]
        assert type(new) is type(old) and new.dtype == old.dtype and new.shape == old.shape
        assert new.tolist() == old.tolist()
    with pytest.raises(ValueError, match=r"'slots/m/w' has dtype bfloat16; it must be .*float32"):
        pack_state(flat, rule.replace(state_dtype="float32").init(params))
    with pytest.raises(ValueError, match=r"^pack_state: too many: slots/m/w(~bfloat16)?$"):
        pack_state({**flat, "slots/m/w": state.slots["m"]["w"]}, fresh)


@pytest.mark.parametrize("step", [3.7, -3, float("nan"), True, np.asarray(2.5), "2"])
def test_a_step_that_counts_nothing_is_refused(step):
    state = samestep.SGD().init({"w": np.zeros(1)})
    with pytest.raises(
        ValueError, match=r"pack_state: 'step' is .*; it must be a whole number >= 0"
    ):
        pack_state({**unpack_state(state), "step": step}, state)
    assert pack_state({**unpack_state(state), "step": np.asarray(3)}, state).step == 3


@pytest.mark.parametrize(
    "i", [0.5, 2.0, -3, True, np.asarray(0.5), np.asarray(-1), None, np.ones(1)]
)
def test_an_index_that_is_no_step_is_refused(i):
    ours = triple(samestep.SGD())
    with pytest.raises(
        TypeError, match=r"SGD: update\(i, grads, state\) got i = .*number >= 0 or a"
    ):
        ours.update(i, np.ones(1), ours.init(np.ones(1)))
    assert ours.update(np.asarray(4), np.ones(1), ours.init(np.ones(1))).state.step == 5


def test_a_traced_index_is_a_whole_number():
    jax = pytest.importorskip("jax")
    ours = triple(samestep.SGD())
    state, grads = ours.init(jax.numpy.ones(1)), jax.numpy.ones(1)
    assert jax.jit(ours.update)(2, grads, state).state.step == 3
    with pytest.raises(TypeError, match="it must be the index of the step"):
        jax.jit(ours.update)(2.5, grads, state)


def test_what_does_not_fit_is_refused_by_its_key():
    state = triple(samestep.Adam()).init({"a": [np.zeros(2)], "b": np.zeros((2, 1))})
    flat = unpack_state(state)
    missing = {key: value for key, value in flat.items() if key != "slots/v/a/0"}
    with pytest.raises(ValueError, match=r"^pack_state: missing: slots/v/a/0$"):
        pack_state(missing, state)
    with pytest.raises(ValueError, match=r"missing: slots/v/a/0; too many: c, slots/v/0$"):
        pack_state(missing | {"slots/v/0": np.zeros(2), "c": np.zeros(1)}, state)
    with pytest.raises(ValueError, match=r"'params/b' has shape \(2,\); it must be \(2, 1\)"):
        pack_state(flat | {"params/b": np.zeros(2)}, state)
    with pytest.raises(ValueError, match="'params/b' has dtype float32; it must be float64"):
        pack_state(flat | {"params/b": np.zeros((2, 1), np.float32)}, state)
    with pytest.raises(ValueError, match=r"'step' has shape \(1,\); it must be \(\)"):
        pack_state(flat | {"step": np.zeros(1, int)}, state)
    with pytest.raises(TypeError, match="pack_state: the first argument is int; it must be a dict"):
        pack_state(3, state)
    with pytest.raises(TypeError, match=r"the state is dict; it must be a samestep\.State or a"):
        pack_state(flat, {})
    with pytest.raises(TypeError, match="unpack_state: 'slots/m' is object, not an array"):
        unpack_state(samestep.State(0, {"m": object()}, {}))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("kind", [np.matrix, np.ma.masked_array])
def test_arrays_of_numpy_with_another_arithmetic_are_refused(kind):
    rule, params = samestep.Muon(lr=0.1), {"w": kind([[1.0, 2.0], [3.0, 4.0]])}
    with pytest.raises(TypeError, match=r"Muon: parameter 'w' is .*; give numpy\.asarray"):
        rule.init(params)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
@pytest.mark.parametrize("library", ["numpy", "jax.numpy"])
def test_a_state_of_another_kind_of_number_is_refused(library, dtype):
    """Momentum in whole numbers would be 0."""
    xp = pytest.importorskip(library)
    rule, params = samestep.SGD(lr=0.1, momentum=0.9), {"w": xp.ones(2)}
    state = rule.init(params)._replace(slots={"m": {"w": xp.zeros(2, getattr(xp, dtype))}})
    words = rf"SGD: the state of 'w' has a slot m that is {dtype}; it must be of bfloat16, float16"
    with pytest.raises(ValueError, match=words):
        rule.update(params, params, state)


@pytest.mark.parametrize("step", [-1, 2.5, None, np.float64(3), np.zeros(2, int)])
def test_a_state_s_step_is_a_whole_number(step):
    rule, params = samestep.Adam(), {"w": np.ones(2)}
    with pytest.raises(ValueError, match=r"state's step is .*; it must be a whole number >= 0"):
        rule.update(params, params, rule.init(params)._replace(step=step))
