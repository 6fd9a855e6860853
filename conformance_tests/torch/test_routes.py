"""Routes: as many groups as rules, with names, copies and schedulers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim import lr_scheduler

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.torch_training import (
    Model,
    assert_close,
    assert_equal,
    everything,
    models,
    train,
)

ROUTED = samestep.route(
    (samestep.Where(min_ndim=2) & ~samestep.Where(path="outer*"), samestep.Muon(lr=0.02)),
    (samestep.Where(max_ndim=1), samestep.SGD(lr=0.05, momentum=0.9)),
    samestep.AdamW(lr=0.01, weight_decay=0.1),
)


RULES = {
    "inner.weight": samestep.Muon(lr=0.02),
    "inner.bias": samestep.SGD(lr=0.05, momentum=0.9),
    "outer.weight": samestep.AdamW(lr=0.01, weight_decay=0.1),
    "outer.bias": samestep.SGD(lr=0.05, momentum=0.9),
}


def test_a_route_is_as_many_groups_with_the_values_of_their_rules():
    model = Model()
    optimizer = adapter.bind(ROUTED, model.named_parameters())
    groups = optimizer.param_groups
    assert [group["param_names"] for group in groups] == [
        ["inner.weight"],
        ["inner.bias", "outer.bias"],
        ["outer.weight"],
    ]
    assert [group["lr"] for group in groups] == [0.02, 0.05, 0.01]
    assert "betas" not in groups[0] and groups[2]["betas"] == (0.9, 0.999)


def test_routed_parameters_step_as_under_their_own_optimizers_with_schedulers():
    model, alone = models()
    optimizer = adapter.bind(ROUTED, model.named_parameters())
    named = dict(alone.named_parameters())
    others = [adapter.bind(rule, [(name, named[name])]) for name, rule in RULES.items()]
    schedulers = [lr_scheduler.CosineAnnealingLR(one, 20) for one in (optimizer, *others)]
    for step in range(12):
        if step == 6:
            model, optimizer, schedulers[0] = copy.deepcopy((model, optimizer, schedulers[0]))
        for own in (model, alone):
            own.zero_grad()
            own.loss(step).backward()
        for one in (optimizer, *others):
            one.step()
        for scheduler in schedulers:
            scheduler.step()
    assert_close(model.parameters(), alone.parameters(), 1e-13)
    assert len({group["lr"] for group in optimizer.param_groups}) == 3


def test_routed_parameters_without_names_are_called_by_their_places():
    """In the order given, also after the groups have been made and when one is added."""
    rule = samestep.route((lambda p: p.shape == (3,), samestep.SGD(lr=1.0)), samestep.SGD(lr=0.1))
    params = [torch.zeros(2 + (i in (1, 4)), requires_grad=True) for i in range(5)]
    optimizer = adapter.bind(rule, params[:3])
    optimizer.add_param_group({"params": iter(params[3:])})
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert [round(float(param.detach()[0]), 6) for param in params] == [-0.1, -1, -0.1, -0.1, -1]
    copies = [param.detach().clone() for param in params]
    loaded = adapter.bind(rule, copies[:3])
    loaded.add_param_group({"params": copies[3:]})
    loaded.load_state_dict(optimizer.state_dict())
    params[1].grad = copies[1].grad = torch.ones(3).to_sparse()
    for one in (optimizer, loaded):
        with pytest.raises(TypeError, match="SGD: parameter '1' has a gradient of layout"):
            one.step()


def test_a_mask_inside_a_route_is_asked_about_the_same_paths():
    by_name = {"groups": [(lambda p: p.path == "c", {"lr": 0.0})]}
    rule = samestep.route(
        (samestep.Where(ndim=2), samestep.SGD(lr=1.0)), samestep.SGD(lr=0.1, **by_name)
    )
    params = [torch.zeros(2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(3)]
    optimizer = adapter.bind(rule, zip("abcd", params, strict=True))
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    moved = [round(float(param.flatten()[0]), 6) for param in params]
    assert moved == [-0.1, -1.0, 0.0, -0.1]


SGD = samestep.SGD(lr=0.1)


MATRICES_ONLY = samestep.route(
    (samestep.Where(min_ndim=2), samestep.Muon()), (samestep.Where(path="b*"), samestep.AdamW())
)


LATER = pytest.mark.filterwarnings(r"ignore:.* fits none of the 1 parameters \((w|first)\)")
"""What a predicate is for comes in a group that is added."""


@LATER
def test_a_parameter_that_goes_nowhere_is_named_and_nothing_is_added():
    good, bad = torch.ones(2, 2, requires_grad=True), torch.ones(3)
    words = r"'stray' of shape \(3,\) goes nowhere"
    with pytest.raises(ValueError, match=words):
        adapter.bind(MATRICES_ONLY, [("w", good), ("stray", bad)])
    optimizer = adapter.bind(MATRICES_ONLY, [("w", good)])
    train(optimizer, [good], range(2))
    before = everything(optimizer, [good])
    with pytest.raises(ValueError, match=words):
        optimizer.add_param_group({"params": [("v", torch.ones(2, 2)), ("stray", bad)]})
    assert len(optimizer.param_groups) == 1
    assert_equal(everything(optimizer, [good]), before)


@LATER
@pytest.mark.parametrize(
    "group, error, words",
    [
        ({"params": [("w", (2, 2)), ("b", (2,))], "eps": -1.0}, ValueError, r"AdamW\(eps=-1.0\)"),
        ({"params": [("w", (2, 2)), (None, (2, 2))]}, ValueError, "with/without names"),
        ({"params": [("w", (2, 2)), ("b", None)]}, TypeError, "can only optimize Tensors"),
        ({"params": {"w"}}, TypeError, "ordered collections"),
    ],
)
def test_a_routed_group_is_added_with_all_its_parts_or_not_at_all(group, error, words):
    def item(name, shape):
        value = "b" if shape is None else torch.ones(shape)
        return value if name is None else (name, value)

    given = group["params"]
    params = given if isinstance(given, set) else [item(*pair) for pair in given]
    optimizer = adapter.bind(MATRICES_ONLY, [("first", torch.ones(2, 2))])
    with pytest.raises(error, match=words):
        optimizer.add_param_group({**group, "params": params})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [("w", torch.ones(2, 2)), ("b", torch.ones(2))]})
    assert [group["param_names"] for group in optimizer.param_groups] == [["first"], ["w"], ["b"]]


def test_the_groups_of_an_optimizer_may_be_given_to_another():
    """Neither what it says of its own parts nor shared state goes along, and it stays as it is."""
    params = [torch.ones(2, 2), torch.ones(3), torch.ones(2, 2)]
    rule = samestep.route((samestep.Where(ndim=2), samestep.Prodigy()), samestep.SGD(lr=0.1))
    first = adapter.bind(rule, params)
    train(first, params, range(2))
    before = everything(first, params)
    groups = str(first.param_groups)
    second = adapter.bind(rule, first.param_groups)
    third = adapter.AdamW(first.param_groups)
    assert str(first.param_groups) == groups
    assert [group["places"] for group in first.param_groups] == [["0", "2"], ["1"]]
    assert [group["places"] for group in second.param_groups] == [["0", "1"], ["2"]]
    assert not [group for group in third.param_groups if {"branch", "places"} & {*group}]
    assert "d" not in second.param_groups[0]
    assert_equal(everything(first, params), before)
    for optimizer in (second, third, first):
        train(optimizer, params, range(2))


def test_names_go_along_with_the_groups_of_another_optimizer():
    named = [("a", torch.ones(2, 2)), ("b", torch.ones(3)), ("c", torch.ones(2, 2))]
    plain = adapter.AdamW(named)
    rule = samestep.route((samestep.Where(path="b"), samestep.SGD(lr=0.1)), samestep.AdamW())
    routed = adapter.bind(rule, plain.param_groups)
    assert [group["param_names"] for group in routed.param_groups] == [["b"], ["a", "c"]]
    again = adapter.AdamW(routed.param_groups)
    assert [group["param_names"] for group in again.param_groups] == [["b"], ["a", "c"]]
    assert plain.param_groups[0]["param_names"] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="AdamW: a parameter group has 1 parameters and 2 param_"):
        adapter.AdamW([{"params": [torch.ones(2)], "param_names": ["a", "b"]}])


SGD_OR_ADAMW = samestep.route((samestep.Where(path="a"), samestep.SGD(lr=0.1)), samestep.AdamW())


@pytest.mark.parametrize("rule", [SGD_OR_ADAMW, samestep.AdamW()])
def test_a_parameter_that_is_given_twice_is_named(rule):
    """In one group, in two, on two branches of a route."""
    param, other = torch.ones(2), torch.ones(2)
    with pytest.raises(ValueError, match=f"{rule.name}: .* duplicate parameters: 'b' .* 'a'"):
        adapter.bind(rule, [("a", param), ("b", param)])
    with pytest.raises(ValueError, match=r"AdamW: .* duplicate parameters: '2' .* '0'"):
        adapter.AdamW([param, other, param])
    optimizer = adapter.bind(rule, [("a", other), ("c", param)])
    groups = str(optimizer.param_groups)
    where = len(optimizer.param_groups) - 1
    with pytest.raises(ValueError, match=f"'b' is the same as 'c' of group {where}; give it once"):
        optimizer.add_param_group({"params": [("d", torch.ones(2)), ("b", param)]})
    assert str(optimizer.param_groups) == groups


def test_a_cycle_is_taken_by_a_route_whose_rules_all_have_a_momentum():
    rule = samestep.route(
        (samestep.Where(ndim=2), samestep.AdamW(lr=0.1)),
        samestep.AdamW(lr=0.2, betas=(0.8, 0.99)),
    )
    params = [torch.ones(2, 2), torch.ones(3)]
    optimizer = adapter.bind(rule, params)
    assert [group["betas"][0] for group in optimizer.param_groups] == [0.9, 0.8]
    lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=31, max_momentum=0.97)
    assert [group["betas"] for group in optimizer.param_groups] == [(0.97, 0.999), (0.97, 0.99)]
    other = adapter.bind(samestep.route((samestep.Where(ndim=2), samestep.AdamW()), SGD), params)
    with pytest.raises(ValueError, match="must support momentum or beta1"):
        lr_scheduler.OneCycleLR(other, 0.05, total_steps=31)


def test_a_route_may_have_an_empty_group():
    rule = samestep.route((samestep.Where(ndim=2), samestep.Muon()), samestep.SGD())
    optimizer = adapter.bind(rule, [{"params": []}, {"params": [torch.ones(2, 2)]}])
    optimizer.param_groups[1]["params"][0].grad = torch.ones(2, 2)
    optimizer.step()
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 1]
