"""Complex parameters step as their real and imaginary parts, as in torch and optax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.jax_trees import close, stepper
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical

RULES = each_rule(where=lambda rule: not rule.sees_axes)
SHAPES = {"wave": (3, 2), "phase": (), "real": (4,)}


def values(seed):
    """A tree of complex and real arrays."""
    random = np.random.default_rng(seed)
    found = {name: random.standard_normal((*shape, 2)) for name, shape in SHAPES.items()}
    numbers = {name: pair[..., 0] + 1j * pair[..., 1] for name, pair in found.items()}
    return jax.tree.map(jnp.asarray, {**numbers, "real": found["real"][..., 0]})


def parts(tree):
    """The tree with real and imaginary parts in a last axis."""
    return {
        name: jnp.stack([a.real, a.imag], -1) if jnp.iscomplexobj(a) else a
        for name, a in tree.items()
    }


def trained(optimizer, form=lambda tree: tree, jit=False):
    step = jax.jit(stepper(optimizer)) if jit else stepper(optimizer)
    params = form(values(0))
    state = optimizer.init(params)
    for seed in range(1, 6):
        params, state = step(params, state, form(values(seed)))
    return params, state


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_complex_parameters_step_as_their_real_and_imaginary_parts(name, jit, wide):
    optimizer = adapter.bind(typical(getattr(samestep, name)))
    params, state = trained(optimizer, jit=jit)
    expected, pairs = trained(optimizer, parts, jit)
    assert params["wave"].dtype == jnp.complex128 and params["real"].dtype == jnp.float64
    close(parts(params), expected)
    close(state, pairs)


def test_complex_parameters_step_as_in_optax(wide):
    rule = samestep.Adam(lr=0.1, like="optax")
    theirs = optax.contrib.split_real_and_imaginary(optax.adam(0.1))
    close(trained(adapter.bind(rule))[0], trained(theirs)[0])


def test_complex_parameters_step_as_in_torch(wide):
    torch = pytest.importorskip("torch")
    rule = samestep.AdamW(lr=0.1, weight_decay=0.3, mask=lambda parameter: parameter.ndim > 1)
    params = {n: torch.nn.Parameter(torch.tensor(np.asarray(v))) for n, v in values(0).items()}
    optimizer = samestep.torch.bind(rule, [*params.items()])
    for seed in range(1, 6):
        for name, grad in values(seed).items():
            params[name].grad = torch.tensor(np.asarray(grad))
        optimizer.step()
    found, _ = trained(adapter.bind(rule))
    for name, param in params.items():
        np.testing.assert_allclose(found[name], param.detach().numpy(), rtol=1e-13, atol=1e-13)


def test_checkpoints_and_averages_are_complex(wide):
    rule = samestep.Average(samestep.AdamW(lr=0.1), average_decay=0.0)
    optimizer = adapter.bind(rule)
    params, state = trained(optimizer)
    close(adapter.averaged(rule, params, state), params)
    again = optimizer.restore(optimizer.checkpoint(params, state), values(7))
    close(again, (params, state))
