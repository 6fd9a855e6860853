"""Training loops of torch: averaged models, gradients that are released, torch.compile."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.optim import lr_scheduler, swa_utils

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import classes
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_training import Model, assert_close, models, peers, smooth

made = partial(classes.made, adapter)


@pytest.mark.parametrize("average", [None, swa_utils.get_ema_multi_avg_fn(0.9)])
def test_averaged_models_are_those_of_torch(average):
    pair = models()
    optimizers = peers("AdamW", *(model.parameters() for model in pair), lr=0.05)
    averages = [swa_utils.AveragedModel(model, multi_avg_fn=average) for model in pair]
    swaps = [swa_utils.SWALR(optimizer, 0.01, 5) for optimizer in optimizers]
    for step in range(30):
        for model, optimizer, averaged, swap in zip(pair, optimizers, averages, swaps, strict=True):
            optimizer.zero_grad()
            model.loss(step).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step > 10:
                averaged.update_parameters(model)
                swap.step()
    assert_close(averages[0].parameters(), averages[1].parameters())
    assert not torch.equal(averages[0].module.inner.weight, pair[0].inner.weight)


@pytest.mark.only(where=lambda rule: not rule.reduces)
def test_gradients_may_be_released_in_the_backward_pass(rule_class):
    """An optimizer for each parameter, stepped as soon as its gradient is there."""
    rule = typical(rule_class)
    together, released = models()
    pair = [
        [p for p in model.parameters() if p.ndim >= rule.min_ndim] for model in (together, released)
    ]
    optimizer = made(rule, pair[0])
    own = {param: made(rule, [param]) for param in pair[1]}

    def release(param):
        own[param].step()
        own[param].zero_grad()

    for param in pair[1]:
        param.register_post_accumulate_grad_hook(release)
    for step in range(6):
        together.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
        released.loss(step).backward()
        assert all(param.grad is None for param in pair[1])
    assert_close(*pair, 1e-14)


compiling = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""Dynamo itself looks at it."""


@pytest.fixture
def dynamo():
    """Counts of the graphs and breaks of torch.compile, from a fresh start."""
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def training_step(model, optimizer):
    def train(points):
        optimizer.zero_grad()
        loss = (model(points) - points[:, :2].sign()).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return train


KINDS = ["AdamW", "Lion", "LAMB", "Adafactor", "Prodigy", "Lookahead"]
"""A rule of each kind that takes parameters of any shape."""


@compiling
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", KINDS)
def test_a_compiled_training_step_has_the_numbers_of_the_plain_one(name, compiler, dynamo):
    """After two steps nothing is compiled again, also where the learning rate changes."""
    rule = typical(getattr(samestep, name))
    pair = models(dtype=torch.float32)
    optimizers = [made(rule, model.parameters()) for model in pair]
    schedulers = [lr_scheduler.ExponentialLR(optimizer, 0.9) for optimizer in optimizers]
    steps = [training_step(*both) for both in zip(pair, optimizers, strict=True)]
    counting = CompileCounterWithBackend(compiler)
    compiled = torch.compile(steps[1], backend=counting)
    graphs = 0
    for step in range(10):
        points = smooth(step, 16, 4).float() * 10.0 ** (step % 3 - 1)
        again = torch._dynamo.config.patch(error_on_recompile=step >= 2)
        with again:
            losses = steps[0](points), compiled(points)
        torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
        for scheduler in schedulers:
            scheduler.step()
        graphs = counting.frame_count if step < 2 else graphs
        assert counting.frame_count == graphs > 0
    tolerance = 0.0 if compiler == "eager" else 1e-5
    assert_close(*(model.parameters() for model in pair), tolerance)


@compiling
def test_a_graph_breaks_where_it_does_with_torch(dynamo):
    """torch.optim keeps its step out of the graph around it too, and refuses fullgraph."""
    breaks = []
    for make in (adapter.AdamW, torch.optim.AdamW):
        torch._dynamo.reset()
        dynamo.clear()
        model = Model()
        optimizer = make(model.parameters())
        torch.compile(training_step(model, optimizer), backend="eager")(smooth(0, 16, 4))
        breaks.append(len(dynamo["graph_break"]))
        with pytest.raises(torch._dynamo.exc.Unsupported):
            torch.compile(lambda o=optimizer: o.step(), backend="eager", fullgraph=True)()
    assert breaks[0] == breaks[1]


@compiling
def test_a_compiled_step_calls_hooks_and_closures(dynamo):
    param, calls = torch.ones(2, requires_grad=True), []
    optimizer = adapter.SGD([param], lr=0.25)
    optimizer.register_step_post_hook(lambda *given: calls.append(param.detach().clone()))

    def closure():
        optimizer.zero_grad()
        loss = (param * param).sum()
        loss.backward()
        return loss

    step = torch.compile(optimizer.step, backend="eager")
    assert [step(closure).item() for _ in range(3)] == [2.0, 0.5, 0.125]
    assert [float(value[0]) for value in calls] == [0.5, 0.25, 0.125]
