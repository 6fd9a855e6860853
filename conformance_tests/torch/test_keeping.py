"""Rules that keep what they were given, in PyTorch, which writes results into those arrays."""

from __future__ import annotations

import numpy
import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_executions import parameters, train
from samestep.torch import kernels
from samestep.torch.keeping import keep_copies
from samestep.vocabulary import initial_parameter

LR = 0.1


class Keeping(samestep.Rule, register=False):
    """Slots that are the parameter, the gradient, another slot, and one another's old values."""

    lr = samestep.hyper(LR, "step size", unit="parameter", ge=0)
    before = samestep.slot("the parameter before the last step", init=initial_parameter)
    grads = samestep.slot(
        "the last two gradients", init=lambda xp, param: (xp.zeros_like(param),) * 2
    )
    even = samestep.slot("the first parameter, and 0, in turn", init=initial_parameter)
    odd = samestep.slot("0, and the first parameter, in turn")

    def direction(self, xp, grad, param, state, s):
        first, second = state.grads
        found = grad + 0.5 * (param - state.before) + 0.25 * first - 0.125 * second
        found = found + state.even / 8
        # Inductor takes both products with 1 for the parameter itself
        before = xp.reshape(param * xp.ones_like(param) * 1, param.shape)
        return found, {
            "before": before,
            "grads": (grad, first),
            "even": state.odd,
            "odd": state.even,
        }


class Around(samestep.Wrapper, register=False):
    """Adds half of the last step to the gradient."""

    before = samestep.slot("the parameter before the last step", init=initial_parameter)

    def prepare(self, xp, grad, param, state, s):
        return grad + 0.5 * (param - state.before)

    def moved(self, xp, grad, param, state, s):
        move, slots = super().moved(xp, grad, param, state, s)
        return move, {**slots, "before": param}


class Counting(samestep.Rule, register=False):
    """Hands a 0-d slot on as a term of a sum, and doubles it."""

    needs = "tree"
    lr = samestep.hyper(LR, "step size", unit="parameter", ge=0)
    power = samestep.slot(
        "a power of 2", init=lambda xp, param: xp.zeros((), dtype=param.dtype) + 1
    )
    total = samestep.shared("the sum of the powers", start=1.0)

    def local(self, xp, grad, param, state, s):
        return {"power": 2 * state.power}, {"powers": state.power}

    def combine(self, xp, sums, shared, s):
        return {"total": sums.powers}

    def direction(self, xp, grad, param, state, s):
        return grad / state.total, {}


STEPS = 5


def run(rule, param, execution, count=1):
    """The parameters after some steps, and the gradients, of ``count`` equal parameters."""
    params = [torch.nn.Parameter(torch.tensor(param)) for _ in range(count)]
    optimizer = adapter.bind(rule, params, execution=execution)
    grads = [numpy.cos(param * (step + 2)) for step in range(STEPS)]
    for grad in grads:
        for each in params:
            each.grad = torch.tensor(grad)
        optimizer.step()
    return params[-1].detach().numpy(), grads


def kept(param, grads):
    """The parameter after the steps of ``Keeping``."""
    before, first, second, even, odd = param, 0, 0, param, 0
    for grad in grads:
        found = grad + 0.5 * (param - before) + 0.25 * first - 0.125 * second + even / 8
        before, param = param, param - LR * found
        first, second, even, odd = grad, first, odd, even
    return param


def moving(param, grads):
    """The parameter after the steps of ``Around`` around plain descent."""
    before = param
    for grad in grads:
        before, param = param, param - LR * (grad + 0.5 * (param - before))
    return param


def counting(param, grads):
    """The parameter after the steps of ``Counting`` with two parameters."""
    for step, grad in enumerate(grads):
        param = param - LR * grad / (2 * 2**step)
    return param


PARAM = numpy.linspace(-2.0, 2.0, 1200).reshape(40, 30)
SLOW = pytest.mark.thorough
CASES = {
    "rule, packed": (Keeping(), "packed", kept),
    "rule, compiled": (Keeping(), "compiled", kept),
    "wrapper, packed": (Around(samestep.SGD(lr=LR, momentum=0.0)), "packed", moving),
    "wrapper, compiled": (Around(samestep.SGD(lr=LR, momentum=0.0)), "compiled", moving),
    "stack, compiled": (samestep.ClipGlobalNorm(Keeping(), max_norm=1e9), "compiled", kept),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=SLOW if c.startswith(("wrapper, c", "stack")) else ()) for c in CASES],
)
def test_a_slot_keeps_what_it_was_given(case):
    rule, execution, expected = CASES[case]
    found, grads = run(rule, PARAM, execution)
    numpy.testing.assert_allclose(found, expected(PARAM, grads), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("execution", ["reference", "packed"])
def test_a_slot_that_is_a_term_of_a_sum_is_not_overwritten_before_the_sum(execution):
    found, grads = run(Counting(), PARAM, execution, count=2)
    numpy.testing.assert_allclose(found, counting(PARAM, grads), rtol=1e-12, atol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("name", each_rule())
def test_no_graph_of_the_package_is_changed(name, monkeypatch):
    """A copy that must be kept is an operation more."""
    found = []
    monkeypatch.setattr(kernels, "keep_copies", lambda graph: found.append(keep_copies(graph)))
    monkeypatch.setattr(kernels, "standalone_compile", lambda graph, *_: graph)
    monkeypatch.setattr(kernels, "_kernels", {})
    params = parameters([(4, 5), (4, 5), (6, 3)])
    optimizer = adapter.bind(typical(getattr(samestep, name)), params, execution="compiled")
    train(optimizer, params, 2)
    assert found and not any(found)
