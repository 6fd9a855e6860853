"""What torch's tools call on an optimizer besides steps: hooks, closures, names, copies."""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
from functools import partial

import pytest
import torch
from torch.optim import optimizer as optim

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import classes
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_training import assert_equal, everything, parameters, train

made = partial(classes.made, adapter)


def test_an_optimizer_can_be_printed(rule_class):
    rule = typical(rule_class)
    params = parameters(rule)
    optimizer = made(rule, params)
    train(optimizer, params, range(2))
    text = repr(optimizer)
    assert text.startswith(f"{rule.name} (") and "Parameter Group 0" in text
    assert all(f"    {name}: " in text for name in rule.hypers)


def test_hooks_are_called_around_a_step_in_torchs_order():
    param, calls = torch.ones(2, requires_grad=True), []
    optimizer = adapter.AdamW([param], lr=0.5, weight_decay=0.0)
    closures = []

    def noted(name, answer=None):
        def hook(given, args, kwargs):
            assert given is optimizer
            calls.append((name, float(param.detach()[0]), args[1:], kwargs))
            return answer

        return hook

    def other():
        closures.append("other")
        return torch.tensor(3.0)

    with contextlib.ExitStack() as stack:
        for handle in (
            optim.register_optimizer_step_pre_hook(noted("all before")),
            optim.register_optimizer_step_post_hook(noted("all after")),
            optimizer.register_step_pre_hook(noted("before", ((optimizer, other), {}))),
            optimizer.register_step_post_hook(noted("after")),
        ):
            stack.callback(handle.remove)
        param.grad = torch.ones(2)
        assert optimizer.step() == 3.0
    before, after = 1.0, 0.5
    assert [(name, round(value, 6)) for name, value, *_ in calls] == [
        ("all before", before),
        ("before", before),
        ("after", after),
        ("all after", after),
    ]
    assert closures == ["other"] and calls[2][2] == (other,)
    optimizer.step()
    assert len(calls) == 4


def test_a_closure_is_called_once_with_gradients_enabled_and_its_loss_returned():
    param = torch.tensor([3.0], requires_grad=True)
    optimizer, calls = adapter.SGD([param], lr=0.25), []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (param * param).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert calls == [True] and param.item() == 1.5
    optimizer.zero_grad(set_to_none=False)
    assert param.grad.item() == 0.0
    optimizer.zero_grad()
    assert param.grad is None and optimizer.step() is None and param.item() == 1.5


@pytest.mark.parametrize("dump", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_keep_names_options_and_numbers(rule_class, dump):
    rule = typical(rule_class)
    params = parameters(rule)
    named = [(f"layer.{place}", param) for place, param in enumerate(params)]
    optimizer = made(rule, [{"params": named, "lr": 0.01}], capturable=True)
    train(optimizer, params, range(3))
    copies, copied = dump((params, optimizer))
    assert type(copied) is type(optimizer)
    assert repr(copied) == repr(optimizer) and copied.capturable
    assert copied.param_groups[0]["param_names"] == [name for name, _ in named]
    copied.add_param_group({"params": [("new", copies[0].detach().clone())]})
    assert copied.param_groups[1].keys() == optimizer.param_groups[0].keys()
    train(optimizer, params, range(3, 6))
    train(copied, copies, range(3, 6))
    expected = everything(optimizer, params)
    assert_equal({k: v for k, v in everything(copied, copies).items() if k in expected}, expected)


def test_names_are_in_the_groups_and_in_messages(rule_class):
    rule = typical(rule_class)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.Conv2d(2, 1, 2))
    named = [(n, p) for n, p in model.named_parameters() if p.ndim >= rule.min_ndim]
    optimizer = made(rule, iter(named))
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in named]
    last, param = named[-1]
    param.grad = torch.ones_like(param).to_sparse()
    with pytest.raises(TypeError) as refusal:
        optimizer.step()
    assert all(word in str(refusal.value) for word in (rule.name, repr(last), "sparse", "dense"))
    assert not optimizer.state


@pytest.mark.parametrize("name", each_rule())
def test_signatures_are_the_rules_own(name):
    found = inspect.signature(getattr(adapter, name)).parameters
    own = inspect.signature(getattr(samestep, name)).parameters
    assert list(found) == ["params", *own, *adapter.KEYWORDS]
    assert all(found[n].default == p.default for n, p in own.items())


@pytest.fixture
def own_rule():
    known = dict(samestep.registry)

    class Halving(samestep.Rule):
        """Half the step at every step."""

        lr = samestep.hyper(1.0, "step size", unit="parameter/gradient", ge=0)

        def scalars(self, xp, t):
            return {"half": 0.5**t}

        def direction(self, xp, grad, param, state, s):
            return s.half * grad, {}

    yield Halving
    samestep.registry.clear()
    samestep.registry.update(known)


def test_a_rule_of_the_users_own_is_served_like_the_packages(own_rule):
    param = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = getattr(adapter, own_rule.__name__)([param], lr=2.0, weight_decay=0.25)
    for _ in range(2):
        param.grad = torch.tensor([1.0, -1.0])
        optimizer.step()
    assert param.tolist() == [-0.75, 0.5]  # 1/2 - 1 = -1/2, halved, - 1/2; -2/2 + 1 = 0, + 1/2
    assert own_rule.__name__ in dir(adapter)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_rules():
    with pytest.raises(AttributeError) as refusal:
        _ = adapter.Adamm
    assert all(name in str(refusal.value) for name in samestep.rules.__all__)
