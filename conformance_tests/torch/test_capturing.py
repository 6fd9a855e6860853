"""Capturing a step in a CUDA graph, which is pretended: what is refused, and what is warned of."""

from __future__ import annotations

import warnings

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.torch_executions import parameters, train


@pytest.fixture
def captured(monkeypatch):
    """A function that steps as if a CUDA graph were captured."""
    now = []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(now))

    def step(optimizer, params, first=0):
        now.append(True)
        try:
            train(optimizer, params, 1, first)
        finally:
            now.clear()

    return step


def test_a_capture_before_the_first_step_is_refused(captured):
    params = parameters([(3, 2), (4,)])
    optimizer = adapter.AdamW(params, lr=0.1, capturable=True)
    before = [param.clone() for param in params]
    with pytest.raises(RuntimeError, match=r"^AdamW: .* this is the first step, .*; take one"):
        captured(optimizer, params)
    assert all(map(torch.equal, params, before)) and not optimizer.state
    train(optimizer, params, 1)
    captured(optimizer, params, 1)
    optimizer.state[params[0]]["m"] = torch.zeros_like(params[0])
    with pytest.raises(RuntimeError, match="gradients or state have changed since the last"):
        captured(optimizer, params, 2)


def test_a_capture_of_steps_that_count_on_the_host_is_refused(captured):
    params = parameters([(3, 2)])
    optimizer = adapter.AdamW(params, lr=0.1)
    with pytest.raises(RuntimeError, match=r"AdamW: a step that counts on the host .*capturable=T"):
        captured(optimizer, params)


def seen(change):
    """The warnings of a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        change()
    return [str(one.message) for one in found]


NEXT = {
    "step": lambda optimizer, params: train(optimizer, params, 1, 2),
    "zero_grad": lambda optimizer, params: optimizer.zero_grad(),
    "state_dict": lambda optimizer, params: optimizer.state_dict(),
}


@pytest.mark.parametrize("call", NEXT)
@pytest.mark.parametrize("tensor", [False, True])
def test_a_number_of_the_host_that_changes_after_a_capture_is_named(call, tensor, captured):
    """A replay never enters Python, so it is what is called next that notices."""
    params = parameters([(3, 2), (4,)])
    lr = torch.tensor(0.1) if tensor else 0.1  # a tensor of the host is read as a number
    optimizer = adapter.AdamW(params, lr=lr, capturable=True)
    group = optimizer.param_groups[0]
    train(optimizer, params, 1)
    captured(optimizer, params, 1)
    assert seen(lambda: NEXT[call](optimizer, params)) == []
    if tensor:
        group["lr"].fill_(0.5)
    else:
        group["lr"] = 0.5
    group["betas"] = (0.9, 0.99)
    lr_said, betas_said = seen(lambda: NEXT[call](optimizer, params))
    assert lr_said.startswith("AdamW: lr of group 0 was 0.1") and "is 0.5 now" in lr_said
    assert "a tensor on the device" in lr_said
    assert "betas of group 0 was (0.9, 0.999) when" in betas_said
    assert seen(lambda: NEXT[call](optimizer, params)) == []
    assert seen(lambda: captured(optimizer, params, 3)) == []
    assert seen(lambda: NEXT[call](optimizer, params)) == []


def test_state_that_is_replaced_after_a_capture_is_said():
    """``load_state_dict`` puts other tensors in the place of those that a graph writes into."""
    params = parameters([(3, 2)])
    optimizer = adapter.bind(samestep.AdamW(lr=0.1), params, capturable=True)
    train(optimizer, params, 1)
    optimizer._captured = adapter.capture.Captured([])
    optimizer.load_state_dict(optimizer.state_dict())
    (said,) = seen(lambda: train(optimizer, params, 1, 1))
    assert said.startswith("AdamW: parameters, gradients or state have changed since a step was")
    assert seen(lambda: train(optimizer, params, 1, 2)) == []
