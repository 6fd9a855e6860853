"""Steps that count and leave the parameter: in every framework, execution and family of decay."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import samestep
from samestep import ADOPT, Lookahead, Rule, SkipNonFinite, Wrapper, ema, hyper, slot, weights
from samestep.conformance.harness.settings import typical
from samestep.parity import Trajectory, follow, record
from samestep.parity.backend import NUMPY, Backend, backends
from samestep.vocabulary import decayed_direction
from samestep.weight_decay import FAMILIES

PATHS = ("a", "b")
WHOLE = record(seed=5, steps=6, shapes={"a": (3,), "b": (2, 2)}, decades=(-2, 1))
COMPILERS = ("torch.compile", "mx.compile", "mx.compile (state)")
BACKENDS = [
    pytest.param(one, id=name, marks=pytest.mark.thorough if name in COMPILERS else ())
    for name, one in backends().items()
    if isinstance(one, Backend)
]


class Mean(Rule, register=False):
    """The direction is a mean of the gradients."""

    lr = hyper(0.1, "step size", unit="parameter/gradient", ge=0)
    m = slot("mean of the gradients")

    def scalars(self, xp, t):
        return {"pair": weights(0.5)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.pair)
        return m, {"m": m}


class Patient(Mean, register=False):
    """The same, but the first two steps go nowhere."""

    waits = 2


class OfOwnRate(Patient, register=False):
    """The same, with the step size inside the direction."""

    def scalars(self, xp, t):
        return {**super().scalars(xp, t), "rate": 1.0, "inside": self.lr}

    def direction(self, xp, grad, param, state, s):
        m, slots = super().direction(xp, grad, param, state, s)
        return s.inside * m, slots


def without(trajectory: Trajectory, missing: dict[str, set[int]]) -> Trajectory:
    """The trajectory, in which parameters have no gradient in some calls."""
    grads = [
        {path: grad for path, grad in step.items() if call not in missing.get(path, ())}
        for call, step in enumerate(trajectory.grads)
    ]
    return Trajectory(trajectory.params, grads)


def followed(rule: Rule, of: Trajectory, backend: Any = NUMPY, dtype: str = "float64") -> Any:
    return follow(backend.start(rule, of.params, dtype), backend, of)


@pytest.mark.parametrize("kind", [Patient, OfOwnRate])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_moves_and_nothing_decays_and_then_all_is_as_without(kind, family):
    values = {"weight_decay": 0.3, "peak_lr": 0.5, "decay": family}
    found = followed(kind(**values), WHOLE)
    for path in PATHS:
        for step in (1, 2):
            assert (found[step]["param", path] == found[0]["param", path]).all()
            assert (found[step]["m", path] != found[step - 1]["m", path]).any()
    state, params = Mean(**values).init(WHOLE.params), WHOLE.params
    for step, grads in enumerate(WHOLE.grads):
        new, state = Mean(**values).update(grads, params, state)
        params = params if step < 2 else new
        for path in PATHS:
            numpy.testing.assert_allclose(found[step + 1]["param", path], params[path], rtol=1e-14)


class DecayedInside(Patient, register=False):
    """The same, of a direction with the decay in it."""

    decays_inside = True

    def direction(self, xp, grad, param, state, s):
        grad = decayed_direction(self.decay, grad, param, s)
        return super().direction(xp, grad, param, state, s)


def test_what_a_rule_keeps_has_no_decay_of_the_steps_that_it_waits():
    found = followed(DecayedInside(weight_decay=0.3, decay="in_update"), WHOLE)
    expected = followed(Patient(), WHOLE)
    for path in PATHS:
        assert (found[2]["m", path] == expected[2]["m", path]).all()
        assert (found[3]["m", path] != expected[3]["m", path]).any()


@pytest.mark.parametrize("on", BACKENDS)
@pytest.mark.parametrize("rule", [Patient(weight_decay=0.3), typical(ADOPT)], ids=["mean", "ADOPT"])
def test_every_framework_waits_for_a_parameter_s_own_steps(rule, on):
    """One begins two calls later than the other."""
    late = without(WHOLE, {"b": {0, 1}}).rounded("float32")
    found, expected = followed(rule, late, on, "float32"), followed(rule, late)
    for step in range(1, 3 + rule.waits):
        for path, begins in (("a", 0), ("b", 2)):
            stays = step <= begins + rule.waits
            now, then = (found[at]["param", path] for at in (step, step - 1))
            assert (now == then).all() == stays, (step, path)
    for key, value in expected[-1].items():
        numpy.testing.assert_allclose(found[-1][key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("execution", ["reference", "packed"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_captured_step_of_torch_waits_as_well(execution, dtype):
    """There the number of the step is an array."""
    torch = pytest.importorskip("torch")
    adapter = pytest.importorskip("samestep.torch")
    rule = typical(ADOPT)
    params = {
        path: torch.nn.Parameter(torch.tensor(value, dtype=getattr(torch, dtype)))
        for path, value in WHOLE.params.items()
    }
    optimizer = adapter.bind(rule, params.items(), execution=execution, capturable=True)
    for grads, expected in zip(WHOLE.grads, followed(rule, WHOLE)[1:], strict=True):
        for path, param in params.items():
            param.grad = torch.tensor(grads[path], dtype=param.dtype)
        optimizer.step()
        for path, param in params.items():
            rtol = 1e-13 if dtype == "float64" else 1e-5
            value = param.detach().numpy()
            numpy.testing.assert_allclose(value, expected["param", path], rtol=rtol)


def test_what_is_skipped_is_no_step_that_is_waited_for():
    bad = WHOLE.grads[0] | {"a": numpy.full((3,), numpy.nan)}
    spoilt = Trajectory(WHOLE.params, [bad, *WHOLE.grads])
    found = followed(SkipNonFinite(Patient(weight_decay=0.3)), spoilt)
    expected = followed(Patient(weight_decay=0.3), WHOLE)
    for one, other in zip(found[1:], expected, strict=True):
        for path in PATHS:
            assert (one["param", path] == other["param", path]).all()


def test_wrappers_and_routes_wait_for_the_rule_inside():
    rule = samestep.route((samestep.Where(max_ndim=1), Patient()), Mean())
    for one in (rule, Lookahead(rule, sync_period=5)):
        found = followed(one, WHOLE)
        assert (found[2]["param", "a"] == found[0]["param", "a"]).all()
        assert (found[3]["param", "a"] != found[0]["param", "a"]).any()
        assert (found[1]["param", "b"] != found[0]["param", "b"]).any()


@pytest.mark.parametrize("waits", [-1, True, 1.0])
def test_only_a_number_of_steps_is_waited_for(waits):
    with pytest.raises(TypeError, match=f"Late.waits is {waits!r}; it must be a number of steps"):
        type("Late", (Mean,), {"waits": waits}, register=False)


def test_a_wrapper_has_no_steps_of_its_own_to_wait_for():
    with pytest.raises(TypeError, match="Late declares waits; the steps are those of the rule"):
        type("Late", (Wrapper,), {"waits": 1}, register=False)
