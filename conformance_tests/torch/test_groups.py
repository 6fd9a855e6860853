"""Parameter groups with numbers of their own."""

from __future__ import annotations

import copy
import itertools
from functools import partial

import numpy
import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import classes
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.torch_training import parameters, train

made = partial(classes.made, adapter)


RULES = each_rule()


@pytest.mark.parametrize("name", each_rule(lambda rule: not rule.reduces))
def test_groups_step_as_separate_optimizers_do(name):
    rule = build(name)
    other = {"lr": rule.hypers["lr"] / 3, "weight_decay": 0.3}
    if "betas" in rule.hypers:
        other["betas"] = tuple(beta / 2 for beta in rule.hypers["betas"])
    numbers = [other, {}, {"lr": 0.0}]
    groups = [parameters(rule, seed) for seed in range(3)]
    given = [
        {"params": own, **own_numbers} for own, own_numbers in zip(groups, numbers, strict=True)
    ]
    joint = made(rule, [*given, {"params": []}])
    train(joint, [param for own in groups for param in own], range(5))
    for place, (own, changed) in enumerate(zip(groups, numbers, strict=True)):
        alone = parameters(rule, place)
        train(
            adapter.bind(rule.replace(**changed), alone), alone, range(5), offset=place * len(own)
        )
        assert all(map(torch.equal, own, alone))
    assert [group["weight_decay"] for group in joint.param_groups] == [0.3, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("name", RULES)
def test_a_group_that_is_added_takes_the_defaults_and_starts_at_its_own_first_step(name):
    rule = build(name)
    a, b, c = parameters(rule, 1), parameters(rule, 2), parameters(rule, 2)
    optimizer = made(rule, a)
    train(optimizer, a, range(3))
    optimizer.add_param_group({"params": b})
    assert {n: optimizer.param_groups[1][n] for n in rule.hypers} == rule.hypers
    train(optimizer, [*a, *b], range(3, 6))
    assert {int(optimizer.state[p]["step"]) for p in b} == {3}
    if not rule.reduces:
        alone = made(rule, c)
        train(alone, c, range(3, 6), offset=len(a))
        assert all(torch.equal(x, y) for x, y in zip(b, c, strict=True))
    for name_, first in [(n, optimizer.param_groups[0][n]) for n in rule.shared()]:
        assert torch.equal(first, optimizer.param_groups[1][name_])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"weight_decay": float("nan")}, {"decay": "none"}])
def test_a_group_with_a_bad_value_is_refused_and_not_added(name, bad):
    rule = build(name)
    optimizer = made(rule, parameters(rule))
    with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
        optimizer.add_param_group({"params": parameters(rule, 1), **bad})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
        made(rule, [{"params": parameters(rule)}, {"params": parameters(rule, 1), **bad}])


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.reduces))
def test_sums_run_over_all_groups(name):
    rule = build(name)
    a, b = parameters(rule, 1), parameters(rule, 1)
    whole = made(rule, a)
    split = made(rule, [{"params": b[:2]}, {"params": []}, {"params": b[2:]}])
    train(whole, a, range(30))
    train(split, b, range(30))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for (n, item), group in itertools.product(rule.shared().items(), split.param_groups):
        assert torch.equal(group[n], whole.param_groups[0][n])
        assert float(group[n]) != rule.first_value(item) or n == "skipped"


@pytest.mark.parametrize("name", ["lr", "betas"])
def test_an_array_of_numpy_that_is_changed_in_place_is_read_at_every_step(name):
    found = []
    for cls in (adapter.Adam, torch.optim.Adam):
        params = [torch.ones(3)]
        optimizer = cls(params, lr=0.1)
        numbers = numpy.array(optimizer.param_groups[0][name])
        optimizer.param_groups[0][name] = numbers
        for step in range(4):
            params[0].grad = torch.full((3,), 1.0 + step)
            optimizer.step()
            numbers *= 0.5
        found.append(params[0])
    torch.testing.assert_close(*found)


BY_NAME = {
    "mask": samestep.AdamW(mask=samestep.Where(min_ndim=2) & ~samestep.Where(path="*embed*")),
    "predicate of group 0": samestep.SGD(groups=[(lambda p: "embed" in p.path, {"lr": 1.0})]),
    "predicate of route 0": samestep.route(
        (samestep.Where(path="embed*"), samestep.SGD()), samestep.AdamW()
    ),
}


@pytest.mark.parametrize("what", BY_NAME)
def test_a_predicate_on_names_is_refused_where_parameters_have_none(what):
    rule, params = BY_NAME[what], [torch.ones(3, 2), torch.ones(2, 2)]
    with pytest.raises(ValueError, match=rf"{what}: parameter 0 has no name, .*named_parameters"):
        adapter.bind(rule, params)
    with pytest.raises(ValueError, match=rf"{what}: parameter 0 has no name, .*named_parameters"):
        rule.table(iter(params))
    optimizer = adapter.bind(rule, [("embed", params[0]), ("b", params[1])])
    with pytest.raises(ValueError, match="name"):
        optimizer.add_param_group({"params": [torch.ones(2)]})
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_a_number_that_is_one_for_all_cannot_differ_between_groups():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    rule = samestep.ClipGlobalNorm(samestep.SGD(lr=1.0), max_norm=1.0)
    with pytest.raises(
        ValueError, match=r"group 1 has max_norm=0.1, group 0 1.0; it must be the same"
    ):
        adapter.bind(rule, [{"params": [a]}, {"params": [b], "max_norm": 0.1}])
    opt = adapter.bind(rule, [{"params": [a]}, {"params": [b]}])
    a.grad, b.grad = torch.ones(2), torch.ones(2)
    opt.step()
    before = a.detach().clone(), b.detach().clone()
    opt.param_groups[1]["max_norm"] = 0.1
    with pytest.raises(ValueError, match="max_norm"):
        opt.step()
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])
    for group in opt.param_groups:
        group["max_norm"] = 0.1
    opt.step()
    assert float((a.detach() - before[0]).norm()) == pytest.approx(0.1 / 2**0.5)


@pytest.mark.parametrize(
    "how",
    [
        {"execution": "reference"},
        {"execution": "packed", "capturable": True},
        {"differentiable": True},
    ],
    ids=str,
)
def test_momentum_that_is_switched_on_later_begins_as_in_torch(how):
    """Its first step is not dampened, whichever number of steps the parameter has taken."""
    theirs = [torch.nn.Parameter(torch.ones(n)) for n in (3, 2, 2)]
    ours = [torch.ones(n) for n in (3, 2, 2)]
    numbers = {"lr": 0.1, "dampening": 0.3, "weight_decay": 0.1}
    both = (
        torch.optim.SGD(theirs, **numbers),
        adapter.SGD(ours, **numbers, like="torch", **how),
    )
    noise = torch.Generator().manual_seed(0)
    for step, momentum in enumerate((0.0, 0.0, 0.9, 0.9, 0.0, 0.9, 0.9)):
        for place, pair in enumerate(zip(theirs, ours, strict=True)):
            grad = torch.randn(pair[0].shape, generator=noise)
            for param in pair:
                param.grad = None if place == 1 and step < 3 else grad.clone()
        for optimizer in both:
            optimizer.param_groups[0]["momentum"] = momentum
            optimizer.step()
        for their, our in zip(theirs, ours, strict=True):
            torch.testing.assert_close(our.detach(), their.detach(), rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("Adam", {"decoupled_weight_decay": True}, {"decay": "decoupled"}),
        ("NAdam", {"decoupled_weight_decay": True}, {"decay": "decoupled"}),
        ("RAdam", {"decoupled_weight_decay": True}, {"decay": "decoupled"}),
        ("Adafactor", {"beta2_decay": -0.3}, {"decay_rate": 0.3}),
        ("Adafactor", {"d": 0.1}, {"clip_threshold": 0.1}),
    ],
)
def test_a_number_under_a_name_of_torch_s_is_refused_and_has_another_here(name, theirs, ours):
    """The name that the message says takes the same steps."""
    common = {"lr": 0.1, "weight_decay": 0.1}
    a, b = (torch.nn.Parameter(torch.full((4, 4), 1.0)) for _ in range(2))
    words = ", ".join(f"{field}={value!r}" for field, value in ours.items())
    for wrapped in (getattr(samestep, name)(), samestep.Cautious(getattr(samestep, name)())):
        with pytest.raises(TypeError, match=f"{next(iter(theirs))!r}.*give it {words}"):
            adapter.bind(wrapped, [{"params": [b], **theirs}])
    like = getattr(adapter, name)([{"params": [b], **ours}], **common, like="torch")
    natives = getattr(torch.optim, name)([{"params": [a], **theirs}], **common)
    for seed in range(4):
        for param in (a, b):
            noise = torch.Generator().manual_seed(seed)
            param.grad = torch.randn(4, 4, generator=noise)
        like.step()
        natives.step()
    torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-7)
    usual = {n: v for n, v in natives.defaults.items() if n not in ("capturable", "differentiable")}
    if name != "Adafactor":  # of which eps has another default
        getattr(adapter, name)([{"params": [b], **usual}], like="torch")


def test_a_group_that_lost_a_number_is_named():
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = adapter.AdamW([param], lr=0.1)
    param.grad = torch.ones(2)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = torch.tensor([0.1, 0.2])
    words = r"AdamW: lr of a parameter group is a tensor of shape \(2,\); it must be a number"
    with pytest.raises(ValueError, match=words):
        optimizer.step()
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match="AdamW: a parameter group has no 'lr' any more; set it"):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()


ADAMW = samestep.AdamW(lr=samestep.schedules.Linear(1.0, 0.1, 6))
LEAVING = {
    "SkipNonFinite": samestep.SkipNonFinite(ADAMW),
    "Accumulate-SkipNonFinite": samestep.Accumulate(samestep.SkipNonFinite(ADAMW), every=1),
    "SkipNonFinite-Accumulate": samestep.SkipNonFinite(samestep.Accumulate(ADAMW, every=2)),
    "Prodigy": samestep.Prodigy(lr=1.0, d0=0.1),
}


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("leaving", ["b", "ab"])
@pytest.mark.parametrize("rule", LEAVING.values(), ids=LEAVING)
def test_a_group_that_leaves_and_comes_back_has_missed_the_calls_between(
    rule, leaving, differentiable
):
    """As a parameter without a gradient has; a gradient that it keeps meanwhile says nothing."""
    bad = torch.nan if rule.withholds else 0.3
    pattern = [(1.0, 1.0), (bad, 1.0), (bad, bad), (0.5, 2.0), (1.0, 2.0)]
    params = {n: torch.ones(2, dtype=torch.float64) for n in "ab"}
    expected = {n: numpy.ones(2) for n in "ab"}
    state = rule.init(expected)
    groups = [{"params": [pair]} for pair in params.items()]
    optimizer = adapter.bind(rule, groups, differentiable=differentiable)
    for call, grads in enumerate(pattern):
        gone = leaving == "b" and call in (1, 2)
        if call == 1 + 2 * (leaving == "ab"):
            optimizer.param_groups = optimizer.param_groups[: leaving == "b"]
        if call == 3:
            for name in leaving:
                optimizer.add_param_group({"params": [(name, params[name])]})
        for param, grad in zip(params.values(), grads, strict=True):
            param.grad = torch.full_like(param, grad)
        optimizer.step()
        given = {
            n: numpy.full(2, grad) for n, grad in zip("a" if gone else "ab", grads, strict=False)
        }
        expected, state = rule.update(given, expected, state)
    for name, param in params.items():
        numpy.testing.assert_allclose(param.detach().numpy(), expected[name], rtol=1e-12)


def test_shared_state_goes_on_where_all_groups_leave_and_come_back():
    """Loaded, pickled without a group, and as long as a state of a parameter is there."""
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = adapter.bind(LEAVING["SkipNonFinite"], [param])
    for value in (1.0, torch.nan):
        param.grad = torch.full_like(param, value)
        optimizer.step()
    loaded = adapter.bind(LEAVING["SkipNonFinite"], [param])
    loaded.load_state_dict(optimizer.state_dict())
    loaded.param_groups.clear()
    for other in (loaded, copy.deepcopy(loaded)):
        other.add_param_group({"params": [*other.state]})
        assert float(other.param_groups[0]["skipped"]) == 1
    del loaded.param_groups[0]["skipped"]
    with pytest.raises(ValueError, match=r"the shared state has .*; SkipNonFinite keeps skipped"):
        loaded.step()
    optimizer.param_groups.clear()
    optimizer.state.clear()
    optimizer.add_param_group({"params": [param]})
    assert "skipped" not in optimizer.param_groups[0]


@pytest.mark.parametrize("back", ["before train", "after train"])
def test_a_group_that_leaves_while_a_model_is_evaluated_is_not_stepped_from_there(back):
    param, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = adapter.ScheduleFreeAdamW([{"params": [param]}, {"params": [other]}], lr=0.1)
    train(optimizer, [param, other], range(3))
    trained = param.detach().clone()
    optimizer.eval()
    del optimizer.param_groups[0]
    if back == "after train":
        optimizer.train()
    else:
        del optimizer.param_groups[0]
    optimizer.add_param_group({"params": [param]})
    with pytest.raises(RuntimeError, match=r"being evaluated.*call optimizer.train\(\)"):
        optimizer.step()
    optimizer.train()
    assert torch.equal(param, trained)
    optimizer.step()
