"""Options that choose a dtype of the arithmetic: the errors that they state hold, and matter."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy
import pytest

import samestep
from samestep.conformance.harness.parametrized import chosen
from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.parity.backend import NUMPY
from samestep.parts.matrix import narrowed
from samestep.precisions import Precision, stated_error
from samestep.rule import Rule

SHAPES = ((6, 4), (16, 16), (24, 96), (96, 24))


def choices() -> list[tuple[type[Rule], str, str]]:
    """Every choice that states an error."""
    fields = ((rule, field) for rule in all_rules() for field in rule.fields().values())
    stated = (pair for pair in fields if isinstance(pair[1], Precision) and is_own(pair[0]))
    return [(rule, field.name, value) for rule, field in stated for value in field.errors]


def cases() -> list[Any]:
    found = []
    for (rule, name, value), backend in product(choices(), chosen()):
        marks = [pytest.mark.thorough] if backend.slow else []
        label = f"{rule.__name__}-{name}={value}-{backend.name}"
        found.append(pytest.param(rule, {name: value}, backend, id=label, marks=marks))
    return found


def changes(rule: Rule, backend: Any, dtype: str) -> dict[str, numpy.ndarray]:
    """The change of parameters that are 0, by two steps along gradients of full rank."""
    rng = numpy.random.default_rng(0)
    zeros = {str(shape): numpy.zeros(shape, "float32") for shape in SHAPES}
    run = backend.start(rule, zeros, dtype)
    for _ in range(2):
        run.step({path: rng.normal(size=p.shape).astype("float32") for path, p in zeros.items()})
    return {path: backend.numpy(array) for path, array in run.params().items()}


@pytest.mark.parametrize(("rule_type", "choice", "where"), cases())
def test_a_step_is_off_by_what_is_stated_and_no_less_than_its_dtype(rule_type, choice, where):
    rule = typical(rule_type, **choice)
    exact = changes(typical(rule_type), NUMPY, "float64")
    found = changes(rule, where, "float32")
    for path, right in exact.items():
        off = numpy.linalg.norm(found[path] - right) / numpy.linalg.norm(right)
        assert stated_error(rule) / 10 < off <= stated_error(rule), path


def test_the_error_is_stated_where_the_option_is_shown():
    for rule, name, value in choices():
        error = rule.fields()[name].errors[value]
        words = f"a step with {value!r} is off by up to {100 * error:.2g} % of its length"
        assert words in " ".join((rule.__doc__ or "").split())
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            typical(rule, **{name: "float8"})
        wrapped = samestep.Cautious(typical(rule, **{name: value}))
        assert stated_error(wrapped) == error and not stated_error(typical(rule))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_rounds_as_a_library_that_has_the_dtype(dtype):
    torch = pytest.importorskip("torch")
    values = numpy.random.default_rng(0).normal(size=10_000) * 10.0 ** numpy.arange(-8, 2).repeat(
        1000
    )
    values = numpy.concatenate([values, -values, [0.0, 1.0, -2.0]]).astype(dtype)
    expected = torch.tensor(values).bfloat16().to(getattr(torch, dtype)).numpy()
    assert numpy.array_equal(narrowed(numpy, values, "bfloat16"), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_muon_of_torch_is_as_far_off_as_bfloat16_is(dtype):
    """Its own dialect, with its bfloat16 or without, over 20 steps of random directions."""
    torch = pytest.importorskip("torch")
    rng = numpy.random.default_rng(0)
    theirs = torch.nn.Parameter(torch.zeros(24, 16))
    optimizer = torch.optim.Muon([theirs], lr=0.1)
    rule = samestep.Muon(lr=0.1, like="torch", ns_dtype=dtype, layout="oi")
    ours = numpy.zeros((24, 16), "float32")
    state = rule.init(ours)
    for _ in range(20):
        grad = rng.normal(size=ours.shape).astype("float32")
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        ours, state = rule.update(grad, ours, state)
    off = numpy.linalg.norm(theirs.detach().numpy() - ours) / numpy.linalg.norm(ours)
    assert 1e-4 < off < 0.02


def test_the_option_travels_with_a_state(tmp_path):
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.ones(6, 4))
    optimizer = samestep.torch.Muon([("w", param)], ns_dtype="bfloat16")
    param.grad = torch.cos(torch.arange(24.0)).reshape(6, 4)
    optimizer.step()
    samestep.save(tmp_path / "x", optimizer, {"w": param})
    rule = samestep.Muon(ns_dtype="bfloat16", layout="oi")
    params = {"w": numpy.zeros((6, 4), "float32")}
    params, state = samestep.load(tmp_path / "x", rule, params)
    assert numpy.array_equal(params["w"], param.detach().numpy()) and state.steps_taken == 1
    with pytest.raises(samestep.CheckpointError, match="ns_dtype is 'float32' here and 'bfloat16'"):
        samestep.load(tmp_path / "x", samestep.Muon(layout="oi"), params)
