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
from samestep.torch import EXECUTIONS
from samestep.torch.counting import counts_in


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
    for param in params:
        state = optimizer.state[param]
        assert {"step", *rule.slots()} <= {slot.partition(".")[0] for slot in state}
        assert all(isinstance(value, torch._subclasses.FakeTensor) for value in state.values())


def test_counts_are_read_at_once(monkeypatch):
    """A plan reads the counts of all parameters in one go, which waits for a device once."""
    params = parameters([(3,)] * 50 + [(2, 2)] * 50)
    optimizer = adapter.bind(samestep.SkipNonFinite(samestep.AdamW()), params, capturable=True)
    train(optimizer, params, 2)
    optimizer.state[params[7]]["missed_skipped"] = torch.tensor(2.0)
    rules, read = optimizer._rules_of_groups(), []
    for name in ("item", "tolist", "__int__", "__float__", "__bool__", "__index__", "numpy"):
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
    bad += [4, None, torch.empty((), device="meta")]
    found = counts_in([*good, *bad, *small])
    assert found == [3, 2**24 + 2, 7, *[None] * len(bad), 5, 2**62, 0]
