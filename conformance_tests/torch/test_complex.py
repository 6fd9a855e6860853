"""Complex parameters step as their real and imaginary parts."""

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
    PEERS,
    assert_close,
    assert_equal,
    everything,
    gradient,
    parameters,
    peers,
    train,
)
from samestep.torch.entries import slots_in

made = partial(classes.made, adapter)


COMPLEX = [(3,), (4, 5), (2, 3, 2), ()]


@pytest.mark.only(where=lambda rule_class: not typical(rule_class).sees_axes)
@pytest.mark.parametrize("execution", ["reference", "packed"])
def test_complex_parameters_step_as_their_real_and_imaginary_parts(rule_class, execution):
    rule = typical(rule_class)
    params = parameters(rule, shapes=COMPLEX, dtype=torch.complex128)
    twins = [torch.view_as_real(param.detach().clone()) for param in params]
    ours, pairs = (made(rule, both, execution=execution) for both in (params, twins))
    for step in range(6):
        for place, (param, twin) in enumerate(zip(params, twins, strict=True)):
            param.grad = gradient(step, place, param)
            twin.grad = torch.view_as_real(param.grad.clone())
        if step == 3:
            params[0].grad = params[0].grad.conj().resolve_conj().conj()  # lazily conjugate
        ours.step()
        pairs.step()
    assert all(param.is_complex() for param in params)
    assert_close([torch.view_as_real(param.detach()) for param in params], twins, 1e-14)
    for param, twin in zip(params, twins, strict=True):
        for name in rule.slots():
            kept = [slots_in(o.state[p])[name] for o, p in ((ours, param), (pairs, twin))]
            for one, other in zip(*map(parts, kept), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [n for n in PEERS if not typical(getattr(samestep, n)).sees_axes])
def test_complex_parameters_step_as_in_torch(name, exact):
    rule = getattr(samestep, name)()
    params = parameters(rule, shapes=COMPLEX, dtype=torch.complex128)
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    both = peers(name, params, others, lr=0.01, weight_decay=0.1)
    for optimizer, own in zip(both, (params, others), strict=True):
        train(optimizer, own, range(60))
    assert_close(params, others)


@pytest.mark.parametrize("execution", ["reference", "packed"])
def test_a_conjugate_view_is_refused_as_a_parameter_and_taken_as_a_gradient(execution):
    """What is written into a copy of it would be lost."""
    values = torch.randn(3, dtype=torch.complex64)
    param, other = torch.nn.Parameter(values.clone()), torch.nn.Parameter(values.clone())
    optimizers = [adapter.AdamW([p], lr=0.1, execution=execution) for p in (param, other)]
    param.grad, other.grad = torch.conj(values), torch.conj_physical(values)
    assert param.grad.is_conj()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(param, other) and not torch.equal(param.detach(), values)
    before = everything(optimizers[0], [param])
    bad = torch.nn.Parameter(values.conj())
    bad.grad = torch.ones_like(bad)
    optimizers[0].add_param_group({"params": bad})
    with pytest.raises(ValueError, match="AdamW: parameter '1' is a view that conjugates"):
        optimizers[0].step()
    assert_equal(everything(optimizers[0], [param]), before)
