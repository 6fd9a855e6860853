"""The state of a parameter is in memory of its own."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep import Rule, hyper, slot

FIRST = {
    "the parameter": lambda xp, param: param,
    "a view": lambda xp, param: xp.reshape(param, param.shape),
    "twice": lambda xp, param: (param, param),
}


def started(init):
    """A rule that descends by the first parameter."""

    class Mine(Rule, register=False):
        lr = hyper(0.1, "step size", unit="parameter", ge=0)
        first = slot("parameter as it was at init", init=init)

        def direction(self, xp, grad, param, state, s):
            first = state.first[0] if isinstance(state.first, tuple) else state.first
            return first, {"first": state.first}

    return Mine()


@pytest.mark.parametrize("library", ["numpy", "torch", "mlx.core"])
@pytest.mark.parametrize("first", FIRST)
def test_what_is_written_into_a_parameter_is_not_in_its_first_state(first, library):
    param = pytest.importorskip(library).ones((2, 2))
    state = started(FIRST[first]).init(param)
    param[...] = 5.0
    kept = state.slots["first"]
    for value in kept if isinstance(kept, tuple) else [kept]:
        assert (numpy.asarray(value) == 1).all()


@pytest.mark.parametrize("execution", ["reference", "packed"])
@pytest.mark.parametrize("first", FIRST)
def test_a_step_of_torch_does_not_move_the_first_state_along(first, execution):
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = samestep.torch.bind(started(FIRST[first]), [param], execution=execution)
    for _ in range(3):
        param.grad = torch.ones(2, 2)
        optimizer.step()
    assert (param - 0.7).abs().max() < 1e-6


@pytest.mark.parametrize("library", ["numpy", "torch", "mlx.core"])
@pytest.mark.parametrize("seen", [lambda grad: grad, lambda grad: grad[...], lambda grad: grad.T.T])
def test_what_is_written_into_a_gradient_is_not_in_the_state(seen, library):
    class Mine(Rule, register=False):
        needs = "tensor"
        lr = hyper(0.1, "step size", unit="parameter", ge=0)
        last = slot("gradient of the step before")

        def direction(self, xp, grad, param, state, s):
            return grad, {"last": seen(grad)}

    xp = pytest.importorskip(library)
    rule, param, grad = Mine(), xp.ones((2, 2)), xp.ones((2, 2))
    _, state = rule.update(grad, param, rule.init(param))
    grad[...] = 5.0
    assert (numpy.asarray(state.slots["last"]) == 1).all()
