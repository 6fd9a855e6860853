"""What is refused, by the rule and the path, before anything is computed."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep import Where
from samestep.conformance.harness.jax_trees import same, tree
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical


def test_complex_parameters_are_refused_where_axes_matter_and_gradients_of_real_ones(rule_class):
    rule = typical(rule_class)
    params, optimizer = tree(rule, 0, jnp.float32), adapter.bind(rule)
    state = optimizer.init(params)
    before = jax.tree.map(np.array, (params, state))
    imaginary = {**params, "out": params["out"] * 1j}
    allowed = "dtype complex64; allowed: bfloat16, float16, float32, float64"
    if rule.sees_axes:
        with pytest.raises(TypeError, match=rf"{rule.name}: parameter 'out' has .* the axes"):
            optimizer.init(imaginary)
    with pytest.raises(TypeError, match=rf"{rule.name}: parameter 'out' has .* gradient float32"):
        optimizer.update(params, state, imaginary)
    with pytest.raises(
        TypeError, match=rf"{rule.name}: parameter 'out': its gradient has {allowed}"
    ):
        jax.jit(optimizer.update)(imaginary, state, params)
    same((params, state), before)


def test_parameters_are_asked_for(rule_class):
    rule = typical(rule_class)
    params, optimizer = tree(rule, 0), adapter.bind(rule)
    words = f"{rule.name}: update(grads, state, params) needs params"
    with pytest.raises(ValueError, match=re.escape(words)):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.parametrize("name", each_rule())
def test_what_does_not_fit_is_refused(name):
    rule = typical(getattr(samestep, name))
    params, optimizer = tree(rule, 0), adapter.bind(rule)
    state, grads = optimizer.init(params), tree(rule, 1)
    refused = pytest.raises((TypeError, ValueError), match=rule.name)
    for wrong in (optax.adam(1e-3).init(params), state._replace(slots={"other": params})):
        with refused:
            optimizer.update(grads, wrong, params)
    if rule.slots():
        with refused:
            other = {**params, "out": params["out"][:1]}
            optimizer.update(grads, optimizer.init(other), params)
    with pytest.raises((TypeError, ValueError), match=rf"{rule.name}: parameter 'out' "):
        optimizer.update({**grads, "out": grads["out"][None]}, state, params)
    with pytest.raises(TypeError, match=rf"{rule.name}: parameter 'layer\.w' "):
        optimizer.init({**params, "layer": {**params["layer"], "w": jnp.ones((4, 3), int)}})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unknown", "AdamW: the tree of the gradients is not that of the .*; only there: v"),
        ("array", "only there: .*; only in the parameters: layer.w"),
        ("types", "AdamW: the tree of the gradients is not .*; its nodes are of other types"),
        ("words", "AdamW: the gradient of parameter 'layer.w' is str; it must be an array or a"),
        ("state", "AdamW: the tree of slot m of the .*; only there: v; only in the parameters"),
    ],
)
def test_trees_that_do_not_fit_are_refused_by_path(kind, message):
    w = jnp.ones(2)
    params, optimizer = {"layer": {"w": w}}, adapter.AdamW()
    state = optimizer.init(params)
    grads = {"unknown": {"v": w}, "array": w, "words": {"layer": {"w": "abc"}}}.get(kind, params)
    if kind == "types":
        params = {"layer": [w]}
        state, grads = optimizer.init(params), {"layer": (w,)}
    if kind == "state":
        state = state._replace(slots={**state.slots, "m": {"v": w}})
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.update(grads, state, params)


def test_a_parameter_that_goes_nowhere_is_named_before_anything_is_computed():
    rule = samestep.route(
        (Where(min_ndim=2), samestep.Muon(layout="oi")), (Where(path="*.b"), samestep.SGD())
    )
    params = {"layer": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}}
    optimizer = adapter.bind(rule)
    words = r"route: parameter 'scale' of shape \(\) goes nowhere; .*Where\(path='\*\.b'\)"
    with pytest.raises(ValueError, match=words):
        optimizer.init({**params, "scale": jnp.ones(())})
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(optimizer.init, {**params, "scale": jnp.ones(())})
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
