"""What is refused, by the rule and the path, and changes nothing."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn, utils

import samestep
import samestep.mlx as adapter
from samestep.conformance.harness.mlx_trees import assert_equal, copied


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        ({"v": mx.ones(2)}, ValueError, "AdamW: there is a gradient for 'v' and no such parameter"),
        ({"w": {"x": mx.ones(2)}}, ValueError, "AdamW: there is a gradient for 'w.x' and no such"),
        (mx.ones(2), ValueError, "AdamW: there is a gradient for 'a single array' and no such"),
        ({"w": None}, TypeError, "AdamW: the gradient of parameter 'w' is NoneType; it must be an"),
        ({"w": np.ones(2)}, TypeError, "AdamW: the gradient of parameter 'w' is ndarray; it must"),
    ],
)
def test_gradients_that_do_not_fit_are_refused_by_path(grads, error, message):
    optimizer = adapter.AdamW()
    with pytest.raises(error, match=message):
        optimizer.apply_gradients(grads, {"w": mx.ones(2)})
    assert optimizer.state["step"].item() == 0 and "w" not in optimizer.state


def test_parameters_that_are_no_arrays_are_refused_by_path():
    with pytest.raises(
        TypeError, match=r"AdamW: parameter 'a\.0' is ndarray; it must be an mlx.core"
    ):
        adapter.AdamW().init({"a": [np.ones(2)]})


@pytest.mark.parametrize("name", ["like", "mask", "groups"])
def test_what_is_for_the_constructor_is_not_set_later(name):
    optimizer = adapter.AdamW()
    with pytest.raises(AttributeError, match=f"AdamW: {name} is fixed when an optimizer is made"):
        setattr(optimizer, name, None)


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("name", ["step", "learning_rate", "shared_state"])
def test_a_parameter_called_like_an_entry_of_the_state_is_refused_by_name(name, below):
    """MLX's own optimizers fail on it without a word of the name."""
    params = {"a": mx.ones(2), name: {"w": mx.ones(2)} if below else mx.ones(2)}
    path = f"{name}.w" if below else name
    message = f"AdamW: parameter '{path}' would share the name '{name}' with an entry of the opt"
    optimizer = adapter.AdamW()
    before = copied(optimizer.state)
    for refused in (optimizer.init, lambda params: optimizer.apply_gradients(params, params)):
        with pytest.raises(ValueError, match=message):
            refused(params)
    assert_equal(optimizer.state, before)
    deeper = optimizer.apply_gradients({"model": params}, {"model": params})
    renamed = {"a": params["a"], "other": params[name]}
    other = adapter.AdamW().apply_gradients(renamed, renamed)
    assert_equal(deeper["model"][name], other["other"])


def test_what_is_called_like_an_entry_of_the_state_may_be_frozen():
    model = nn.Sequential(nn.Linear(2, 2))
    model.step = mx.array(0.0)
    model.shared_state = nn.Linear(2, 2)
    model.freeze(keys=["step"], recurse=False)
    model.shared_state.freeze()
    optimizer = adapter.AdamW()
    optimizer.init(model.trainable_parameters())
    before = mx.array(model.layers[0].weight)
    _, grads = nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((1, 2)))
    optimizer.update(model, grads)
    assert not mx.array_equal(model.layers[0].weight, before)
    assert optimizer.step.item() == 1 and "shared_state" not in optimizer.state


@pytest.mark.parametrize(
    ("state", "params", "error", "message"),
    [
        ({}, [mx.ones(2)], TypeError, "AdamW: the parameters are list; MLX keeps state by name"),
        ({}, mx.ones(2), TypeError, "AdamW: the parameters are array; MLX keeps state by name"),
        (
            {"w": {"m": mx.ones(2)}},
            {"w": [mx.ones(2)]},
            ValueError,
            "AdamW: the state of 'w' is dict, where a list belongs; was it made for other",
        ),
        (
            {"w": {"b": mx.ones(2)}},
            {"w": {"b": mx.ones(2)}},
            ValueError,
            "AdamW: the state of 'w.b' is array, where a dict belongs; was it made for other",
        ),
        (
            {"w": {"m": mx.ones(2)}},
            {"w": mx.ones(2)},
            ValueError,
            "AdamW: the state of 'w' has slots m; AdamW keeps m, v",
        ),
        (
            {"step": None},
            {"w": mx.ones(2)},
            ValueError,
            "AdamW: the state has no step; it has learning_rate",
        ),
        (
            {},
            {"w": mx.ones(2, mx.complex64)},
            TypeError,
            "AdamW: parameter 'w' has dtype mlx.core.complex64; allowed: bfloat16, float16",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(state, params, error, message):
    optimizer = adapter.AdamW()
    whole = {**optimizer.state, **state}
    optimizer.state = {name: value for name, value in whole.items() if value is not None}
    before = copied(optimizer.state)
    with pytest.raises(error, match=message):
        optimizer.apply_gradients(utils.tree_map(mx.ones_like, params), params)
    assert_equal(optimizer.state, before)


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
def test_a_schedule_that_fails_leaves_the_state_as_it_was(field):
    optimizer = adapter.AdamW(**{field: lambda step: 0.1 if step < 3 else -0.5})
    params = {"w": mx.ones(2)}
    for _ in range(3):
        params = optimizer.apply_gradients({"w": mx.ones(2)}, params)
    before = copied(optimizer.state)
    grads = {"w": mx.ones(2), "new": mx.ones(2)}
    with pytest.raises(ValueError, match=rf"AdamW\({field}=-0.5\).*gave it for step 3"):
        optimizer.apply_gradients(grads, {**params, "new": mx.ones(2)})
    assert_equal(optimizer.state, before)
    rule = optimizer.rule
    with pytest.raises(ValueError, match=r"AdamW\(lr=-1.0\).*gave it for step 3"):
        optimizer.learning_rate = lambda step: -1.0 if step else 1.0
    assert_equal(optimizer.state, before)
    assert optimizer.rule is rule
    optimizer.weight_decay = optimizer.lr = 0.1
    assert optimizer.apply_gradients({"w": mx.ones(2)}, params).keys() == {"w"}


class NoThrees(samestep.AdamW, register=False):
    """A rule that fails in the middle of a step."""

    def direction(self, xp, grad, param, state, s):
        if grad.shape == (3,):
            raise ValueError("no vectors of three")
        return super().direction(xp, grad, param, state, s)


def test_a_rule_that_fails_in_the_middle_leaves_the_state_as_it_was():
    optimizer = adapter.bind(NoThrees(lr=lambda step: 0.1 / (1 + step)), execution="reference")
    params = {"a": mx.ones(2)}
    params = optimizer.apply_gradients({"a": mx.ones(2)}, params)
    before = copied(optimizer.state)
    grads = {"a": mx.ones(2), "b": mx.ones(3)}
    with pytest.raises(ValueError, match="no vectors of three"):
        optimizer.apply_gradients(grads, {**params, "b": mx.ones(3)})
    assert_equal(optimizer.state, before)


def test_a_number_in_place_of_an_array_of_the_state_is_taken_or_refused():
    """As mlx.optimizers takes a learning rate."""
    params = {"w": mx.ones(2)}
    optimizer, expected = adapter.AdamW(lr=0.3), adapter.AdamW(lr=0.3)
    for one in (optimizer, expected):
        one.apply_gradients(params, params)
    expected.learning_rate = 0.1
    for number in (0.1, np.array(0.1)):
        optimizer.state["learning_rate"] = number
        moved = [one.apply_gradients(params, params) for one in (optimizer, expected)]
        assert_equal(*moved)
        assert_equal(optimizer.state, expected.state)
    assert optimizer.state["learning_rate"].dtype == mx.float32 and optimizer.current.lr == 0.1
    optimizer.state["step"] = 7
    optimizer.apply_gradients(params, params)
    assert optimizer.state["step"].item() == optimizer.steps_taken == 8
    for wrong in ("x", None, True, [0.1], -1.0, lambda step: 0.1):
        optimizer.state["learning_rate"] = wrong
        with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be"):
            optimizer.apply_gradients(params, params)
    assert optimizer.state["step"].item() == 8


@pytest.mark.parametrize("wide", ["state", "parameter"])
def test_a_dtype_that_the_gpu_lacks_is_named(wide, monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    rule = samestep.AdamW(lr=0.1, state_dtype={"v": "float64"} if wide == "state" else None)
    optimizer = adapter.bind(rule)
    dtype = mx.float32 if wide == "state" else mx.float64
    with mx.stream(mx.cpu), pytest.raises(TypeError, match="on the GPU, which has no float64; all"):
        optimizer.init({"w": mx.zeros((2, 2), dtype)})
