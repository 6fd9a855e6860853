"""Schedulers of torch, schedules, and a learning rate that is a tensor."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as distributed
from torch.optim import lr_scheduler, swa_utils
from torch.testing._internal.common_optimizers import OptimizerInfo

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import classes
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import is_own, settings
from samestep.conformance.harness.torch_training import (
    PEERS,
    Model,
    assert_close,
    models,
    parameters,
    peers,
    train,
)

made = partial(classes.made, adapter)


@pytest.mark.only(where=is_own)
def test_every_input_goes_the_right_direction_under_schedulers(rule_class):
    """With the default lr, which for a rule from outside of the package need not suit this loss.

    With an estimated step size the last loss may be far from the best one.
    """
    (scheduled,) = OptimizerInfo(None, optim_inputs_func=None).scheduler_inputs
    for place, (label, rule) in enumerate(settings(rule_class).items()):
        noise = torch.Generator().manual_seed(0)
        stride = 1 + place % 2  # every other one is not contiguous
        weight = torch.nn.Parameter(torch.randn(10, 5, stride, generator=noise)[..., 0])
        bias = torch.nn.Parameter(torch.randn(10, stride, generator=noise)[..., 0])
        point = torch.randn(5, generator=noise)
        optimizer = made(rule, [weight, bias][: 3 - max(1, rule.min_ndim)])
        schedulers = [make(optimizer) for make in scheduled]

        def closure(weight=weight, bias=bias, point=point, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (weight.mv(point) + bias).pow(2).mean()
            loss.backward()
            return loss

        losses = []
        for _ in range(20):
            losses.append(float(optimizer.step(closure).detach()))
            for scheduler in schedulers:
                plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
                scheduler.step(*losses[-1:] if plateau else [])
        sought = max if rule.hypers["maximize"] else min
        assert sought(losses) != losses[0], label


@pytest.mark.parametrize("name", each_rule())
def test_a_learning_rate_may_be_a_tensor_of_one_element(name):
    """Of any number of dimensions; where a rule is given, of none."""
    rule = build(name)
    wraps = isinstance(rule, samestep.Wrapper)
    for dimensions in range(1 if wraps else 3):
        numbers, tensors = parameters(rule), parameters(rule)
        lr = torch.full((1,) * dimensions, 0.5, dtype=torch.float64)
        number = made(rule.replace(lr=0.5), numbers)
        tensor = made(rule.replace(lr=lr), tensors) if wraps else made(rule, tensors, lr=lr)
        for step, value in enumerate((0.5, 0.5, 0.25, 0.0)):
            tensor.param_groups[0]["lr"].fill_(value)
            number.param_groups[0]["lr"] = value
            train(number, numbers, [step])
            train(tensor, tensors, [step])
            assert all(map(torch.equal, numbers, tensors))


HALVES = {"base_lr": 0.01, "max_lr": 0.1}


SCHEDULERS = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 5), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 10),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 12, 1e-4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, **HALVES, step_size_up=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=12),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 9], 0.3),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40, three_phase=True),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 25, 2.0),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.StepLR(o, 4, 0.5)], [5]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 4, 0.3),
    "SWALR": lambda o: swa_utils.SWALR(o, 1e-3, anneal_epochs=7),
}


CYCLES = ("CyclicLR", "OneCycleLR")
"""Schedulers of momentum or betas too."""


def test_there_is_a_test_of_every_scheduler():
    classes = [*vars(lr_scheduler).values(), *vars(swa_utils).values()]
    there = {
        one.__name__
        for one in classes
        if isinstance(one, type) and issubclass(one, lr_scheduler.LRScheduler)
    }
    assert {name for name in there if not name.startswith("_")} - {"LRScheduler"} == {*SCHEDULERS}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("name, hypers", [("AdamW", {}), ("SGD", {"momentum": 0.9})])
def test_a_scheduler_does_with_ours_what_it_does_with_torchs(name, hypers, kind):
    ours, theirs = models()
    optimizers = peers(
        name,
        [{"params": ours.inner.parameters()}, {"params": ours.outer.parameters(), "lr": 0.02}],
        [{"params": theirs.inner.parameters()}, {"params": theirs.outer.parameters(), "lr": 0.02}],
        lr=0.05,
        weight_decay=0.1,
        **hypers,
    )
    schedulers = [SCHEDULERS[kind](optimizer) for optimizer in optimizers]
    seen = {"lr": set(), "cycled": set()}
    for step in range(40):
        for model, optimizer, scheduler in zip((ours, theirs), optimizers, schedulers, strict=True):
            optimizer.zero_grad()
            loss = model.loss(step)
            loss.backward()
            optimizer.step()
            if step == 20:  # as after an interruption
                scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            if step < 39:
                scheduler.step(*([loss.item()] if plateau else []))
        groups = [optimizer.param_groups for optimizer in optimizers]
        for one, other in zip(*groups, strict=True):
            assert one["lr"] == other["lr"] and one.get("betas") == other.get("betas")
            assert one.get("momentum") == other.get("momentum")
            seen["lr"].add(one["lr"])
            seen["cycled"].add((one.get("betas"), one.get("momentum")))
    assert_close(ours.parameters(), theirs.parameters(), 1e-10)
    assert len(seen["lr"]) > 2 and (len(seen["cycled"]) > 1) == (kind in CYCLES)


@pytest.mark.parametrize("kind", sorted({*SCHEDULERS} - {*CYCLES, "ReduceLROnPlateau"}))
@pytest.mark.parametrize("schedule", [samestep.schedules.CosineDecay(0.1, 9), lambda step: 0.1])
def test_a_scheduler_of_a_schedule_is_refused(kind, schedule):
    """Those that bring rates of their own take its place, as they do with a number."""
    model = Model()
    optimizer = adapter.AdamW(
        [{"params": model.inner.parameters(), "lr": 0.1}, {"params": model.outer.parameters()}],
        lr=schedule,
    )
    before = str(optimizer.param_groups)
    with pytest.raises(TypeError) as refusal:
        SCHEDULERS[kind](optimizer)
    words = f"AdamW: lr of group 1 is {schedule!r}, a schedule of its own; a torch.optim.lr_sched"
    assert str(refusal.value).startswith(words) and "a number" in str(refusal.value)
    if kind != "SWALR":  # adds its own to the groups first
        assert str(optimizer.param_groups) == before
    assert "step" not in vars(optimizer)


@pytest.mark.parametrize("name", PEERS)
def test_a_cycle_does_with_ours_what_it_does_with_torchs(name, exact):
    """Learning rate, and momentum or the first beta where there is one."""
    ours, theirs = models()
    weights = [[p for p in model.parameters() if p.ndim > 1] for model in (ours, theirs)]
    optimizers = peers(name, *weights, lr=0.01)
    cycled = {"betas", "momentum"} & {*optimizers[1].defaults}
    schedulers = [
        lr_scheduler.OneCycleLR(o, 0.05, total_steps=31, cycle_momentum=bool(cycled))
        for o in optimizers
    ]
    for step in range(30):
        for model, optimizer, scheduler in zip((ours, theirs), optimizers, schedulers, strict=True):
            optimizer.zero_grad()
            model.loss(step).backward()
            optimizer.step()
            scheduler.step()
    assert_close(*weights, 1e-11)


@pytest.mark.parametrize("name", each_rule())
def test_a_scheduler_changes_the_step_as_setting_the_values_by_hand_does(name):
    rule = build(name, lr=0.1)
    cycled = next((n for n in ("betas", "momentum") if n in rule.hypers), None)
    peer = torch.optim.SGD([torch.ones(1)], lr=0.1, momentum=0.9)
    params, copies = parameters(rule), parameters(rule)
    optimizer, manual = made(rule, params), made(rule, copies)
    schedulers = [
        lr_scheduler.OneCycleLR(o, 0.2, total_steps=7, cycle_momentum=cycled is not None)
        for o in (optimizer, peer)
    ]
    for t in range(6):
        lr, first = peer.param_groups[0]["lr"], peer.param_groups[0]["momentum"]
        manual.param_groups[0]["lr"] = lr
        if cycled:
            rest = rule.hypers["betas"][1:] if cycled == "betas" else ()
            manual.param_groups[0][cycled] = (first, *rest) if cycled == "betas" else first
        train(optimizer, params, [t])
        train(manual, copies, [t])
        assert all(map(torch.equal, params, copies)), t
        peer.step()
        for scheduler in schedulers:
            scheduler.step()
        assert peer.param_groups[0]["lr"] != lr


@pytest.mark.parametrize("name", each_rule())
def test_schedules_are_called_with_the_steps_taken_so_far(name):
    rule = build(name)
    betas = rule.hypers.get("betas", ())
    scheduled = {"lr": lambda step: 0.5 / (1 + step)}
    if betas:
        scheduled["betas"] = (lambda step: betas[0] / (1 + step), *betas[1:])
    a, b = parameters(rule), parameters(rule)
    optimizer, manual = made(rule.replace(**scheduled), a), made(rule, b)
    for t in range(4):
        step = rule.steps_inside(t) if isinstance(rule, samestep.Wrapper) else t
        manual.param_groups[0]["lr"] = 0.5 / (1 + step)
        if betas:
            manual.param_groups[0]["betas"] = (betas[0] / (1 + step), *betas[1:])
        train(optimizer, a, [t])
        train(manual, b, [t])
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), t


def test_a_state_holds_the_number_of_a_schedule_and_the_schedule_stays():
    def optimizer(params):
        betas = (lambda step: 0.9 / (step + 1), 0.999)
        return adapter.AdamW(params, lr=lambda step: 0.1 * 0.5**step, betas=betas)

    params = parameters(samestep.AdamW())
    first = optimizer(params)
    train(first, params, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert saved["param_groups"][0]["lr"] == 0.1 * 0.5**2
    assert saved["param_groups"][0]["betas"] == (0.9 / 3, 0.999)
    copies = [param.detach().clone() for param in params]
    second = optimizer(copies)
    second.load_state_dict(saved)
    train(first, params, range(3, 6))
    train(second, copies, range(3, 6))
    assert all(map(torch.equal, params, copies))


def counted(updates, calls=5):
    """SGD after some calls. Parameters have gradients in the first ones, and in the last two."""
    model = torch.nn.ParameterList([torch.zeros(2), torch.zeros(2)])
    first, second = model
    groups = [{"params": [first]}, {"params": [second]}]
    optimizer = adapter.SGD(groups, lr=lambda step: 1.0 + step, momentum=0.5)
    for t in range(calls):
        first.grad, second.grad = (torch.zeros(2) if n else None for n in (t < updates, t > 2))
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("kind", ["not saved", "state dict", "distributed"])
@pytest.mark.parametrize("updates, cleared", [(5, False), (5, True), (3, False)])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_calls_are_counted_whatever_states_are_left(kind, updates, cleared, tmp_path):
    model, optimizer = counted(updates)
    if kind != "not saved":
        saved = distributed.get_optimizer_state_dict(model, optimizer)
        model, optimizer = counted(updates, calls=0)
        if kind == "distributed":
            dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
            optimizer.init_state()
            saved = distributed.get_optimizer_state_dict(model, optimizer)
            dcp.load(saved, checkpoint_id=tmp_path, no_dist=True)
        distributed.set_optimizer_state_dict(model, optimizer, saved)
    if cleared:
        optimizer.state.clear()
    else:
        del optimizer.param_groups[0]
        del optimizer.state[model[0]]
    model[1].grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(model[1], torch.full((2,), -6.0))


@pytest.mark.parametrize("lr", [0.5, lambda step: 0.5])
@pytest.mark.parametrize("replaced", [False, True])
def test_states_that_begin_anew_after_skipped_steps_count_their_own(lr, replaced):
    param = torch.zeros(2)
    optimizer = adapter.bind(samestep.SkipNonFinite(samestep.Adam(lr=lr)), [param])
    for first in (1.0, torch.nan, torch.nan, 1.0):
        param.grad = torch.full((2,), first)
        optimizer.step()
    optimizer.state.clear()
    if replaced:
        param = torch.zeros(2)
        optimizer.add_param_group({"params": [param]})
        del optimizer.param_groups[0]
    fresh = param.clone()
    other = adapter.Adam([fresh], lr=0.5)
    for t in range(3):
        param.grad = fresh.grad = torch.tensor([1.0, -0.3 * t])
        optimizer.step()
        other.step()
    assert torch.equal(param, fresh)


@pytest.mark.parametrize("how", ["state dict", "checkpoint"])
def test_calls_are_counted_on_the_device_after_a_load_too(how):
    """A CUDA graph of a step would replay the call of its capture for ever."""
    param = torch.ones(2)
    optimizer = adapter.AdamW([("w", param)], lr=lambda step: 0.1 / (step + 1), capturable=True)
    for calls in (1, 2, 3):
        param.grad = torch.ones(2)
        optimizer.step()
        assert torch.equal(optimizer._calls, torch.tensor(calls))
        if how == "checkpoint":
            samestep.restore(optimizer, samestep.checkpoint(optimizer))
        else:
            optimizer.load_state_dict(optimizer.state_dict())


class Halved(samestep.Rule, register=False):
    """p = p - lr w g, where w is 0.3 from the third step on."""

    lr = samestep.hyper(0.1, "step size", unit="parameter/gradient", ge=0)
    betas = samestep.hyper((0.9, 0.999), "weights", unit="1", ge=0, le=1)

    def scalars(self, xp, t):
        return {"w": xp.where(t > 2, 0.3, self.betas[0]), "v": self.betas[1]}

    def direction(self, xp, grad, param, state, s):
        return s.w * s.v * grad, {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_in_the_compute_dtype_whatever_the_default_is(dtype):
    own = (lambda step: 0.9 / (1 + step), lambda step: torch.where(step > 1, 0.99, 0.7))
    kinds = samestep.schedules
    known = (kinds.Linear(0.9, 0.3, 9), kinds.HalfLife(0.99, 0.9999, 1000))
    decay = kinds.Join((kinds.ExponentialDecay(0.1, 7, 0.3), own[0]), (2,))
    for rule in (Halved(betas=own), Halved(lr=decay, betas=known), samestep.Adam(lr=own[1])):
        params = []
        for default in (torch.bfloat16, torch.float32, torch.float64):
            params.append(torch.zeros(3, dtype=dtype))
            optimizer = adapter.bind(rule, params[-1:], capturable=True)
            torch.set_default_dtype(default)
            try:
                for t in range(4):
                    params[-1].grad = torch.full_like(params[-1], 0.1 + t)
                    optimizer.step()
                assert torch.get_default_dtype() is default
            finally:
                torch.set_default_dtype(torch.float32)
        assert all(torch.equal(param, params[0]) for param in params)


def test_a_number_of_few_digits_in_a_group_is_refused():
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = adapter.AdamW([param])
    param.grad = torch.ones(2)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.001, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"^AdamW\(lr=.* must be a number of Python"):
        optimizer.step()
    assert param.tolist() == [1.0, 1.0]


def test_the_default_dtype_of_other_threads_is_left_alone():
    found = []

    def lr(step):
        with ThreadPoolExecutor() as other:
            found.append(other.submit(torch.get_default_dtype).result())
        return torch.full((), 0.1) / (1 + step) + torch.tensor(0.2) * (0.5**step)

    param = torch.zeros(1, dtype=torch.float64)
    optimizer = adapter.bind(samestep.SGD(lr=lr), [param], capturable=True)
    expected = torch.zeros(1, dtype=torch.float64)
    for t in range(3):
        param.grad = torch.ones_like(param)
        optimizer.step()
        expected -= 0.1 / (1 + t) + 0.2 * 0.5**t
    assert set(found) == {torch.float32} and torch.allclose(param, expected, rtol=1e-15, atol=0)
