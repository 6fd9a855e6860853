"""What a step computes in MLX: modules, compiled steps, narrow parameters.

The expected values are those of the rule stepped on NumPy arrays, within ``ULP`` float32 ULP per
step of the largest value in the array, or those of an optimizer that must be the same
to the last bit.
"""

from __future__ import annotations

import math
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn, optimizers, utils

import samestep
import samestep.mlx as adapter
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.mlx_trees import assert_equal, flat
from samestep.conformance.harness.parametrized import each_rule

RULES = each_rule()
ULP = 3
MATRIX = 30  # the Newton-Schulz iteration amplifies what rounding leaves in small singular values


def native(rule, **options):
    """The class of the rule's name, with the rule's values."""
    return made(adapter, rule, **options)


def arrays(rule, seed, dtype=mx.float32):
    """A tree with a list and a dict in it; gradients come from other seeds."""
    rng, extra = np.random.default_rng(seed), (2, 2)[: rule.min_ndim]

    def array(*shape):
        values = rng.standard_normal((*shape, *extra)) * 10.0 ** rng.integers(-2, 1)
        return mx.array(values.astype(np.float32)).astype(dtype)

    return {"layers": [{"w": array(3)}, {"w": array(2, 3), "b": array(2)}], "scale": array()}


def train(optimizer, rule, params, steps):
    for t in steps:
        params = {**params, **optimizer.apply_gradients(arrays(rule, 100 + t), params)}
    return params


def numpy(tree):
    return utils.tree_map(lambda x: np.array(x.astype(mx.float32)), tree)


def assert_close(rule, actual, expected, start, steps=1):
    actual, expected, start = flat(actual), flat(expected), flat(start)
    ulp = MATRIX if rule.needs == "matrix" else ULP
    for path, value in expected.items():
        a, b, p = (
            np.array(x.astype(mx.float32) if isinstance(x, mx.array) else x, np.float64)
            for x in (actual[path], value, start[path])
        )
        scale = max(np.abs(p).max(), np.abs(b).max())
        assert np.abs(a - b).max() <= ulp * steps * 2.0**-23 * scale, path


class Net(nn.Module):
    """Two matrices; a scalar loss that every element takes part in."""

    def __init__(self, rule, seed=0):
        super().__init__()
        self.layers = [
            {"w": arrays(rule, seed + i)["layers"][1]["w"].reshape(-1, 2)} for i in range(2)
        ]

    def __call__(self, x):
        return sum((mx.sin(x * layer["w"]) ** 2).sum() for layer in self.layers)


def loss(model, x):
    return model(x)


@pytest.mark.parametrize("execution", ["reference", "compiled"])
@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_computes_what_the_rule_does_and_changes_nothing_it_is_given(name, execution):
    rule = build(name)
    optimizer, params = native(rule, execution=execution), arrays(rule, 0)
    assert isinstance(optimizer, optimizers.Optimizer)
    start = expected = numpy(params)
    state = rule.init(expected)
    for t in range(6):
        grads = arrays(rule, 100 + t)
        kept = numpy((grads, params))
        new = optimizer.apply_gradients(grads, params)
        assert all(
            (a == b).all()
            for a, b in zip(flat(kept).values(), flat(numpy((grads, params))).values(), strict=True)
        )
        expected, state = rule.update(kept[0], expected, state)
        assert_close(rule, new, expected, start, t + 1)
        assert optimizer.state["step"].item() == t + 1
        params = new


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", RULES)
def test_narrow_parameters_are_rounded_once_from_float32(name, narrow):
    rule, dtype = build(name, state_dtype="float32"), getattr(mx, narrow)
    params = arrays(rule, 0, dtype)
    wide = utils.tree_map(lambda x: x.astype(mx.float32), params)
    optimizer, other = native(rule), native(rule)
    new = optimizer.apply_gradients(arrays(rule, 1, dtype), params)
    grads = utils.tree_map(lambda x: x.astype(dtype).astype(mx.float32), arrays(rule, 1))
    expected = other.apply_gradients(grads, wide)
    assert_equal(new, utils.tree_map(lambda x: x.astype(dtype), expected))
    assert not any(v.dtype == dtype for v in flat(optimizer.state).values())


@pytest.mark.parametrize("name", RULES)
def test_a_model_is_updated_in_place_and_frozen_layers_are_not(name):
    rule = build(name)
    model, x = Net(rule), mx.array(0.7)
    model.layers[0] = {"w": model.layers[0]["w"]}
    frozen = nn.Linear(2, 2)
    model.frozen = frozen
    frozen.freeze()
    before = numpy(model.parameters())
    optimizer = native(rule)
    _, grads = nn.value_and_grad(model, loss)(model, x)
    assert "frozen" not in grads or not utils.tree_flatten(grads["frozen"])
    optimizer.update(model, grads)
    trainable = {"layers": before["layers"]}
    expected, _ = rule.update({"layers": numpy(grads["layers"])}, trainable, rule.init(trainable))
    assert_close(rule, {"layers": model.layers}, expected, trainable)
    assert (np.array(frozen.weight) == before["frozen"]["weight"]).all()
    assert not utils.tree_flatten(optimizer.state.get("frozen", {}))


@pytest.mark.parametrize("name", RULES)
def test_state_starts_at_the_parameters_whether_or_not_init_is_called(name):
    rule = build(name)
    params = arrays(rule, 0)
    lazy, ahead = native(rule), native(rule)
    ahead.init(params)
    first = utils.tree_map(lambda x: x, ahead.state)
    expected = rule.init(numpy(params))
    for slot in rule.slots():
        for path, value in flat(expected.slots[slot]).items():
            head, *part = path.rsplit(".", 1) if f"{path}.{slot}" not in flat(first) else (path,)
            mine = flat(first)[".".join([head, slot, *part])]
            assert (np.array(mine) == value).all() and mine.dtype == mx.float32
    a, b = train(lazy, rule, params, range(4)), train(ahead, rule, params, range(4))
    assert_equal(a, b)
    assert_equal(lazy.state, ahead.state)


@pytest.mark.parametrize("name", RULES)
def test_parameters_without_gradient_keep_their_value_and_their_state(name):
    rule = build(name)
    params = arrays(rule, 0)
    optimizer, alone = native(rule), native(rule)
    part = {"layers": [{}, {"b": params["layers"][1]["b"]}]}

    def only(grads):
        return {"layers": [{}, {"b": grads["layers"][1]["b"]}]}

    for t in range(3):
        new = optimizer.apply_gradients(only(arrays(rule, 100 + t)), params)
        assert list(flat(new)) == ["layers.1.b"]
        params["layers"][1]["b"] = new["layers"][1]["b"]
        part = alone.apply_gradients(only(arrays(rule, 100 + t)), part)
        assert_equal(new, part)
    before = flat(optimizer.state)
    optimizer.init(params)
    assert_equal({k: flat(optimizer.state)[k] for k in before}, before)
    grads = arrays(rule, 103)
    del grads["layers"][1]["b"]
    optimizer.apply_gradients(grads, params)
    for path, value in before.items():
        if path.startswith("layers.1.b"):
            assert mx.array_equal(flat(optimizer.state)[path], value).item()


SCHEDULES = {
    "cosine": optimizers.cosine_decay(0.5, 5),
    "step": optimizers.step_decay(0.5, 0.5, 2),
    "joined": optimizers.join_schedules(
        [optimizers.linear_schedule(0.125, 0.5, 2), optimizers.step_decay(0.5, 0.25, 1)], [2]
    ),
    "python": lambda step: 0.5 / (1 + step),
}


@pytest.mark.parametrize("kind", [None, "cosine", "joined"])
@pytest.mark.parametrize("name", RULES)
def test_a_compiled_training_step_is_the_eager_one_and_is_traced_once(name, kind):
    rule, traces = build(name, lr=0.1 if kind is None else SCHEDULES[kind]), []
    models, built = [Net(rule), Net(rule)], [native(rule), native(rule)]
    built[0].init(models[0].trainable_parameters())
    state, start = [models[0].state, built[0].state], numpy(models[0].parameters())

    @partial(mx.compile, inputs=state, outputs=state)
    def compiled(grads):
        traces.append(1)
        built[0].update(models[0], grads)

    for t in range(20):
        if kind is None and t in (8, 15):
            for optimizer in built:
                optimizer.learning_rate = 0.5 / t
        grads = {"layers": Net(rule, 100 + t).parameters()["layers"]}
        compiled(grads)
        built[1].update(models[1], grads)
        mx.eval(state)
    assert len(traces) <= 2 and built[0].state["step"].item() == 20
    assert built[0].learning_rate.item() == pytest.approx(built[1].learning_rate.item(), rel=1e-6)
    assert_close(rule, models[0].parameters(), models[1].parameters(), start, 20)


@pytest.mark.parametrize("name", RULES)
def test_a_compiled_kernel_is_traced_once_whatever_the_numbers(name, monkeypatch):
    rule, traces = build(name), []
    advance = samestep.step.advance

    def counted(xp, rule, grad, *rest):
        traces.append(grad.shape)
        return advance(xp, rule, grad, *rest)

    monkeypatch.setattr(samestep.step, "advance", counted)
    optimizer, params = native(rule, execution="compiled"), arrays(rule, 0)
    for t in range(6):
        optimizer.learning_rate = 0.1 / (t + 1)
        if "betas" in rule.hypers:
            optimizer.betas = tuple(beta - 0.01 * t for beta in optimizer.betas)
        params = train(optimizer, rule, params, [t])
        mx.eval(params, optimizer.state)
        if t == 1:
            first = len(traces)
    assert 0 < first == len(traces) <= 2 * len(set(traces))


def test_one_array_under_two_paths_has_two_states():
    w = mx.ones(2)
    optimizer = adapter.Adagrad(groups=[(lambda p: p.path == "b", {"initial_v": 2.0})])
    optimizer.init({"a": w, "b": w, "c": [w]})
    state = optimizer.state
    assert [state[p]["v"].tolist() for p in "ab"] == [[0.0, 0.0], [2.0, 2.0]]
    assert state["c"][0]["v"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", RULES)
def test_a_tree_without_parameters_is_stepped(name):
    rule = build(name)
    optimizer = native(rule)
    optimizer.init({})
    assert optimizer.apply_gradients({}, {}) == {} and optimizer.state["step"].item() == 1
    train(optimizer, rule, arrays(rule, 0), [1])
    assert optimizer.state["step"].item() == 2


def spoil(kind, optimizer, grads):
    """Make the last gradient or its state one that does not fit."""
    state = optimizer.state["layers"][1]["b"]
    slot = next(iter(state), None)
    if kind == "shape":
        grads["layers"][1]["b"] = grads["layers"][1]["b"][None]
    elif kind == "integer":
        grads["layers"][1]["b"] = grads["layers"][1]["b"].astype(mx.int32)
    elif kind == "slot":
        state["other"] = mx.zeros(2)
    elif isinstance(state[slot], tuple):
        state[slot] = (state[slot][0][None],)
    else:
        state[slot] = mx.concatenate([state[slot], state[slot]])


@pytest.mark.parametrize("name", RULES)
def test_what_does_not_fit_is_refused_by_path_and_changes_nothing(name):
    rule = build(name)
    for kind in ("shape", "integer", "slot", *(["state shape"] if rule.slots() else [])):
        optimizer, grads = native(rule), arrays(rule, 103)
        params = train(optimizer, rule, arrays(rule, 0), range(2))
        spoil(kind, optimizer, grads)
        before = flat(optimizer.state)
        with pytest.raises((TypeError, ValueError), match=rf"{rule.name}.*layers\.1\.b"):
            optimizer.apply_gradients(grads, params)
        assert_equal(optimizer.state, before)


class Sized(samestep.Rule, register=False):
    """A rule of somebody's whose arithmetic depends on the size of the parameter."""

    needs = "tensor"
    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        return grad / xp.sqrt(xp.sum(grad * grad) / math.prod(grad.shape)), {}


def test_a_rule_of_somebody_s_may_read_the_size_of_each_parameter():
    params = {"a": mx.ones((3, 2)), "b": mx.ones(20)}
    moved = adapter.bind(Sized()).apply_gradients(utils.tree_map(lambda p: 0.5 * p, params), params)
    for param in moved.values():
        assert mx.allclose(param, mx.array(0.9))
