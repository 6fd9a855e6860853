"""Gradients through steps, and the functional form of a step."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.arrays import parts
from samestep.conformance.harness import classes
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_training import (
    assert_close,
    models,
    parameters,
    smooth,
    train,
)
from samestep.conformance.harness.zeros import numbered, starts
from samestep.torch.entries import slots_in

made = partial(classes.made, adapter)


def stepped(rule, param, grads, lr=None, **state):
    """What a parameter and its state have become after a step with each of the gradients."""
    param = param.clone()
    own = rule if lr is None else rule.replace(lr=lr)
    optimizer = adapter.bind(own, [param], differentiable=True)
    for grad in grads:
        param.grad = grad
        optimizer.step()
    slots = [slots_in(optimizer.state[param])[name] for name in rule.slots()]
    slots = [part for value in slots for part in parts(value)]
    return param, *(part for part in slots if part.requires_grad)


def test_gradients_flow_through_steps_to_parameters_gradients_and_state(rule_class):
    """Against finite differences; where a step has a sign in it, both are zero."""
    rule = typical(rule_class, **({"sync_period": 2} if hasattr(rule_class, "sync_period") else {}))
    shape = (2,) * max(2, rule.min_ndim)
    inputs = [smooth(seed, *shape).requires_grad_() for seed in range(4)]

    def outputs(param, *grads):
        return stepped(rule, param, grads)

    assert len(outputs(*inputs)) > 1 or not rule.slots()
    assert torch.autograd.gradcheck(outputs, inputs, atol=1e-6, rtol=1e-4)


@pytest.mark.every_rule
def test_derivatives_are_finite_at_zero(rule_class):
    """By gradients, parameters and numbers, after three steps."""
    derivatives_are_finite(typical(rule_class))


@pytest.mark.thorough
def test_derivatives_are_finite_at_zero_in_every_setting(setting):
    derivatives_are_finite(setting)


def derivatives_are_finite(rule):
    for zero, *given in starts(rule):
        grads, params = ({n: torch.tensor(v) for n, v in tree.items()} for tree in given)
        numbers = torch.zeros(len([*rule.numbers()]), dtype=torch.float64)
        inputs = [*grads.values(), *params.values(), numbers]
        for value in inputs:
            value.requires_grad_()
        own = numbered(rule, numbers.__getitem__)
        state = own.init({path: param.detach() for path, param in params.items()})
        for factor in (1.0, -0.5, 2.0):
            params, state = own.update({n: factor * g for n, g in grads.items()}, params, state)
        end = [
            *params.values(),
            *(p for s in state.slots.values() for v in s.values() for p in parts(v)),
        ]
        total = sum(value.sum() for value in end if value.requires_grad)
        for found in torch.autograd.grad(total, inputs, allow_unused=True):
            assert found is None or torch.isfinite(found).all(), zero


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion", "LAMB", "Adafactor", "Muon", "Prodigy"])
def test_gradients_flow_through_steps_to_a_learning_rate(name):
    rule = typical(getattr(samestep, name), lr=0.1)
    param, *grads = (smooth(seed, 2, 3) for seed in range(4))

    def outputs(lr):
        return stepped(rule, param, grads, lr)[0]

    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, [lr], atol=1e-6, rtol=1e-4)
    assert torch.autograd.grad(outputs(lr).sum(), lr)[0] != 0


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_gradients_through_steps_are_those_of_torch(name, exact):
    """The derivative of a loss after five steps by everything that went into them."""
    found = []
    for make in (adapter, torch.optim):
        lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        start, point = smooth(0, 3, 2).requires_grad_(), smooth(1, 2)
        options = {"like": "torch"} if make is adapter else {}
        param = start.clone()
        optimizer = getattr(make, name)([param], lr=lr, differentiable=True, **options)
        for _ in range(5):
            loss = (param @ point).pow(2).sum().exp() / 100
            (param.grad,) = torch.autograd.grad(loss, param, create_graph=True)
            optimizer.step()
        found.append(torch.autograd.grad((param @ point).pow(2).sum(), [start, lr]))
    assert_close(*found, tolerance=1e-10)


def test_a_step_to_differentiate_through_has_the_same_numbers(rule_class):
    rule = typical(rule_class)
    params = parameters(rule)
    plain = made(rule, params, execution="reference")
    copies = [param.detach().clone().requires_grad_().clone() for param in params]
    traced = made(rule, copies, differentiable=True)
    train(plain, params, range(5))
    train(traced, copies, range(5))
    assert all(map(torch.equal, params, copies)) and all(param.requires_grad for param in copies)


def test_a_leaf_cannot_be_differentiated_through():
    leaf = torch.ones(2, requires_grad=True)
    other = leaf.clone()
    optimizer = adapter.bind(samestep.AdamW(), [("w", other), ("v", leaf)], differentiable=True)
    other.grad, leaf.grad = torch.ones(2), torch.ones(2)
    with pytest.raises(ValueError, match=r"AdamW: parameter 'v' is a leaf .* param.clone\(\)"):
        optimizer.step()
    assert torch.equal(other, torch.ones(2)) and not optimizer.state


@pytest.mark.parametrize("execution", ["packed", "compiled"])
def test_only_the_reference_is_differentiated_through(execution):
    with pytest.raises(ValueError, match=rf"AdamW\(.*{execution}.*'auto' or 'reference'"):
        adapter.AdamW([torch.ones(2)], differentiable=True, execution=execution)


def test_a_functional_training_loop_has_the_numbers_of_the_class(rule_class):
    rule = typical(rule_class)
    model, trained = models()
    optimizer = made(
        rule, ((n, p) for n, p in trained.named_parameters() if p.ndim >= rule.min_ndim)
    )
    fixed = {n: p.detach() for n, p in model.named_parameters() if p.ndim < rule.min_ndim}
    params = {n: p.detach() for n, p in model.named_parameters() if n not in fixed}
    state = rule.init(params)

    def loss(params, step):
        points = smooth(step, 16, 4)
        wanted = points[:, :2] * points[:, 2:] * 10.0 ** (step % 3 - 1)
        found = torch.func.functional_call(model, {**params, **fixed}, (points,))
        return (found - wanted).pow(2).mean()

    for step in range(6):
        params, state = rule.update(torch.func.grad(loss)(params, step), params, state)
        optimizer.zero_grad()
        trained.loss(step).backward()
        optimizer.step()
    named = dict(trained.named_parameters())
    assert_close(params.values(), [named[name] for name in params], 1e-10)


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Muon", "Prodigy"])
def test_an_ensemble_is_stepped_under_vmap(name):
    rule = typical(getattr(samestep, name))
    grads, stacked = smooth(1, 3, 4, 2), smooth(0, 3, 4, 2)

    def two_steps(param, grad):
        params, state = {"w": param}, rule.init({"w": param})
        for factor in (1.0, -0.1):
            params, state = rule.update({"w": factor * grad}, params, state)
        return params["w"]

    together = torch.func.vmap(two_steps)(stacked, grads)
    for one, param, grad in zip(together, stacked, grads, strict=True):
        torch.testing.assert_close(one, two_steps(param, grad), rtol=1e-12, atol=1e-12)
