"""A step lowers for GPUs and TPUs on a machine that has none, and has nothing that is slow there.

What is looked at is the program that XLA is given for a device, so what XLA makes of it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as xp
import numpy
import pytest

import samestep
import samestep.jax
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.rules.test_products import RULES
from samestep.execution import EXECUTIONS, Execution

THOROUGH = pytest.mark.thorough
PLATFORMS = ("cuda", "rocm", "tpu")
SHAPES = {"w": (96, 64), "v": (96, 64), "k": (32, 8, 3, 3), "b": (64,)}
LEAST = 32 * 8 * 3 * 3


def tree(rule: samestep.Rule, dtype: Any) -> dict[str, Any]:
    return {
        name: xp.ones(shape, dtype) for name, shape in SHAPES.items() if len(shape) >= rule.min_ndim
    }


def unfit(rule: samestep.Rule, dtype: Any = xp.float32, execution: Execution = "auto") -> set[str]:
    """What a step under the user's ``jax.jit`` and settings has that it should not have."""
    transformation = samestep.jax.bind(rule, execution=execution)
    params = tree(rule, dtype)
    state = transformation.init(params)

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = transformation.update(grads, state, params)
        return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), state

    with jax.default_matmul_precision("bfloat16"):
        traced = jax.jit(step, donate_argnums=(0, 1)).trace(params, state, params)
        equations = [*all_of(traced.jaxpr.jaxpr)]
        if any("callback" in equation.primitive.name for equation in equations):
            return {"a callback"}  # which lowers where the device is
        texts = [traced.lower(lowering_platforms=(name,)).as_text() for name in PLATFORMS]
    found = set().union(*map(_unfit_in, texts))
    if any(xp.size(value) >= LEAST for value in traced.jaxpr.consts):
        found.add("a large constant")
    kept = len(jax.tree.leaves((params, state)))
    if any(text.count("tf.aliasing_output") != kept for text in texts):
        found.add("an argument that was given away and is not written into")
    return found


def all_of(jaxpr: Any) -> Iterator[Any]:
    """All equations of a program and of the programs that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, Sequence) else [value]:
                if hasattr(inner, "jaxpr") or hasattr(inner, "eqns"):
                    yield from all_of(getattr(inner, "jaxpr", inner))


def _unfit_in(text: str) -> set[str]:
    dots = re.findall(r"stablehlo\.(?:dot|dot_general|convolution)\b.*", text)
    wrong = {
        "a product without a precision": [d for d in dots if "[HIGHEST, HIGHEST]" not in d],
        "a call of a library": re.findall("custom_call|infeed|outfeed", text),
        "float64": re.findall(r"[<x]f64\b", text),
        "a large constant": [c for c in re.findall("dense<([^>]*)", text) if len(c) > LEAST],
    }
    return {what for what, places in wrong.items() if places}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", each_rule())
def test_a_step_lowers_for_every_device_without_anything_that_is_slow_there(name, dtype):
    assert unfit(build(name), getattr(xp, dtype)) == set()


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        pytest.param(name, execution, marks=marks)
        for execution in EXECUTIONS
        for name in RULES
        for marks in ([] if execution == "auto" or name == "an author's" else [THOROUGH],)
    ],
)
def test_products_are_precise_whatever_the_default_is(name, execution):
    """In rules, in wrappers around them and in an author's own, by a function and an operator."""
    assert unfit(RULES[name], execution=execution) == set()


def test_products_of_a_rule_on_arrays_are_precise():
    rule = RULES["an author's"]
    params = tree(rule, xp.float32)
    state = rule.init(params)
    with jax.default_matmul_precision("bfloat16"):
        traced = jax.make_jaxpr(lambda g, p: rule.update(g, p, state)[0])(params, params)
    names = [(e.primitive.name, e.params.get("precision")) for e in all_of(traced.jaxpr)]
    found = {precision for name, precision in names if name == "dot_general"}
    assert found == {(jax.lax.Precision.HIGHEST,) * 2}


def called_back(xp: Any, array: Any) -> Any:
    jax.debug.callback(lambda x: None, array)
    return array


def shifted(xp: Any, array: Any) -> Any:
    return array + numpy.random.default_rng(0).normal(size=array.shape).astype("float32")


@pytest.mark.parametrize(
    ("fault", "seen"),
    [(called_back, "a callback"), (shifted, "a large constant")],
)
def test_what_is_slow_is_seen(fault, seen, monkeypatch):
    right = samestep.SignSGD.direction

    def wrong(self, xp, grad, param, state, s):
        return right(self, xp, fault(xp, grad), param, state, s)

    monkeypatch.setattr(samestep.SignSGD, "direction", wrong)
    assert seen in unfit(samestep.SignSGD())


def test_a_product_at_the_default_precision_is_seen(monkeypatch):
    monkeypatch.setattr(samestep.jax.optimizer, "multiplies", lambda rule: False)
    assert unfit(RULES["Muon"]) == {"a product without a precision"}
