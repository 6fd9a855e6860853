"""Executions in PyTorch: what is gathered and kept, and how much memory a step takes."""

from __future__ import annotations

import copy
import gc
import io
import logging
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep import proof
from samestep.conformance.harness.agreement import operations
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_executions import (
    FAST,
    both,
    close,
    equal,
    give_gradients,
    parameters,
    stepped,
    train,
    values,
)
from samestep.execution import EXECUTIONS
from samestep.torch import gathering, kernels


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.needs == "element"))
def test_packs_and_pieces_change_no_bit(name):
    """Square roots apart, which PyTorch rounds otherwise at another place of a vector."""
    rule = typical(getattr(samestep, name))
    run = lambda chosen: stepped(rule, parameters(dtype=torch.float64), chosen)  # noqa: E731
    assert close(*both("packed", run), tolerance=1e-14)
    if "sqrt" not in operations(rule):
        assert equal(*both("packed", run))


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.needs != "element"))
def test_parameters_of_one_shape_are_stacked(name):
    """Rules that look beyond their element: one call for each shape, with the same results."""
    rule = typical(getattr(samestep, name))
    shapes = [(4, 5), (3, 2), (6, 3), (2, 3, 4)] * 3 + [(64, 2)]
    made = lambda: parameters(shapes, dtype=torch.float64)  # noqa: E731
    results = both("packed", lambda chosen: stepped(rule, made(), chosen, 12))
    assert close(*results, tolerance=1e-11)
    optimizer = adapter.bind(rule, params := made(), execution="packed")
    train(optimizer, params, 1)
    assert [len(batch.places) for batch in optimizer._plan.batches] == [3, 3, 3, 3, 1]


@pytest.mark.parametrize(
    "execution", ["packed", pytest.param("compiled", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("name", each_rule(lambda rule: rule.needs != "element", most=4))
def test_small_parameters_of_all_shapes_are_summed_in_one_vector(name, execution, monkeypatch):
    """As on CUDA. A compiled step is repeated with other parameters, by the same kernel."""
    monkeypatch.setitem(kernels.SEGMENT, "cpu", 64)
    rule = typical(getattr(samestep, name))
    shapes = [(4, 5), (1, 3), (6, 3), (1, 1), (2, 3, 4), (64, 2)]
    for given in (shapes, shapes[1:], shapes[2:]):
        made = lambda: parameters(given, dtype=torch.float64)  # noqa: E731, B023
        results = both(execution, lambda chosen: stepped(rule, made(), chosen, 12))  # noqa: B023
        assert close(*results, tolerance=1e-11)
        optimizer = adapter.bind(rule, params := made(), execution=execution)
        train(optimizer, params, 1)
        gathered = [len(batch.places) for batch in optimizer._plan.batches]
        assert gathered == ([1] * len(given) if rule.sees_axes else [len(given) - 1, 1])


@pytest.mark.thorough
@pytest.mark.parametrize("name", each_rule(lambda rule: rule.phases))
def test_sums_over_all_parameters_are_combined_in_a_kernel(name, monkeypatch):
    """As on accelerators."""
    rule = typical(getattr(samestep, name))
    run = lambda chosen: stepped(rule, parameters(dtype=torch.float64), chosen, 12)  # noqa: E731
    expected = run("reference")
    made, compiler = [], kernels.standalone_compile
    monkeypatch.setattr(kernels, "standalone_compile", lambda *of: made.append(of) or compiler(*of))
    monkeypatch.setattr(kernels.compiled, "combines", lambda array: True)
    kernels.forget()
    assert close(run("compiled"), expected, tolerance=1e-11)
    assert any(not array.ndim for _, arrays, _ in made for array in arrays[:1])
    kernels.forget()


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Adafactor"])
def test_vectors_and_stacks_that_are_gathered_together_step_as_by_themselves(name, monkeypatch):
    """As on accelerators."""
    rule = typical(getattr(samestep, name))
    made = lambda: parameters([(4, 5), (3, 2), (7,)] * 3 + [(300, 1000)])  # noqa: E731
    apart = stepped(rule, made(), "packed")
    monkeypatch.setattr(gathering, "APART", ())
    assert equal(stepped(rule, made(), "packed"), apart)
    optimizer = adapter.bind(rule, params := made(), execution="packed")
    train(optimizer, params, 1)
    assert len(optimizer._plan.gatherings) == 1


class Asking(samestep.Rule, register=False):
    """Moves by the sign of the gradient's mean, asked for as a value."""

    needs = "tensor"
    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        return (grad if float(xp.mean(grad)) > 0 else -grad), {}


def test_a_rule_that_asks_for_a_value_is_not_stacked(monkeypatch):
    monkeypatch.setattr(proof, "SUITE", {Asking})  # at its first use it would be refused
    made = lambda: parameters([(4, 5)] * 3)  # noqa: E731
    assert equal(*both("packed", lambda chosen: stepped(Asking(), made(), chosen)))
    optimizer = adapter.bind(Asking(), params := made(), execution="packed")
    train(optimizer, params, 1)
    assert len(optimizer._plan.batches) == 3


def of_several_dtypes():
    dtypes = (torch.float32, torch.bfloat16, torch.float64)
    return [tensor for dtype in dtypes for tensor in parameters([(3, 2), (5,)], dtype)]


ADAMW = samestep.AdamW(lr=0.1, weight_decay=0.1)
CASES = {
    "elements": (ADAMW, parameters),
    "a slot of one number": (samestep.NAdam(), parameters),
    "norms": (samestep.LAMB(), parameters),
    "a number behind a vector": (ADAMW, lambda: parameters([(3,), ()])),
    "a number before a vector": (ADAMW, lambda: parameters([(), (3,)])),
    "numbers alone": (ADAMW, lambda: parameters([(), ()])),
    "a number between vectors": (ADAMW, lambda: parameters([(2,), (), (3,)])),
    "several dtypes": (ADAMW, of_several_dtypes),
}


@pytest.mark.parametrize("execution", FAST)
@pytest.mark.parametrize("case", CASES)
def test_an_execution_computes_what_the_reference_does(case, execution):
    rule, made = CASES[case]
    results = both(execution, lambda chosen: stepped(rule, made(), chosen))
    assert close(*results, tolerance=1e-2 if case == "several dtypes" else 2e-6)
    assert [one.dtype for one in results[0]] == [other.dtype for other in results[1]]


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
@pytest.mark.parametrize(
    "change", ["param", "data", "slot", "slot data", "turned", "step", "state"]
)
@pytest.mark.parametrize("name", ["AdamW", "LAMB"])
def test_whatever_is_replaced_is_noticed(name, execution, change):
    """Nothing may be kept that is not looked at again."""
    results = []
    for chosen in ("reference", execution):
        params = parameters([(3, 2), (5,), (3, 2), (40_000,), (4, 4), (4, 4), (300, 300)])
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
            if change == "turned" and param.shape[0] == param.shape[-1]:
                state["m"].t_()
                state["v"].data = state["v"].t()
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
    params = [torch.zeros(600_000), torch.zeros(3), torch.zeros(2, 2)]
    counting = adapter.bind(Counting(), params, execution=execution)
    train(counting, params, 3)
    assert [float(counting.state[param]["c"]) for param in params] == [3.0, 3.0, 3.0]
    counting.state[params[1]]["c"].zero_()
    before = params[1].clone()
    train(counting, params, 1)
    assert [float(counting.state[param]["c"]) for param in params] == [4.0, 1.0, 4.0]
    torch.testing.assert_close(params[1], before - 0.1 * params[1].grad)


@pytest.mark.parametrize("execution", FAST)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("write", [torch.Tensor.zero_, lambda count: count.data.zero_()])
def test_a_count_of_a_capturable_optimizer_that_is_written_is_noticed(execution, place, write):
    results = []
    for chosen in ("reference", execution):
        params = parameters([(3, 2), (5,), (4,)])
        optimizer = adapter.AdamW(params, lr=0.1, execution=chosen, capturable=True)
        train(optimizer, params, 3)
        for value in optimizer.state[params[place]].values():
            write(value)
        train(optimizer, params, 2, first=3)
        results.append(values(params, optimizer))
    assert close(*results)


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
