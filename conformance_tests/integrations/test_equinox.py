"""Equinox: models whose leaves are arrays, functions, ``None`` and static fields.

Expected values are those of optax's own optimizers in the same loop, in float64.
"""

from __future__ import annotations

import pytest

from samestep.conformance.integrations import OWN_WARNINGS, agree, kinds, pairs, same, within

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
eqx = pytest.importorskip("equinox")
adapter = pytest.importorskip("samestep.jax")

jnp = jax.numpy

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

PAIRS = pairs("optax")
STEPS = 30


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


class Model(eqx.Module):
    """An array, a function, nothing, a static number and an integer array, beside two layers."""

    mlp: eqx.nn.MLP
    head: eqx.nn.Linear
    scale: jax.Array
    nothing: None
    counts: jax.Array
    times: int = eqx.field(static=True)

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.mlp = eqx.nn.MLP(6, 8, 8, 1, activation=jax.nn.tanh, key=one)
        self.head = eqx.nn.Linear(8, 2, use_bias=False, key=two)
        self.scale = jnp.ones(())
        self.nothing = None
        self.counts = jnp.arange(3)
        self.times = 2

    def __call__(self, x):
        return self.times * self.scale * self.head(self.mlp(x))


def native(name):
    rule, peer = PAIRS[name]
    return peer.make(optax, rule.hypers)


def model():
    return Model(jax.random.key(0))


def batch(step):
    """Inputs and targets whose gradients change sign and scale."""
    one, two = jax.random.split(jax.random.key(step))
    x, y = jax.random.normal(one, (8, 6)), jax.random.normal(two, (8, 2))
    return x, 10.0 ** (step % 3 - 1) * y


def loss(model, x, y):
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


def arrays(model):
    return eqx.filter(model, eqx.is_inexact_array)


@eqx.filter_jit
def step(model, state, optimizer, x, y):
    _, grads = eqx.filter_value_and_grad(loss)(model, x, y)
    updates, state = optimizer.update(grads, state, arrays(model))
    return eqx.apply_updates(model, updates), state


def train(optimizer, model, state=None, steps=range(STEPS)):
    state = optimizer.init(arrays(model)) if state is None else state
    for index in steps:
        model, state = step(model, state, optimizer, *batch(index))
    return model, state


def weights(model):
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays(model))
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat}


@pytest.mark.parametrize("name", PAIRS)
def test_a_model_reaches_the_weights_of_optax_with_every_rule_that_optax_has(name):
    rule = PAIRS[name][0]
    if name == "SM3":
        pytest.skip("optax's looks for a first axis, which a number does not have")
    ours, state = train(adapter.bind(rule), model())
    theirs, _ = train(native(name), model())
    agree(weights(ours), weights(theirs), weights(model()), within(PAIRS[name]))
    assert jax.tree.structure(ours) == jax.tree.structure(model())
    assert ours.mlp.activation is jax.nn.tanh and ours.nothing is None and ours.times == 2
    assert (ours.counts == jnp.arange(3)).all()
    for slot in state.slots.values():
        assert slot.nothing is None and slot.head.bias is None and slot.counts is None


def test_frozen_layers_are_partitioned_off():
    """``eqx.partition`` by a filter that only the head passes."""

    def head(optimizer):
        chosen = eqx.tree_at(lambda m: m.head.weight, jax.tree.map(lambda _: False, model()), True)
        moving, still = eqx.partition(model(), chosen)
        state = optimizer.init(moving)

        @eqx.filter_jit
        def one(moving, state, x, y):
            grads = eqx.filter_grad(lambda part: loss(eqx.combine(part, still), x, y))(moving)
            updates, state = optimizer.update(grads, state, moving)
            return eqx.apply_updates(moving, updates), state

        for index in range(STEPS):
            moving, state = one(moving, state, *batch(index))
        return moving, eqx.combine(moving, still)

    ours, whole = head(adapter.bind(PAIRS["AdamW"][0]))
    theirs, _ = head(native("AdamW"))
    first = {".head.weight": model().head.weight}
    agree(weights(ours), weights(theirs), first, within(PAIRS["AdamW"]))
    assert same(jax.tree.leaves(arrays(whole.mlp)), jax.tree.leaves(arrays(model().mlp)))


@pytest.mark.parametrize("rule", kinds().values(), ids=kinds())
def test_model_and_state_go_on_from_their_file(rule, tmp_path):
    optimizer = adapter.bind(rule)
    half = train(optimizer, model(), steps=range(3))
    eqx.tree_serialise_leaves(tmp_path / "saved.eqx", half)
    like = model(), optimizer.init(arrays(model()))
    restored = eqx.tree_deserialise_leaves(tmp_path / "saved.eqx", like)
    whole, resumed = (train(optimizer, *pair, range(3, 6)) for pair in (half, restored))
    compared = [jax.tree.leaves(eqx.filter(pair, eqx.is_array)) for pair in (whole, resumed)]
    assert same(*compared)


def test_an_ensemble_trains_as_its_members():
    """``eqx.filter_vmap`` over models, states and steps."""
    optimizer = adapter.bind(PAIRS["AdamW"][0])
    keys = jax.random.split(jax.random.key(0), 3)
    ensemble = eqx.filter_vmap(Model)(keys)
    state = eqx.filter_vmap(lambda member: optimizer.init(arrays(member)))(ensemble)
    together = eqx.filter_vmap(step, in_axes=(eqx.if_array(0), 0, None, None, None))
    for index in range(STEPS):
        ensemble, state = together(ensemble, state, optimizer, *batch(index))
    for place, key in enumerate(keys):
        alone, _ = train(optimizer, Model(key))
        member = jax.tree.map(lambda leaf, i=place: leaf[i], arrays(ensemble))
        agree(weights(member), weights(alone), weights(Model(key)), within(PAIRS["AdamW"]))


def test_what_is_no_parameter_is_refused_by_name():
    optimizer = adapter.AdamW()
    with pytest.raises(TypeError, match=r"AdamW: parameter 'mlp\.activation' is .*; it must be an"):
        optimizer.init(model())
    with pytest.raises(TypeError, match=r"AdamW: parameter 'counts' has dtype int"):
        optimizer.init(eqx.filter(model(), eqx.is_array))
