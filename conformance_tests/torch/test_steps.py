"""What a step computes and where it writes, as torch's own tests of optimizers ask for it.

The expected values are those of the rule itself, stepped by ``rule.update`` on tensors: an adapter
adds no arithmetic, so everything is equal to the last bit.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.arrays import parts
from samestep.conformance.harness import classes
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import as_seen, typical
from samestep.conformance.harness.torch_training import (
    assert_equal,
    everything,
    gradient,
    parameters,
    same,
    smooth,
    train,
)
from samestep.torch.entries import slots_in

made = partial(classes.made, adapter)


RULES = each_rule()


def kept_in(rule, slot, dtype):
    """The dtype of a slot of a parameter of that dtype; coefficients are never narrow."""
    kind = rule.slots()[slot].init.dtype
    wide = kind == "compute" or (kind == "range" and dtype is torch.float16)
    return samestep.step.compute_dtype(torch, dtype) if wide else dtype


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_class_writes_what_the_rule_computes_into_the_same_tensors(name, precision):
    rule, dtype = build(name), precision
    params = parameters(rule, dtype=dtype)
    optimizer = made(rule, params)
    assert isinstance(optimizer, torch.optim.Optimizer)
    expected = [p.detach().clone() for p in params]
    state, places = rule.init(expected), [p.data_ptr() for p in params]
    for t in range(6):
        grads = [gradient(t, i, p) for i, p in enumerate(params)]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        kept = [grad.clone() for grad in grads]
        optimizer.step()
        expected, state = rule.update(kept, expected, state)
        for i, param in enumerate(params):
            assert param.grad is grads[i] and torch.equal(grads[i], kept[i])
            assert same(param, expected[i]) and param.dtype == dtype, (t, i)
            for slot in rule.slots():
                pairs = zip(
                    parts(slots_in(optimizer.state[param])[slot]),
                    parts(state.slots[slot][i]),
                    strict=True,
                )
                stored = kept_in(rule, slot, dtype)
                assert all(same(a, b) and a.dtype == stored for a, b in pairs), (t, i, slot)
            assert int(optimizer.state[param]["step"]) == t + 1
    assert [p.data_ptr() for p in params] == places and all(p.is_leaf for p in params)
    assert all(same(optimizer.param_groups[0][n], v) for n, v in state.shared.items())


class Product(samestep.Rule, register=False):
    """A product of matrices in the step itself."""

    needs = "matrix"
    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        return param @ param.mT @ grad, {}


@pytest.mark.parametrize("how", ["reference", "packed", "differentiable", "update"])
@pytest.mark.parametrize("rule", [samestep.Muon(lr=0.1), Product()], ids=lambda rule: rule.name)
def test_autocast_around_a_step_has_no_say(rule, how):
    """It multiplies matrices in bfloat16."""
    results = []
    for lowered in (False, True):
        param = smooth(0, 8, 8).float()
        optimizer, state = None, rule.init({"w": param})
        if how != "update":
            chosen = {how: True} if how == "differentiable" else {"execution": how}
            optimizer = adapter.bind(rule, [("w", param)], **chosen)
        for seed in (1, 2):
            param.grad = smooth(seed, 8, 8).float()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
                if optimizer is None:
                    new, state = rule.update({"w": param.grad}, {"w": param}, state)
                    param = new["w"]
                else:
                    optimizer.step()
                assert (param @ param).dtype is (torch.bfloat16 if lowered else torch.float32)
        results.append(param)
    assert torch.equal(*results)


def test_a_step_without_gradients_or_with_zeros_changes_nothing(rule_class):
    rule = typical(
        rule_class, **({} if issubclass(rule_class, samestep.Wrapper) else {"weight_decay": 0.0})
    )
    if isinstance(rule, samestep.Wrapper):
        rule = rule_class(samestep.AdamW(weight_decay=0.0), **as_seen(rule_class))
    params = parameters(rule)
    kept = [param.detach().clone() for param in params]
    optimizer = made(rule, params)
    optimizer.step()
    assert all(map(torch.equal, params, kept)) and not optimizer.state
    for _ in range(3):
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
    assert all(map(torch.equal, params, kept))
    assert all(len(state) > 0 for state in optimizer.state.values())


@pytest.mark.parametrize("name", RULES)
def test_a_parameter_without_gradient_keeps_its_value_its_state_and_its_step_count(name):
    rule = build(name)
    shape = (2, 3)
    a, b, c = (torch.ones(shape, requires_grad=True) for _ in range(3))
    optimizer, alone = made(rule, [a, b]), made(rule, [c])
    for t in range(8):
        skipped = t in (0, 1, 4)
        a.grad, b.grad = gradient(t, 0, a), None if skipped else gradient(t, 1, b)
        before = everything(optimizer, [b])
        optimizer.step()
        if skipped:
            after = {k: v for k, v in everything(optimizer, [b]).items() if "group" not in k}
            assert_equal(after, {k: v for k, v in before.items() if "group" not in k})
        elif not rule.reduces:
            c.grad = gradient(t, 1, c)
            alone.step()
            assert torch.equal(b, c)
    assert (int(optimizer.state[a]["step"]), int(optimizer.state[b]["step"])) == (8, 5)


def test_the_default_dtype_has_no_say(rule_class):
    rule = typical(rule_class)
    results = []
    for dtype in (torch.float32, torch.float64):
        params = parameters(rule, dtype=torch.float32)
        torch.set_default_dtype(dtype)
        try:
            optimizer = made(rule, params)
            train(optimizer, params, range(4))
        finally:
            torch.set_default_dtype(torch.float32)
        results.append(everything(optimizer, params))
    assert_equal(*results)


@pytest.mark.parametrize("moved", [torch.float64, torch.bfloat16, torch.float32])
def test_a_model_may_change_its_dtype_and_state_does_not(rule_class, moved):
    """Parameters stay the same objects; the state is as it was, and steps are the rule's own."""
    rule = typical(rule_class)
    model = torch.nn.Linear(3, 2, bias=rule.min_ndim < 2)
    params = list(model.parameters())
    optimizer = made(rule, params)
    train(optimizer, params, range(2))
    kinds = {key: value.dtype for key, value in everything(optimizer, params).items()}
    values = [param.detach().clone().to(moved) for param in params]
    state = samestep.rule.State(
        2,
        {
            n: [copied(slots_in(optimizer.state[param])[n]) for param in params]
            for n in rule.slots()
        },
        {n: optimizer.param_groups[0][n].clone() for n in rule.shared()},
    )
    model.to(moved)
    for step in range(2, 5):
        train(optimizer, params, [step])
        values, state = rule.update([param.grad for param in params], values, state)
    assert all(map(torch.equal, params, values))
    after = {key: value.dtype for key, value in everything(optimizer, params).items()}
    assert after == {k: moved if k[0] == "param" else kind for k, kind in kinds.items()}


def copied(value):
    return tuple(map(copied, value)) if isinstance(value, tuple) else value.clone()


def test_state_is_made_and_stepped_on_meta(rule_class):
    """Shapes and dtypes are those of a real run, without memory or values."""
    rule = typical(rule_class)
    found = []
    for device in ("cpu", "meta"):
        params = [torch.nn.Parameter(param.to(device)) for param in parameters(rule)]
        optimizer = made(rule, params, execution="reference")
        optimizer.init_state()
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        tensors = everything(optimizer, params)
        assert {v.device.type for k, v in tensors.items() if k[0] != "step"} == {device}
        assert {int(v) for k, v in tensors.items() if k[0] == "step"} == {1}
        found.append({key: (value.shape, value.dtype) for key, value in tensors.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", RULES)
def test_strided_parameters_step_as_contiguous_ones_do(name):
    rule = build(name)
    strided = torch.arange(24.0).reshape(4, 6).T[::2].detach().requires_grad_()
    plain = strided.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    assert not strided.is_contiguous() and plain.is_contiguous()
    for param in (strided, plain):
        train(made(rule, [param]), [param], range(4))
    torch.testing.assert_close(strided, plain, rtol=1e-6, atol=1e-6)
    assert strided[0, 1] != 6.0


@pytest.mark.parametrize("name", RULES)
def test_empty_parameters_step_beside_others(name):
    rule = build(name)
    shapes = [(0,), (0, 3), (2, 0), (3, 2)]
    a = parameters(rule, shapes=shapes)
    b = [a[-1].detach().clone().requires_grad_()]
    together, alone = made(rule, a), made(rule, b)
    train(together, a, range(3))
    train(alone, b, range(3), offset=len(a) - 1)
    assert torch.equal(a[-1], b[0])


@pytest.mark.parametrize("name", RULES)
def test_dtypes_may_be_mixed_in_one_optimizer(name):
    rule = build(name)
    dtypes = [torch.float32, torch.bfloat16, torch.float64]
    params = [torch.ones(3, 2, dtype=d, requires_grad=True) for d in dtypes]
    expected = [p.detach().clone() for p in params]
    optimizer, state = made(rule, params), rule.init(expected)
    for t in range(4):
        train(optimizer, params, [t])
        expected, state = rule.update([p.grad for p in params], expected, state)
    assert all(torch.equal(a, b) for a, b in zip(params, expected, strict=True))
    for param in params:
        kept = {n: v.dtype for n, v in optimizer.state[param].items() if torch.is_tensor(v)}
        own = {n: kept_in(rule, n, param.dtype) for n in rule.slots() if n in kept}
        assert {n: kept[n] for n in own} == own


def replaced(rule, params):
    optimizer = made(rule, parameters(rule, 5))
    optimizer.param_groups[0]["params"][:] = params
    return optimizer


def ahead(rule, params):
    optimizer = made(rule, params)
    optimizer.init_state()
    assert all(set(rule.slots()) < set(slots_in(optimizer.state[param])) for param in params)
    return optimizer


BEGINNINGS = {
    "bound": lambda rule, params: adapter.bind(rule, iter(params)),
    "with parameters replaced in the groups": replaced,
    "with its state made before the first gradient": ahead,
}


@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_is_the_same_however_it_begins(name):
    rule = build(name)
    plain = made(rule, expected := parameters(rule))
    train(plain, expected, range(3))
    for begin in BEGINNINGS.values():
        optimizer = begin(rule, params := parameters(rule))
        train(optimizer, params, range(3))
        assert_equal(everything(optimizer, params), everything(plain, expected))


def test_a_parameter_without_elements_may_have_any_strides():
    param = torch.nn.Parameter(torch.empty(0).as_strided((0, 3), (0, 0)))
    opt = adapter.AdamW([param])
    param.grad = torch.zeros_like(param)
    opt.step()
    assert opt.steps_taken == 1
