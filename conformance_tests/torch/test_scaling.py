"""torch.amp.GradScaler: what it scales and skips, with and without reading from the device."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_executions import NothingRead
from samestep.conformance.harness.torch_training import assert_equal, everything, models, peers

SUPPORTED = "_step_supports_amp_scaling"


@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_grad_scaler_scales_and_skips_as_with_torchs(name, clips):
    pair = models(dtype=torch.float32)
    optimizers = peers(name, *(model.parameters() for model in pair), lr=0.01, weight_decay=0.1)
    scalers = [torch.amp.GradScaler("cpu", 2.0**8, growth_interval=3) for _ in optimizers]
    taken = {id(optimizer): 0 for optimizer in optimizers}
    for optimizer in optimizers:
        optimizer.register_step_post_hook(
            lambda own, args, kwargs: taken.update({id(own): taken[id(own)] + 1})
        )
    for step in range(24):
        for model, optimizer, scaler in zip(pair, optimizers, scalers, strict=True):
            optimizer.zero_grad()
            scaler.scale(model.loss(step)).backward()
            if step in (5, 6, 17):
                model.inner.weight.grad[0, 0] = math.inf if step != 6 else math.nan
            before = everything(optimizer, [*model.parameters()])
            if clips:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            if step in (5, 6, 17):
                assert_equal(everything(optimizer, [*model.parameters()]), before)
        assert scalers[0].get_scale() == scalers[1].get_scale()
    assert {*taken.values()} == {21}
    assert {int(state["step"]) for state in optimizers[0].state.values()} == {21}
    assert scalers[0].get_scale() > 2.0**8
    for one, other in zip(*(model.parameters() for model in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6)


def scaled(rule, fast, unscales, execution="reference"):
    """Everything after steps under a scaler, of which four overflow, and what tells the skips."""
    torch.manual_seed(0)
    params = [torch.randn(shape, requires_grad=True) for shape in [(4, 5), (6, 3), (4, 5)]]
    optimizer = adapter.bind(rule, params, capturable=True, execution=execution)
    assert optimizer._step_supports_amp_scaling
    if not fast:
        optimizer.__class__ = type("Slow", (adapter.RuleOptimizer,), {SUPPORTED: False})
    scaler = torch.amp.GradScaler("cpu", 3.0, growth_factor=1.7, growth_interval=3)
    noise, seen = torch.Generator().manual_seed(1), []
    for step in range(12):
        for param in params:
            grad = torch.randn(param.shape, generator=noise) * 10.0 ** (step % 3 - 1)
            param.grad = scaler.scale(grad)
        if step in (0, 5, 6, 9):
            params[1].grad[0, 0] = math.nan if step == 6 else math.inf
        if unscales:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(params, 0.5, foreach=False)
        before = everything(optimizer, params)
        with NothingRead() if fast and step > 1 else contextlib.nullcontext():
            scaler.step(optimizer)
        if step in (5, 6, 9):
            assert_equal(everything(optimizer, params), before)
        seen += [param.grad.clone() for param in params]
        scaler.update()
        assert not hasattr(optimizer, "found_inf") and not hasattr(optimizer, "grad_scale")
    assert {int(optimizer.state[param]["step"]) for param in params} == {8}
    found = everything(optimizer, params)
    return found | {("grad", i): grad.nan_to_num() for i, grad in enumerate(seen)}


@pytest.mark.parametrize("unscales", [False, True])
def test_a_grad_scaler_on_its_fast_path_has_the_numbers_of_the_slow_one(rule_class, unscales):
    """Where steps are counted on the device; nothing is read from it then, and skips are exact."""
    rule = typical(rule_class)
    assert_equal(scaled(rule, True, unscales), scaled(rule, False, unscales))


@pytest.mark.parametrize(
    ("execution", "name"),
    [
        *(("packed", name) for name in ("AdamW", "Adafactor", "Muon", "Prodigy", "Lookahead")),
        *(("compiled", name) for name in ("AdamW", "Lookahead")),
        *(
            pytest.param("compiled", name, marks=pytest.mark.thorough)
            for name in ("Adafactor", "Muon", "Prodigy")
        ),
    ],
)
def test_a_grad_scaler_takes_its_fast_path_in_every_execution(name, execution):
    rule = typical(getattr(samestep, name))
    fast, slow = (scaled(rule, fast, False, execution) for fast in (True, False))
    assert fast.keys() == slow.keys()
    for key, value in slow.items():
        torch.testing.assert_close(fast[key], value, rtol=2e-6, atol=2e-6)


def test_a_grad_scaler_takes_its_slow_path_where_steps_are_counted_on_the_host():
    """It has to be known there whether this is one; a subclass of tensor is not chosen between."""
    params = [torch.ones(3, requires_grad=True)]
    assert adapter.AdamW(params, capturable=True)._step_supports_amp_scaling
    assert not adapter.AdamW(params)._step_supports_amp_scaling
    copies = [torch.ones(3, requires_grad=True).clone()]
    both = adapter.AdamW(copies, capturable=True, differentiable=True)
    assert not both._step_supports_amp_scaling


def test_a_grad_scaler_that_is_off_is_not_there():
    model, alone = models()
    optimizer, other = (adapter.AdamW(own.parameters()) for own in (model, alone))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for step in range(3):
        scaler.scale(model.loss(step)).backward()
        alone.loss(step).backward()
        scaler.step(optimizer)
        scaler.update()
        other.step()
    assert all(map(torch.equal, model.parameters(), alone.parameters()))
