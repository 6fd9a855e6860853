"""Executions in PyTorch: what is gathered, compiled and kept, and how much memory a step takes."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import logging
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

import samestep
from samestep.conformance.harness.agreement import operations
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.execution import EXECUTIONS

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402  (torch is there)
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from samestep.torch import kernels  # noqa: E402

SHAPES = [(), (1,), (3, 2), (4, 5), (0, 3), (40_000,), (300, 1000), (7,)]
FAST = ["packed", "compiled"]
ELEMENT = each_rule(lambda rule: rule.needs == "element")
OTHERS = each_rule(lambda rule: rule.needs != "element")


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


def parameters(shapes=SHAPES, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def give_gradients(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.grad = grad.to(param.dtype)


def train(optimizer, params, steps=4, first=0):
    for step in range(first, first + steps):
        give_gradients(params, step)
        optimizer.step()


def values(params, optimizer):
    kept = [
        part
        for param in params
        for value in optimizer.state[param].values()
        for part in (value if isinstance(value, tuple) else (value,))
    ]
    return [tensor.clone() for tensor in (*params, *kept)]


def equal(some, others):
    return len(some) == len(others) and all(map(torch.equal, some, others))


def close(some, others, tolerance=2e-6):
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    return True


@pytest.mark.parametrize("name", ELEMENT)
def test_packs_and_pieces_change_no_bit(name):
    """Square roots apart, which PyTorch rounds otherwise at another place of a vector."""
    results = []
    for execution in ("reference", "packed"):
        params = parameters(dtype=torch.float64)
        optimizer = adapter.bind(typical(getattr(samestep, name)), params, execution=execution)
        train(optimizer, params)
        results.append(values(params, optimizer))
    assert close(*results, tolerance=1e-14)
    if "sqrt" not in operations(typical(getattr(samestep, name))):
        assert equal(*results)


@pytest.mark.parametrize("name", OTHERS)
def test_parameters_of_one_shape_are_stacked(name):
    """Rules that look beyond their element: one call for each shape, with the same results."""
    shapes = [(4, 5), (3, 2), (6, 3), (2, 3, 4)] * 3 + [(64, 2)]
    results = []
    for execution in ("reference", "packed"):
        params = parameters(shapes, dtype=torch.float64)
        optimizer = adapter.bind(typical(getattr(samestep, name)), params, execution=execution)
        train(optimizer, params, 12)
        results.append(values(params, optimizer))
    stacked = [len(batch.places) for batch in optimizer._plan.batches]
    assert stacked == [3, 3, 3, 3, 1]
    assert close(*results, tolerance=1e-11)


@pytest.mark.parametrize("name", ["LAMB", "Muon", "Prodigy"])
def test_stacks_are_compiled(name, counted):
    """Once for any shape, if the rule does not look at it; once per shape if it does."""
    shapes = [(4, 5), (6, 3), (2, 40)]
    results = []
    for execution in ("reference", "compiled"):
        params = parameters(shapes * 2)
        optimizer = adapter.bind(typical(getattr(samestep, name)), params, execution=execution)
        train(optimizer, params, 4)
        results.append(values(params, optimizer))
    assert len(counted) == {"LAMB": 1, "Muon": len(shapes), "Prodigy": 2}[name]
    assert close(*results, tolerance=1e-5)


class Asking(samestep.Rule, register=False):
    """Moves by the sign of the gradient's mean, asked for as a value."""

    needs = "tensor"
    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        return (grad if float(xp.mean(grad)) > 0 else -grad), {}


def test_a_rule_that_asks_for_a_value_is_not_stacked():
    results = []
    for execution in ("reference", "packed"):
        params = parameters([(4, 5)] * 3)
        optimizer = adapter.bind(Asking(), params, execution=execution)
        train(optimizer, params)
        results.append(values(params, optimizer))
    assert len(optimizer._plan.batches) == 3
    assert equal(*results)


@pytest.mark.parametrize("execution", FAST)
def test_an_execution_computes_what_the_reference_does(execution):
    for rule in (samestep.AdamW(weight_decay=0.1), samestep.NAdam(), samestep.LAMB()):
        results = []
        for chosen in ("reference", execution):
            params = parameters()
            optimizer = adapter.bind(rule, params, execution=chosen)
            train(optimizer, params)
            results.append(values(params, optimizer))
        assert close(*results)


@pytest.mark.parametrize("execution", FAST)
def test_parameters_of_any_layout_are_written(execution):
    """Transposed, strided and channels-last parameters; gradients laid out otherwise."""
    results = []
    for chosen in ("reference", execution):
        params = [
            torch.arange(12.0).reshape(3, 4).t(),
            torch.arange(20.0)[::2],
            torch.arange(48.0).reshape(2, 2, 3, 4).to(memory_format=torch.channels_last),
            torch.arange(600_000.0).reshape(300, 2000).t(),
            torch.arange(5.0),
        ]
        optimizer = adapter.AdamW(params, lr=0.1, execution=chosen)
        for step in range(3):
            give_gradients(params, step)
            params[0].grad = params[0].grad.t().contiguous().t()
            optimizer.step()
        results.append([param.clone() for param in params])
    assert close(*results)
    assert not torch.equal(results[0][0], torch.arange(12.0).reshape(3, 4).t())


@pytest.mark.parametrize("execution", FAST)
@pytest.mark.parametrize("shapes", [[(3,), ()], [(), (3,)], [(), ()], [(2,), (), (3,)]])
def test_numbers_may_stand_before_vectors_and_behind_them(shapes, execution):
    results = []
    for chosen in ("reference", execution):
        params = parameters(shapes)
        optimizer = adapter.AdamW(params, lr=0.1, execution=chosen)
        train(optimizer, params)
        results.append(values(params, optimizer))
    assert close(*results)


@pytest.mark.parametrize("execution", FAST)
def test_dtypes_are_grouped(execution):
    results = []
    for chosen in ("reference", execution):
        params = [
            tensor
            for dtype in (torch.float32, torch.bfloat16, torch.float64)
            for tensor in parameters([(3, 2), (5,)], dtype)
        ]
        optimizer = adapter.AdamW(params, lr=0.1, execution=chosen)
        train(optimizer, params)
        results.append(values(params, optimizer))
        assert {param.dtype for param in params} == {
            value.dtype
            for param in params
            for n, value in optimizer.state[param].items()
            if n != "step"
        }
    assert close(*results, tolerance=1e-2)


@pytest.mark.parametrize("execution", FAST)
def test_state_is_an_ordinary_tensor_per_parameter(execution):
    """Small parameters' state lies in one tensor; nobody who reads or saves it needs to know."""
    params = parameters([(3, 2), (5,), (2, 2, 2)])
    optimizer = adapter.AdamW(params, execution=execution)
    optimizer.init_state()
    before = {param: dict(optimizer.state[param]) for param in params}
    train(optimizer, params, 1)
    for param in params:
        state = optimizer.state[param]
        assert state["m"] is before[param]["m"] and state["v"] is before[param]["v"]
        assert state["m"].shape == param.shape and state["step"].shape == ()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = parameters([(3, 2), (5,), (2, 2, 2)])
    for new, old in zip(again, params, strict=True):
        new.copy_(old)
    other = adapter.AdamW(again, execution=execution)
    other.load_state_dict(torch.load(file, weights_only=True))
    train(optimizer, params, 3, first=1)
    train(other, again, 3, first=1)
    assert equal(values(params, optimizer), values(again, other))
    twin = copy.deepcopy(optimizer)
    assert not any(
        a["m"].data_ptr() == b["m"].data_ptr()
        for a, b in zip(optimizer.state.values(), twin.state.values(), strict=True)
    )


@pytest.mark.parametrize("execution", FAST)
@pytest.mark.parametrize("change", ["param", "data", "slot", "slot data", "step", "state"])
@pytest.mark.parametrize("name", ["AdamW", "LAMB"])
def test_whatever_is_replaced_is_noticed(name, execution, change):
    """Nothing may be kept that is not looked at again."""
    results = []
    for chosen in ("reference", execution):
        params = parameters([(3, 2), (5,), (3, 2), (40_000,)])
        optimizer = getattr(adapter, name)(params, lr=0.1, execution=chosen)
        train(optimizer, params, 2)
        for param in params[:]:
            state = optimizer.state[param]
            if change == "data":
                param.data = torch.ones_like(param)
            if change == "slot":
                state["m"] = torch.ones_like(param)
            if change == "slot data":
                state["m"].data = torch.ones_like(param)
            if change == "step":
                state["step"].fill_(7)
            if change == "state":
                optimizer.state[param] = {n: v.clone() for n, v in state.items()}
        if change == "param":
            new = [torch.ones_like(param) for param in params]
            for old, param in zip(params, new, strict=True):
                optimizer.state[param] = optimizer.state.pop(old)
            optimizer.param_groups[0]["params"] = params = new
        train(optimizer, params, 2, first=2)
        results.append(values(params, optimizer))
    assert close(*results)


@pytest.mark.parametrize("execution", FAST)
def test_parameters_that_come_to_share_memory_are_noticed(execution):
    results = []
    for chosen in ("reference", execution):
        params = [*map(torch.nn.Parameter, parameters([(3,), (3,), (4,)]))]
        optimizer = adapter.SGD(params, lr=0.1, execution=chosen)
        train(optimizer, params, 2)
        params[1].data = params[0].data
        train(optimizer, params, 2, first=2)
        results.append(values(params, optimizer))
    assert equal(*results)


@pytest.mark.parametrize("execution", FAST)
def test_parameters_that_move_are_no_reason_to_plan_again(execution):
    """Some who wrap an optimizer exchange ``data`` at every step."""
    results = []
    for chosen in ("reference", execution):
        params = parameters([(3,), (), (2, 3), (4,)])
        optimizer = adapter.AdamW(params, lr=0.1, execution=chosen)
        train(optimizer, params, 1)
        plan = optimizer._plan
        for step in range(1, 4):
            for param in params:
                param.data = param.data.clone()
            train(optimizer, params, 1, first=step)
            assert chosen == "reference" or optimizer._plan is plan
        results.append(values(params, optimizer))
    assert close(*results)


RESHAPED = {
    "other memory": lambda a, b: (torch.ones(2), torch.ones(3)),
    "fewer elements": lambda a, b: (a[:2], b),
    "an axis more": lambda a, b: (a.view(3, 1), b.view(2, 1)),
}


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("execution", ["reference", *FAST])
@pytest.mark.parametrize("change", RESHAPED)
def test_a_parameter_that_gets_another_shape_is_named_before_anything_moves(change, execution):
    params = parameters([(3,), (2,)])
    optimizer = adapter.AdamW(params, lr=0.1, execution=execution)
    train(optimizer, params, 2)
    data = RESHAPED[change](*(param.data for param in params))
    for param, new in zip(params, data, strict=True):
        param.grad, param.data = None, new
    give_gradients(params, 2)
    before = values(params, optimizer)
    with pytest.raises(ValueError, match=r"AdamW: the state of '0' has a slot m of shape \(3,\)"):
        optimizer.step()
    assert equal(values(params, optimizer), before)


@pytest.mark.parametrize("execution", FAST)
def test_parameters_come_and_go(execution):
    """Without a gradient a parameter stays as it is and is not counted."""
    results = []
    for chosen in ("reference", execution):
        params = parameters([(3, 2), (5,), (4,)])
        optimizer = adapter.AdamW(params, lr=0.1, execution=chosen)
        for step in range(6):
            give_gradients(params, step)
            if step % 2:
                params[step % 3].grad = None
            optimizer.step()
        results.append(values(params, optimizer))
        assert [int(optimizer.state[param]["step"]) for param in params] == [5, 5, 5]
    assert close(*results)


@pytest.mark.parametrize("execution", FAST)
def test_groups_may_keep_different_slots(execution):
    results = []
    for chosen in ("reference", execution):
        params = parameters([(3, 2), (5,), (4,)])
        groups = [{"params": params[:2], "momentum": 0.9}, {"params": params[2:]}]
        optimizer = adapter.SGD(groups, lr=0.1, execution=chosen)
        train(optimizer, params)
        results.append(values(params, optimizer))
        assert "m" not in optimizer.state[params[2]]
    assert close(*results)


def test_small_parameters_are_one_vector_and_large_ones_are_none():
    params = parameters([(32, 32)] * 600 + [(40_000,)])
    optimizer = adapter.AdamW(params, execution="packed")
    train(optimizer, params, 1)
    sizes = [len(batch.places) for batch in optimizer._plan.batches]
    assert sorted(sizes) == [1, 88, 256, 256]
    first = optimizer._plan
    train(optimizer, params, 1, first=1)
    assert optimizer._plan is first


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


class NothingRead(TorchDispatchMode):
    """No value of a tensor may be asked for, as while a CUDA graph is captured."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


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


def peak_of(function):
    """Bytes of resident memory that a call adds at its peak."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("resident memory is read from /proc")
    most, done = 0, threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, int(pages.read_text().split()[1]))
            time.sleep(0.0005)

    before = int(pages.read_text().split()[1])
    watcher = threading.Thread(target=watch)
    watcher.start()
    function()
    done.set()
    watcher.join()
    return (most - before) * 4096


@pytest.mark.parametrize("execution", FAST)
def test_a_step_needs_no_memory_the_size_of_the_parameters(execution):
    """16 M elements are 64 MB; a pack and the pieces in flight are a few. One by one it is more."""
    params = parameters([(4096, 2048), (8192, 1024), (32, 32), (32, 32)])
    optimizer = adapter.AdamW(params, execution=execution)
    train(optimizer, params, 2)
    give_gradients(params, 2)
    assert peak_of(optimizer.step) < 24 * 2**20
    one_by_one = adapter.AdamW(params, execution="reference")
    train(one_by_one, params, 1)
    assert peak_of(one_by_one.step) > 24 * 2**20


def test_auto_says_once_what_it_chose(caplog):
    caplog.set_level(logging.INFO, logger="samestep")
    params = parameters()
    train(adapter.AdamW(params), params, 3)
    assert [record.getMessage() for record in caplog.records] == [
        "AdamW: execution='auto' is 'packed' here: 340,035 elements, fewer than 1,000,000, are "
        "not worth compiling for"
    ]


def test_auto_compiles_for_large_models_where_there_is_a_compiler(monkeypatch):
    monkeypatch.setattr(kernels, "MANY", 100)
    assert kernels.chosen(parameters())[0] == "compiled"

    def no_compiler():
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(kernels, "get_cpp_compiler", no_compiler)
    execution, reason = kernels.chosen(parameters())
    assert execution == "packed" and "no C++ compiler" in reason


def test_a_compiler_that_fails_is_said_once_and_done_without(monkeypatch, caplog):
    def fail(graph, arrays, dynamic_shapes):
        raise KeyError("buf1")

    monkeypatch.setattr(kernels, "standalone_compile", fail)
    monkeypatch.setattr(kernels, "_kernels", {})
    results = []
    for execution in ("reference", "compiled"):
        params = parameters([(3, 2), (40_000,)])
        optimizer = adapter.AdamW(params, lr=0.1, execution=execution)
        train(optimizer, params)
        results.append(values(params, optimizer))
    assert close(*results)
    said = [record.getMessage() for record in caplog.records if record.name == "samestep"]
    assert said == [
        "AdamW: the compiler failed, and the rule is executed without it: KeyError: 'buf1'"
    ]


def test_an_unknown_execution_names_those_there_are():
    with pytest.raises(ValueError, match=r"AdamW\(execution='fast'\): execution must be one of"):
        adapter.AdamW(parameters(), execution="fast")
    for execution in EXECUTIONS:
        adapter.AdamW(parameters(), execution=execution)


class Counting(samestep.Rule, register=False):
    """A 0-d slot beside elements: one count for a parameter, however many pieces it has."""

    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
    c = samestep.slot("steps", init=samestep.vocabulary.scalar)

    def direction(self, xp, grad, param, state, s):
        return grad * (state.c + 1), {"c": state.c + 1}


class Exchanging(samestep.Rule, register=False):
    """New slots that are views of each other's old memory."""

    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
    a = samestep.slot("one", start=1.0)
    b = samestep.slot("other", start=2.0)

    def direction(self, xp, grad, param, state, s):
        return grad, {"a": xp.reshape(state.b, grad.shape), "b": xp.reshape(state.a, grad.shape)}


@pytest.mark.parametrize("execution", ["reference", *FAST])
def test_a_rule_may_keep_one_number_per_parameter(execution):
    params = [torch.zeros(600_000), torch.zeros(3)]
    counting = adapter.bind(Counting(), params, execution=execution)
    train(counting, params, 3)
    assert [float(counting.state[param]["c"]) for param in params] == [3.0, 3.0]


@pytest.mark.parametrize("execution", ["reference", "packed"])
def test_slots_may_exchange_their_memory(execution):
    """Not compiled: Inductor reads one of them after it has written it."""
    params = [torch.zeros(600_000), torch.zeros(3)]
    exchanging = adapter.bind(Exchanging(), params, execution=execution)
    train(exchanging, params, 3)
    state = exchanging.state[params[1]]
    assert state["a"].tolist() == [2.0] * 3 and state["b"].tolist() == [1.0] * 3


@pytest.mark.parametrize("execution", ["reference", *FAST])
def test_parameters_that_share_memory_are_stepped_one_after_another(execution):
    one = torch.zeros(4)
    other = one.view(2, 2)
    optimizer = adapter.SGD([one, other], lr=1.0, execution=execution)
    one.grad, other.grad = torch.ones(4), torch.ones(2, 2)
    optimizer.step()
    assert one.tolist() == [-2.0] * 4


@pytest.mark.parametrize("execution", ["reference", *FAST])
def test_gradients_laid_out_otherwise_and_parameters_turned_round(execution):
    params = [torch.zeros(40_000), torch.zeros(7), torch.zeros(4, 4)]
    optimizer = adapter.SGD(params, lr=1.0, execution=execution)
    for step in range(3):
        params[0].grad = torch.ones(1).expand(40_000)
        params[1].grad = torch.arange(14.0)[::2]
        params[2].grad = torch.arange(16.0).view(4, 4)
        if step == 2:
            params[2].data = params[2].data.t()
        optimizer.step()
    assert (params[0] == -3).all()
    assert params[1].tolist() == [-3.0 * value for value in range(0, 14, 2)]
    turned = torch.arange(16.0).view(4, 4)
    assert torch.equal(params[2], -2 * turned.t() - turned)


def test_a_gradient_does_not_outlive_its_step():
    params = parameters([(3, 2), (40_000,)])
    optimizer = adapter.AdamW(params, execution="packed")
    give_gradients(params, 0)
    grads = [weakref.ref(param.grad) for param in params]
    optimizer.step()
    optimizer.zero_grad()
    gc.collect()
    assert [grad() for grad in grads] == [None, None]


def test_state_does_not_grow_when_parameters_are_frozen_one_by_one():
    params = parameters([(64,)] * 50)
    optimizer = adapter.AdamW(params, execution="packed")
    for frozen in range(50):
        give_gradients(params, frozen)
        for param in params[:frozen]:
            param.grad = None
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    assert len(file.getvalue()) < 200_000


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
