"""Steps of fake tensors, as estimators of memory take them, and what a plan reads of real ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_executions import parameters, train
from samestep.torch import EXECUTIONS, state_dict
from samestep.torch.counting import counts_in

READING = ("item", "tolist", "__int__", "__float__", "__bool__", "__index__", "numpy")


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(
    "name",
    [
        *each_rule(lambda rule: rule.phases, most=1),
        *each_rule(lambda rule: rule.sees_axes and not rule.phases, most=1),
        *each_rule(lambda rule: not (rule.sees_axes or rule.phases), most=1),
    ],
)
def test_fake_tensors_are_stepped(name, execution, capturable):
    rule = typical(getattr(samestep, name))
    with FakeTensorMode():
        params = [torch.empty(shape).requires_grad_() for shape in [(4, 5), (4, 5), (6, 3)]]
        optimizer = adapter.bind(rule, params, execution=execution, capturable=capturable)
        for _ in range(3):
            for param in params:
                param.grad = torch.empty_like(param)
            optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    for param in params:
        state = optimizer.state[param]
        assert {"step", *rule.slots()} <= {slot.partition(".")[0] for slot in state}
        assert all(isinstance(value, torch._subclasses.FakeTensor) for value in state.values())


@pytest.mark.parametrize("capturable", [False, True])
def test_parameters_on_meta_are_stepped(capturable):
    params = [torch.empty(4, 5, device="meta").requires_grad_() for _ in range(2)]
    optimizer = adapter.Prodigy(params, capturable=capturable)
    for _ in range(2):
        for param in params:
            param.grad = torch.empty_like(param)
        optimizer.step()
        optimizer._plan = None  # so that counts are looked at
    assert optimizer.steps_taken == (0 if capturable else 2)
    optimizer.load_state_dict(optimizer.state_dict())
    real = torch.ones(4, 5).requires_grad_()
    real.grad = torch.ones(4, 5)
    other = adapter.AdamW([real])
    other.step()
    other.state[real]["step"] = torch.empty((), dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match="must be a 0-d tensor of a whole number"):
        other.step()


def test_shared_state_is_read_at_once(monkeypatch):
    groups = [{"params": parameters([(3,)])} for _ in range(3)]
    optimizer = adapter.Prodigy(groups)
    train(optimizer, [group["params"][0] for group in groups], 1)
    saved, read = optimizer.state_dict(), []
    for name in READING:
        own = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda tensor, *args, own=own: read.append(own) or own(tensor)
        )
    state_dict._check_shared(optimizer, saved["param_groups"])
    assert len(read) == 1


def test_counts_are_read_at_once(monkeypatch):
    """A plan reads the counts of all parameters in one go, which waits for a device once."""
    params = parameters([(3,)] * 50 + [(2, 2)] * 50)
    optimizer = adapter.bind(samestep.SkipNonFinite(samestep.AdamW()), params, capturable=True)
    train(optimizer, params, 2)
    optimizer.state[params[7]]["missed_skipped"] = torch.tensor(2.0)
    rules, read = optimizer._rules_of_groups(), []
    for name in READING:
        own = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda tensor, *args, own=own: read.append(own) or own(tensor)
        )
    plan, _ = optimizer._planned(rules, {"skipped": torch.tensor(0.0)}, [])
    assert len(read) == 1
    assert plan.expected == [2] * 100 and plan.missed[7] == (("skipped", 2),)


def test_counts_of_several_dtypes_are_read_as_they_are():
    good = [torch.tensor(3), torch.tensor(2.0**24 + 2, dtype=torch.float64), torch.tensor(7.0)]
    small = [torch.tensor(5, dtype=torch.uint8), torch.tensor(2**62), torch.tensor(-0.0)]
    bad = [torch.tensor(value) for value in (2.5, -1, math.nan, math.inf, 1e30, True, 1j, [1])]
    bad += [4, None]
    found = counts_in([*good, *bad, *small])
    assert found == [3, 2**24 + 2, 7, *[None] * len(bad), 5, 2**62, 0]
