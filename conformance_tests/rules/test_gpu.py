"""On a GPU: it computes what the host does, a step waits for nothing, and its graph is replayed."""

from __future__ import annotations

import os

import pytest

import samestep
from samestep.conformance.harness.settings import typical

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

if torch.accelerator.is_available():
    DEVICE = torch.accelerator.current_accelerator().type
elif "SAMESTEP_DRY_RUN" in os.environ:
    DEVICE = "cpu"
else:
    pytest.skip("there is no GPU", allow_module_level=True)

of_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="only CUDA can tell")
EXECUTIONS = ("reference", "packed", "compiled")
SHAPES = [(300, 200), (300, 200), (7, 5), (40, 3)]


def parameters(device):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(device) for shape in SHAPES]


def give_gradients(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.device)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", samestep.rules.__all__)
def test_a_gpu_computes_what_the_host_does(name, execution):
    results = []
    for device in ("cpu", DEVICE):
        params = parameters(device)
        optimizer = adapter.bind(typical(getattr(samestep, name)), params, execution=execution)
        for seed in range(4):
            give_gradients(params, seed)
            optimizer.step()
        results.append([param.cpu() for param in params])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@of_cuda
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", samestep.rules.__all__)
def test_a_step_waits_for_nothing(name, execution):
    params = parameters("cuda")
    rule = typical(getattr(samestep, name))
    optimizer = adapter.bind(rule, params, execution=execution, capturable=True)
    for seed in range(2):
        give_gradients(params, seed)
        optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def replayed(rule, execution, captured, lr=None):
    """Parameters after four steps, the last three of them replayed if captured."""
    params = parameters("cuda")
    given = {} if lr is None else {"lr": lr}
    groups = [{"params": params, **given}]
    optimizer = adapter.bind(rule, groups, execution=execution, capturable=True)
    give_gradients(params, 0)
    grads = [param.grad for param in params]
    optimizer.step()
    step = optimizer.step
    if captured:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            optimizer.step()
        step = graph.replay
    for seed in range(1, 4):
        generator = torch.Generator().manual_seed(seed)
        for grad in grads:
            grad.copy_(torch.randn(grad.shape, generator=generator))
        if lr is not None:
            lr.fill_(0.1 / seed)
        step()
    return [param.cpu() for param in params]


@of_cuda
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", samestep.rules.__all__)
def test_a_graph_is_replayed(name, execution):
    rule = typical(getattr(samestep, name))
    for one, other in zip(
        *(replayed(rule, execution, captured) for captured in (False, True)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@of_cuda
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_learning_rate_on_the_device_changes_between_replays(execution):
    results = [
        replayed(samestep.AdamW(), execution, captured, torch.tensor(0.1, device="cuda"))
        for captured in (False, True)
    ]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
