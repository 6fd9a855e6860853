"""What is refused, by name and before anything moves."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    get_error_inputs_for_all_optims,
)

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_training import assert_equal, everything, train
from samestep.declaration import Hyper


def outside(field):
    """Values that a field does not take."""
    if not isinstance(field, Hyper):
        return ["nonsense"]
    found = []
    for at, part in enumerate(field.each):
        bad = [math.nan]
        bad += [bound - 1 for bound in (part.ge,) if bound is not None]
        bad += [bound + 1 for bound in (part.le,) if bound is not None]
        bad += [bound for bound in (part.gt, part.lt) if bound is not None]
        several, usual = isinstance(field.default, tuple), field.default
        found += [(*usual[:at], one, *usual[at + 1 :]) if several else one for one in bad]
    return found


def error_inputs(cls, inner):
    """Parameters, arguments, error and message: torch's, and every field outside its range."""
    for error in get_error_inputs_for_all_optims("cpu", torch.float32):
        given = error.optimizer_error_input
        assert error.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
        if given.params is None and inner:
            continue  # a wrapper has no lr of its own
        words = rf"{cls.__name__}\(lr=" if given.params is None else error.error_regex
        warned = issubclass(error.error_type, Warning)  # a parameter twice: refused here
        yield given.params, given.kwargs, ValueError if warned else error.error_type, words
    for name, field in cls.fields().items():
        for value in outside(field):
            words = rf"{cls.__name__}\({name}=.*must be"
            yield [torch.ones(2, 2)], {name: value}, ValueError, words


def test_every_error_input_is_refused(rule_class):
    inner = {"rule": samestep.AdamW()} if issubclass(rule_class, samestep.Wrapper) else {}
    refused = list(error_inputs(rule_class, inner))
    for params, given, error, words in refused:
        with pytest.raises(error, match=words):
            getattr(adapter, rule_class.__name__)(params, **{**inner, **given})
    assert len(refused) >= len(get_error_inputs_for_all_optims("cpu", torch.float32)) - 1


def refuses(optimizer, params, match, action=None):
    """Whether the action (a step) is refused with all the words, and nothing is changed."""
    before, groups = everything(optimizer, params), copy.deepcopy(optimizer.param_groups)
    with pytest.raises((TypeError, ValueError)) as refusal:
        (action or optimizer.step)()
    assert all(word in str(refusal.value) for word in match), str(refusal.value)
    assert_equal(everything(optimizer, params), before)
    assert [g.keys() for g in groups] == [g.keys() for g in optimizer.param_groups]


def test_a_bad_value_in_a_later_group_stops_the_step_before_anything_moves():
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = adapter.AdamW([{"params": [a]}, {"params": [b]}])
    train(optimizer, [a, b], range(2))
    optimizer.param_groups[1]["lr"] = -1.0
    a.grad, b.grad = torch.ones(3), torch.ones(3)
    refuses(optimizer, [a, b], ["AdamW(lr=-1.0)"])


@pytest.mark.parametrize("bad", ["sparse gradient", "integer"])
@pytest.mark.parametrize("name", each_rule())
def test_what_a_rule_cannot_take_is_refused_by_name_before_anything_moves(name, bad):
    rule = build(name)
    good = torch.ones(3, 2, requires_grad=True)
    dtype = {"integer": torch.int64}.get(bad, torch.float32)
    other = torch.ones(3, 2, dtype=dtype)
    optimizer = adapter.bind(rule, [("good", good), ("other", other)])
    other.grad = None
    train(optimizer, [good], range(2))
    other.grad = torch.ones(3, 2, dtype=dtype)
    if bad == "sparse gradient":
        other.grad = other.grad.to_sparse()
    refuses(optimizer, [good, other], [rule.name, "'other'"])
    assert other not in optimizer.state


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.min_ndim))
def test_too_few_dimensions_are_refused_by_name(name):
    rule = build(name)
    params = [torch.ones((2,) * n, requires_grad=True) for n in (rule.min_ndim, rule.min_ndim - 1)]
    optimizer = adapter.bind(rule, [("kernel", params[0]), ("bias", params[1])])
    for param in params:
        param.grad = torch.ones_like(param)
    refuses(optimizer, params, [rule.name, "'bias'", str(tuple(params[1].shape))])


@pytest.mark.only(where=lambda rule_class: typical(rule_class).sees_axes)
def test_complex_parameters_are_refused_where_axes_matter(rule_class):
    rule = typical(rule_class)
    real = torch.ones(3, 2, requires_grad=True)
    other = torch.ones(3, 2, dtype=torch.complex64)
    optimizer = adapter.bind(rule, [("real", real), ("wave", other)])
    train(optimizer, [real], range(2))
    before = everything(optimizer, [real, other])
    real.grad, other.grad = torch.ones(3, 2), torch.ones(3, 2, dtype=torch.complex64)
    for action in (optimizer.step, optimizer.init_state):
        with pytest.raises(TypeError) as refusal:
            action()
        words = (rule.name, "'wave'", "complex64", "axes")
        assert all(word in str(refusal.value) for word in words)
        assert_equal(everything(optimizer, [real, other]), before)


def test_a_step_that_fails_for_one_parameter_changes_none():
    class FailsOnThree(samestep.Rule, register=False):
        lr = samestep.hyper(0.1, "step size", unit="1")

        def direction(self, xp, grad, param, state, s):
            return xp.sum(grad) if param.shape == (3,) else grad, {}

    params = [torch.ones(2, 2), torch.ones(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = adapter.bind(FailsOnThree(), params, execution="reference")
    with pytest.raises(ValueError, match=r"FailsOnThree.direction returned an array of shape"):
        optimizer.step()
    assert all((param == 1).all() for param in params) and not optimizer.state


@pytest.mark.parametrize("execution", ["reference", "packed"])
@pytest.mark.parametrize(
    "bad, words",
    [
        (torch.zeros(1).expand(4), r"parameter '1' has shape \(4,\) and strides \(0,\)"),
        (torch.zeros(2, 1).expand(2, 3), r"parameter '1' has shape \(2, 3\) and strides \(1, 0\)"),
        (torch.zeros(2, 2).to_sparse(), r"parameter '1' has layout torch.sparse_coo"),
    ],
)
def test_a_parameter_whose_elements_have_no_place_of_their_own_is_refused(execution, bad, words):
    params = [torch.zeros(3), bad]
    optimizer = adapter.AdamW(params, execution=execution)
    for param in params:
        dense = torch.ones(param.shape)
        param.grad = dense if param.layout is torch.strided else dense.to_sparse()
    for action in (optimizer.step, optimizer.init_state):
        with pytest.raises((TypeError, ValueError), match=f"AdamW: {words}"):
            action()
        assert not params[0].any() and not optimizer.state
    one = torch.zeros(1, 1).expand(1, 1)  # one element has a place
    one.grad = torch.ones(1, 1)
    adapter.SGD([one], lr=1.0, execution=execution).step()
    assert float(one) == -1


def test_a_schedule_is_held_to_its_range_before_anything_moves():
    params = [torch.ones(2), torch.ones(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = adapter.AdamW(
        [{"params": params[:1]}, {"params": params[1:], "lr": lambda step: -1.0}]
    )
    with pytest.raises(ValueError, match=r"AdamW\(lr=-1.0\): lr must be >= 0 .*; the schedule"):
        optimizer.step()
    assert all((param == 1).all() for param in params) and not optimizer.state


def test_a_tensor_that_is_no_leaf_is_refused_without_differentiable():
    with pytest.raises(ValueError, match="non-leaf"):
        adapter.AdamW([torch.ones(2, requires_grad=True).clone()])


@pytest.mark.parametrize("state_dtype", ["float64", {"v": "float64"}])
def test_a_dtype_that_a_device_lacks_is_named(state_dtype):
    with FakeTensorMode():
        params = [torch.empty(3, device="mps").requires_grad_()]
        params[0].grad = torch.empty(3, device="mps")
        optimizer = adapter.AdamW(params, state_dtype=state_dtype)
        words = (
            r"AdamW: parameter '0' has a state of float64 \((m, )?v\) and is on mps:0, which has no"
        )
        with pytest.raises(
            TypeError, match=words + " float64; allowed there: bfloat16, float16, f"
        ):
            optimizer.step()
        assert not optimizer.state


@pytest.mark.parametrize(
    "execution", ["reference", "packed", pytest.param("compiled", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "Prodigy"])
def test_state_of_inference_mode_is_refused_outside_of_it_before_anything_moves(
    name, execution, capturable
):
    """torch refuses it in the middle of a step, when something has moved."""
    params = [torch.nn.Parameter(torch.ones(n)) for n in (2, 3)]
    options = {"execution": execution, "capturable": capturable}
    optimizer = getattr(adapter, name)(params, **options)
    for param in params:
        param.grad = torch.ones_like(param)
    with torch.inference_mode():
        optimizer.step()
        optimizer.step()
    before = copy.deepcopy((params, optimizer.state_dict()))
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{name}: step in the state of '0' was made under"):
            optimizer.step()
        assert repr((params, optimizer.state_dict())) == repr(before)
    with torch.inference_mode():
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    expected = [torch.nn.Parameter(torch.ones(n)) for n in (2, 3)]
    plain = getattr(adapter, name)(expected, **options)
    for _ in range(4):
        for param in expected:
            param.grad = torch.ones_like(param)
        plain.step()
    assert all(map(torch.equal, params, expected))


def test_a_parameter_of_inference_mode_is_refused_outside_of_it():
    with torch.inference_mode():
        param = torch.nn.Parameter(torch.ones(2))
        param.grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"AdamW: parameter 'w' was made under torch\.infer"):
        adapter.AdamW([("w", param)]).step()
