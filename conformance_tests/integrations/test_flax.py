"""Flax: the NNX ``Optimizer`` and the Linen ``TrainState``, beside optax's own optimizers.

Everything is in float64, compiled, with batch normalisation, whose statistics are no parameters.
"""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.conformance.integrations import OWN_WARNINGS, agree, kinds, pairs, same, within

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
flax = pytest.importorskip("flax")
adapter = pytest.importorskip("samestep.jax")
from flax import linen, nnx  # noqa: E402  (after flax has been looked for)
from flax.training.train_state import TrainState  # noqa: E402

jnp = jax.numpy

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

PAIRS = pairs("optax")
STEPS = 30


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def native(name):
    rule, peer = PAIRS[name]
    return peer.make(optax, rule.hypers)


def batch(step):
    """Inputs and targets whose gradients change sign and scale."""
    one, two = jax.random.split(jax.random.key(step))
    x, y = jax.random.normal(one, (8, 6)), jax.random.normal(two, (8, 2))
    return x, 10.0 ** (step % 3 - 1) * y


class Model(nnx.Module):
    """Two layers, with a normalisation between that keeps statistics."""

    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, use_bias=False, rngs=rngs, param_dtype=jnp.float64)
        self.norm = nnx.BatchNorm(8, rngs=rngs, param_dtype=jnp.float64)
        self.last = nnx.Linear(8, 2, rngs=rngs, param_dtype=jnp.float64)

    def __call__(self, x):
        return self.last(jnp.tanh(self.norm(self.first(x))))


def loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


@nnx.jit
def step(model, optimizer, x, y):
    value, grads = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, optimizer.wrt))(model, x, y)
    optimizer.update(model, grads)
    return value


def begin(transformation, wrt=nnx.Param):
    model = Model(nnx.Rngs(0))
    return model, nnx.Optimizer(model, transformation, wrt=wrt)


def train(model, optimizer, steps=range(STEPS)):
    for index in steps:
        step(model, optimizer, *batch(index))
    return model, optimizer


def weights(model, wrt=nnx.Param):
    flat = nnx.to_flat_state(nnx.as_pure(nnx.state(model, wrt)))
    return {".".join(map(str, path)): array for path, array in flat}


def leaves(node):
    return jax.tree.leaves(nnx.as_pure(nnx.state(node)))


@pytest.mark.parametrize("name", PAIRS)
def test_nnx_trains_to_the_weights_of_optax_with_every_rule_that_optax_has(name):
    rule = PAIRS[name][0]
    if rule.min_ndim:
        pytest.skip("the biases are vectors")
    (ours, optimizer), (theirs, _) = train(*begin(adapter.bind(rule))), train(*begin(native(name)))
    first = Model(nnx.Rngs(0))
    agree(weights(ours), weights(theirs), weights(first), within(PAIRS[name]))
    kept = [weights(model, nnx.BatchStat) for model in (ours, theirs)]
    for one, other in zip(*(found.values() for found in kept), strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # in float32
    assert int(optimizer.step[...]) == int(optimizer.opt_state.step[...]) == STEPS


def test_what_is_split_steps_and_is_merged_as_if_it_had_stayed_whole():
    transformation = adapter.AdamW(lr=0.01, weight_decay=0.1)
    whole, optimizer = train(*begin(transformation))
    definition, state = nnx.split(begin(transformation))

    @jax.jit
    def functional(state, x, y):
        model, optimizer = nnx.merge(definition, state)
        grads = nnx.grad(loss)(model, x, y)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer))

    for index in range(STEPS):
        state = functional(state, *batch(index))
    model, other = nnx.merge(definition, state)
    assert same(leaves(whole), leaves(model))
    assert same(leaves(optimizer), leaves(other))


def test_layers_that_are_left_out_have_no_state_and_stay():
    wrt = nnx.All(nnx.Param, nnx.PathContains("last"))
    (ours, optimizer), (theirs, _) = (
        train(*begin(transformation, wrt))
        for transformation in (adapter.bind(PAIRS["AdamW"][0]), native("AdamW"))
    )
    first = Model(nnx.Rngs(0))
    agree(*(weights(model, wrt) for model in (ours, theirs, first)), within(PAIRS["AdamW"]))
    rest = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("last")))
    assert same(weights(ours, rest).values(), weights(first, rest).values())
    assert {*optimizer.opt_state.slots["m"]} == {"last"}


@pytest.mark.parametrize("rule", kinds().values(), ids=kinds())
def test_an_nnx_optimizer_goes_on_from_its_pure_state(rule):
    """Kept as plain arrays and put into a new optimizer, as checkpoints are."""
    whole = train(*begin(adapter.bind(rule)), range(3))
    kept = jax.device_get(nnx.as_pure(nnx.state(whole)))
    train(*whole, range(3, 6))
    resumed = begin(adapter.bind(rule))
    nnx.update(resumed, kept)
    train(*resumed, range(3, 6))
    assert same(leaves(whole[0]), leaves(resumed[0]))
    assert same(leaves(whole[1]), leaves(resumed[1]))


@pytest.mark.parametrize("path", ["first.kernel", "*.kernel", "last.bias"])
def test_predicates_see_the_paths_of_the_module(path):
    """The same when state is made, where NNX shows variables, as in a step, where it has arrays."""
    seen = set()

    def chosen(parameter):
        seen.add(parameter.path)
        return samestep.Where(path=path)(parameter)

    rule = samestep.route((chosen, samestep.SGD(lr=0.1, momentum=0.9)), samestep.SGD(lr=0.1))
    _, optimizer = train(*begin(adapter.bind(rule)), range(3))
    assert seen == {*weights(Model(nnx.Rngs(0)))}
    kept = nnx.to_flat_state(nnx.as_pure(optimizer.opt_state.slots["m"]))
    matching = {
        name for name in seen if samestep.Where(path=path)(samestep.groups.Parameter(name, ()))
    }
    assert {".".join(found) for found, array in kept if array is not None} == matching


class Network(linen.Module):
    """The same in Linen."""

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(8, use_bias=False, param_dtype=jnp.float64)(x)
        x = linen.BatchNorm(use_running_average=False, param_dtype=jnp.float64)(x)
        return linen.Dense(2, param_dtype=jnp.float64)(jnp.tanh(x))


class Normalised(TrainState):
    """A train state with the statistics of the normalisation, as Flax's guide has it."""

    batch_stats: object


def created(transformation):
    network = Network()
    variables = network.init(jax.random.key(0), batch(0)[0])
    return Normalised.create(
        apply_fn=network.apply,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        tx=transformation,
    )


@jax.jit
def one(state, x, y):
    def value(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        found, changed = state.apply_fn(variables, x, mutable=["batch_stats"])
        return jnp.mean((found - y) ** 2), changed["batch_stats"]

    grads, statistics = jax.grad(value, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, batch_stats=statistics)


def advanced(state, steps=range(STEPS)):
    for index in steps:
        state = one(state, *batch(index))
    return state


def named(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat}


@pytest.mark.parametrize("name", PAIRS)
def test_a_train_state_reaches_the_weights_of_optax_with_every_rule_that_optax_has(name):
    rule = PAIRS[name][0]
    if rule.min_ndim:
        pytest.skip("the biases are vectors")
    ours, theirs = advanced(created(adapter.bind(rule))), advanced(created(native(name)))
    first = created(native(name))
    agree(*(named(state.params) for state in (ours, theirs, first)), within(PAIRS[name]))
    assert int(ours.step) == int(ours.opt_state.step) == STEPS


@pytest.mark.parametrize("rule", kinds().values(), ids=kinds())
def test_a_train_state_goes_on_from_its_bytes(rule):
    half = advanced(created(adapter.bind(rule)), range(3))
    saved = flax.serialization.to_bytes(half)
    restored = flax.serialization.from_bytes(created(adapter.bind(rule)), saved)
    whole, resumed = advanced(half, range(3, 6)), advanced(restored, range(3, 6))
    assert jax.tree.structure(whole.opt_state) == jax.tree.structure(resumed.opt_state)
    assert same(jax.tree.leaves(whole), jax.tree.leaves(resumed))


def test_swapped_restores_the_variables_of_an_nnx_module():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    before, params = numpy.array(model.kernel[...]), nnx.state(model)
    zeros = jax.tree.map(jnp.zeros_like, params)
    with samestep.swapped(lambda tree: nnx.update(model, tree), params, zeros):
        assert not model.kernel[...].any()
    numpy.testing.assert_array_equal(model.kernel[...], before)


@pytest.mark.parametrize("name", ["Adafactor", pytest.param("SM3", marks=pytest.mark.thorough)])
def test_slots_of_several_arrays_keep_their_structure_in_nnx(name):
    """So a loop can carry them, orbax can restore them, and every step is that of a plain tree."""
    transformation = getattr(adapter, name)(lr=0.1)
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    plain = {"kernel": model.kernel[...], "bias": model.bias[...]}
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    fresh = jax.tree.structure(nnx.state(optimizer))

    def loss_of(kernel, bias):
        return ((jnp.linspace(-1.0, 2.0, 8).reshape(2, 4) @ kernel + bias - 1.0) ** 2).sum()

    for _ in range(3):
        optimizer.update(model, nnx.grad(lambda m: loss_of(m.kernel[...], m.bias[...]))(model))
        assert jax.tree.structure(nnx.state(optimizer)) == fresh
    kept = transformation.init(plain)
    for _ in range(3):
        grads = jax.grad(lambda tree: loss_of(**tree))(plain)
        updates, kept = transformation.update(grads, kept, plain)
        plain = optax.apply_updates(plain, updates)
    numpy.testing.assert_allclose(model.kernel[...], plain["kernel"], rtol=1e-12)
    numpy.testing.assert_allclose(model.bias[...], plain["bias"], rtol=1e-12)
    own = nnx.state(model)
    begun = transformation.init(own)
    _, state = samestep.restore(
        transformation, samestep.checkpoint(transformation, own, begun), own
    )
    assert jax.tree.structure(state) == jax.tree.structure(begun)
