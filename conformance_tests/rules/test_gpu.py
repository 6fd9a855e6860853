"""On a GPU: executions agree, a step waits for nothing, and a CUDA graph of it can be replayed."""

from __future__ import annotations

import pytest

import samestep
from samestep.conformance.harness.settings import typical

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

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
    for device in ("cpu", "cuda"):
        params = parameters(device)
        optimizer = adapter.bind(typical(getattr(samestep, name)), params, execution=execution)
        for seed in range(4):
            give_gradients(params, seed)
            optimizer.step()
        results.append([param.cpu() for param in params])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_step_waits_for_nothing(execution):
    params = parameters("cuda")
    optimizer = adapter.AdamW(params, execution=execution, capturable=True)
    for seed in range(2):
        give_gradients(params, seed)
        optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_graph_is_replayed(execution):
    results = []
    for captured in (False, True):
        params = parameters("cuda")
        lr = torch.tensor(0.1, device="cuda")
        optimizer = adapter.AdamW(params, lr=lr, execution=execution, capturable=True)
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
            lr.fill_(0.1 / seed)
            step()
        results.append([param.cpu() for param in params])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
