"""Kernels that are compiled in PyTorch: how many, when, and what they ask of the host."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import compiling
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_executions import (
    FAST,
    NothingRead,
    both,
    close,
    give_gradients,
    parameters,
    stepped,
    train,
    values,
)
from samestep.execution import say_failed
from samestep.torch import kernels


@pytest.fixture
def counted(monkeypatch):
    """The graphs that were given to the compiler; what is run is the graph itself."""
    graphs = []

    def compile_graph(graph, arrays, dynamic_shapes):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(kernels, "standalone_compile", compile_graph)
    monkeypatch.setattr(kernels, "_kernels", {})
    return graphs


@pytest.mark.parametrize("name", ["LAMB", "Muon", "Prodigy"])
def test_stacks_are_compiled(name, counted):
    """Once for any shape, if the rule does not look at it; once per shape if it does."""
    rule, shapes = typical(getattr(samestep, name)), [(4, 5), (6, 3), (2, 40)]
    results = both("compiled", lambda chosen: stepped(rule, parameters(shapes * 2), chosen))
    assert len(counted) == {"LAMB": 1, "Muon": len(shapes), "Prodigy": 2}[name]
    assert close(*results, tolerance=1e-5)


@pytest.mark.parametrize("count", [3, 300])
def test_one_kernel_serves_any_number_of_tensors(counted, count):
    params = parameters([(3, 2), (1,), (40_000,)] * (count // 3))
    optimizer = adapter.AdamW(params, execution="compiled")
    train(optimizer, params, 3)
    assert len(counted) == 1
    optimizer.add_param_group({"params": parameters([(9,)]), "lr": 0.3, "weight_decay": 0.0})
    optimizer.param_groups[0].update(lr=0.5, betas=(0.5, 0.6), weight_decay=0.3)
    train(optimizer, [p for group in optimizer.param_groups for p in group["params"]], 3)
    assert len(counted) == 1


@pytest.mark.parametrize("name", each_rule())
def test_values_that_change_every_step_are_no_reason_to_compile_again(name, counted):
    rule = build(name)
    groups = [parameters([(4, 5), (3, 2), (6, 7)]) for _ in range(2)]
    optimizers = [
        adapter.bind(rule, own[:2], execution=execution)
        for own, execution in zip(groups, ("compiled", "reference"), strict=True)
    ]
    first = 0
    for t in range(7):
        for optimizer, own in zip(optimizers, groups, strict=True):
            for numbers in optimizer.param_groups:
                numbers.update(lr=rule.hypers["lr"] / (t + 1), weight_decay=0.1 / (t + 1))
                if "betas" in rule.hypers and not rule.all_fields()["betas"].whole:
                    numbers["betas"] = tuple(0.9 / (t + 1) for _ in rule.hypers["betas"])
            if t == 4:
                optimizer.add_param_group({"params": own[2:], "lr": 0.5})
            train(optimizer, own if t >= 4 else own[:2], 1, first=t)
        first = len(counted) if t == 0 else first
    assert first >= 1 and len(counted) == first + rule.sees_axes  # once for the new shape
    assert close(*groups)


class Operations(TorchDispatchMode):
    """How many operations PyTorch was asked for, views apart."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("execution", FAST)
@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Muon"])
def test_a_step_takes_as_many_operations_for_many_tensors_as_for_few(counted, name, execution):
    taken = []
    for count in (2, 60):
        params = parameters([(8, 4), (3, 5)] * count)
        optimizer = getattr(adapter, name)(params, execution=execution)
        train(optimizer, params, 2)
        with Operations() as operations:
            optimizer.step()
        taken.append(operations.count)
    one_by_one = getattr(adapter, name)(params, execution="reference")
    with Operations() as operations:
        one_by_one.step()
    assert taken[0] == taken[1] < operations.count / 10


@pytest.mark.parametrize("name", ["AdamW", "LAMB"])
def test_kernels_are_called_once_per_pack(name, monkeypatch):
    calls = []

    def compile_graph(graph, arrays, dynamic_shapes):
        return lambda *given: calls.append(len(given)) or graph(*given)

    monkeypatch.setattr(kernels, "standalone_compile", compile_graph)
    monkeypatch.setattr(kernels, "_kernels", {})
    params = parameters([(32, 32)] * 100 + [(40_000,)])
    optimizer = getattr(adapter, name)(params, execution="compiled")
    train(optimizer, params, 2)
    calls.clear()
    train(optimizer, params, 1)
    assert len(calls) == 2


def test_a_kernel_asks_for_no_value_on_the_host(counted, monkeypatch):
    """A step between two others moves nothing from a device to the host."""
    params = parameters([(3, 2), (5,), (40_000,)])
    optimizer = adapter.AdamW(params, execution="compiled")
    train(optimizer, params, 2)
    give_gradients(params, 2)

    def refuse(tensor, *args):
        raise AssertionError("a value was asked for")

    for name in ("item", "__bool__", "__float__", "__int__", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    optimizer.step()


@pytest.mark.parametrize("execution", ["reference", *FAST])
@pytest.mark.parametrize("name", each_rule())
def test_a_capturable_step_reads_nothing(name, execution, counted):
    """Counts, learning rate and coefficients are tensors, and the numbers are the same."""
    results = []
    for capturable in (False, True):
        params = parameters([(4, 5), (6, 3), (4, 5)])
        rule = typical(getattr(samestep, name))
        optimizer = adapter.bind(rule, params, execution=execution, capturable=capturable)
        train(optimizer, params, 2)
        give_gradients(params, 2)
        with NothingRead() if capturable else contextlib.nullcontext():
            optimizer.step()
        train(optimizer, params, 3, first=3)
        results.append(values(params, optimizer))
    assert close(*results, tolerance=2e-5)
    assert [int(optimizer.state[param]["step"]) for param in params] == [6, 6, 6]


def test_a_captured_step_counts_on():
    """What a graph would replay depends on tensors only: the count, and a learning rate given so.

    The graph is recorded with make_fx, as CUDA records kernels.
    """
    plain, params = parameters([(4, 5), (6, 3)]), parameters([(4, 5), (6, 3)])
    reference = adapter.AdamW(plain, lr=0.1, capturable=True)
    optimizer = adapter.AdamW(params, lr=0.1, capturable=True)
    for one, own in ((reference, plain), (optimizer, params)):
        train(one, own, 1)
    give_gradients(params, 1)
    grads = [param.grad for param in params]

    def step():
        optimizer.step()
        return ()

    graph = make_fx(step)()
    train(reference, plain, 1, first=1)
    for first in (2, 3):
        give_gradients(plain, first)
        reference.step()
        for grad, param in zip(grads, plain, strict=True):
            grad.copy_(param.grad)
        graph()
    assert close(values(params, optimizer), values(plain, reference))


def test_auto_compiles_for_large_models_where_there_is_a_compiler(monkeypatch):
    monkeypatch.setattr(kernels, "MANY", 100)
    assert kernels.chosen(parameters())[0] == "compiled"

    def no_compiler():
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(kernels, "get_cpp_compiler", no_compiler)
    execution, reason = kernels.chosen(parameters())
    assert execution == "packed" and "no C++ compiler" in reason


@pytest.mark.compiler_fails
def test_a_compiler_that_fails_is_said_once_and_done_without(monkeypatch, caplog):
    def fail(graph, arrays, dynamic_shapes):
        raise KeyError("buf1")

    monkeypatch.setattr(kernels, "standalone_compile", fail)
    monkeypatch.setattr(kernels, "_kernels", {})
    monkeypatch.setattr(kernels, "_said", set())
    rule, shapes = samestep.AdamW(lr=0.1), [(3, 2), (40_000,), (600_000, 2)]
    assert close(*both("compiled", lambda chosen: stepped(rule, parameters(shapes), chosen)))
    said = [record.getMessage() for record in caplog.records if record.name == "samestep"]
    assert said == [
        "AdamW: the compiler failed, and the rule is executed as with execution='packed': "
        "KeyError: 'buf1'"
    ]


def test_a_test_of_what_the_compiler_failed_on_fails():
    failing = pytest.raises(pytest.fail.Exception, match=r"^AdamW: the compiler failed, and")
    with failing, compiling.everything_compiles(expected=False):
        say_failed("AdamW", "packed", KeyError("buf1"))
    with compiling.everything_compiles(expected=True):
        say_failed("AdamW", "packed", KeyError("buf1"))
    with compiling.everything_compiles(expected=False):
        pass


def test_what_the_compiler_fails_to_fuse_is_compiled_in_more_parts(monkeypatch):
    """Inductor asks a buffer for an index that another one has, in stacks of AdamP."""
    tried = []

    def compile_graph(graph, arrays, dynamic_shapes):
        tried.append(torch._inductor.config.max_fusion_size)
        if len(tried) == 1:
            raise KeyError("buf9")
        return graph

    monkeypatch.setattr(kernels, "standalone_compile", compile_graph)
    monkeypatch.setattr(kernels, "_kernels", {})
    rule, shapes = samestep.AdamP(lr=0.1), [(4, 5), (4, 5)]
    assert close(*both("compiled", lambda chosen: stepped(rule, parameters(shapes), chosen)))
    assert len(tried) == 2 and tried[1] < tried[0]


def test_auto_chooses_inside_torch_compile_as_it_does_outside():
    params = parameters([(3, 2)])
    optimizer = adapter.AdamW(params, lr=0.1)
    give_gradients(params, 0)
    before = params[0].clone()
    torch.compile(optimizer.step, backend="eager")()
    assert not torch.equal(params[0], before) and optimizer._resolved == "packed"


def test_importing_the_adapter_imports_no_compiler():
    code = "import sys, samestep.torch; print('torch._inductor.compile_fx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plain = "import sys, torch; print('torch._inductor.compile_fx' in sys.modules)"
    alone = subprocess.run(
        [sys.executable, "-c", plain], capture_output=True, text=True, check=True
    )
    assert done.stdout == alone.stdout
