"""A route is a MultiOptimizer of its rules."""

from __future__ import annotations

import pytest
from mlx import optimizers, utils

import samestep
import samestep.mlx as adapter
from samestep import Where, route
from samestep.conformance.harness.mlx_trees import LR, Model, assert_equal, copied, flat, train


def matrices(path, parameter):
    return parameter.ndim == 2 and "heads" not in path


def routed(muon=LR, rest=LR):
    first = samestep.Muon(lr=muon, weight_decay=0.1)
    return route(
        (Where(ndim=2) & ~Where(path="heads.*"), first), samestep.AdamW(lr=rest, weight_decay=0.1)
    )


@pytest.mark.parametrize(("scheduled", "compiled"), [(False, False), (True, False), (True, True)])
def test_a_route_is_a_multi_optimizer_of_its_rules(compiled, scheduled):
    lr = optimizers.cosine_decay(LR, 30) if scheduled else LR
    rule = routed(lr, lr)
    models = Model(), Model()
    one = adapter.bind(rule)
    several = optimizers.MultiOptimizer(list(map(adapter.bind, rule.branches)), [matrices])
    losses = [
        train(model, optimizer, compiled=compiled)
        for model, optimizer in zip(models, (one, several), strict=True)
    ]
    assert_equal(losses[0], losses[1])
    assert_equal(models[0].parameters(), models[1].parameters())
    states = [flat(each) for each in several.state["states"]]
    kept = {path: value for state in states for path, value in state.items()}
    del kept["learning_rate"]
    assert_equal(one.state, utils.tree_unflatten(list(kept.items())))


@pytest.mark.parametrize("around", [lambda rule: rule, samestep.Lookahead])
def test_a_route_has_no_learning_rate_of_its_own(around):
    rule = around(routed())
    optimizer, model = adapter.bind(rule, execution="reference"), Model()
    train(model, optimizer, range(2))
    before = copied(optimizer.state)
    message = f"{rule.name}: parameters have several rules, each with its own "
    for name in ("learning_rate", "lr", "betas", "momentum"):
        assert not hasattr(optimizer, name)
        with pytest.raises(AttributeError, match=message + name):
            getattr(optimizer, name)
        with pytest.raises(AttributeError, match=message + name):
            setattr(optimizer, name, 0.5)
    assert_equal(optimizer.state, before)
    assert optimizer.rule == rule
