"""A state's counts that cannot be its own are refused in words, before anything is computed."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy
import pytest

import samestep
from samestep import AdamW, SkipNonFinite

PARAMS = {"a": numpy.ones(2, "float32"), "b": numpy.ones(2, "float32")}
FIRST = numpy.float32(1 - 0.1 - 0.1 * 0.01)
"""A parameter of ones after the first step of AdamW(lr=0.1)."""


RULE = AdamW(lr=0.1)


def run(library: str, rule: Any = RULE) -> tuple[Any, Any, Any]:
    """A state after three calls in which b missed its gradient, the parameters, and a step."""
    return run_of_mlx(rule) if library == "mlx" else run_of_values(library, rule)


@cache
def run_of_values(library: str, rule: Any) -> tuple[Any, Any, Any]:
    """A state that is a value, so that several tests may start from it."""
    xp = pytest.importorskip({"numpy": "numpy"}.get(library, "jax.numpy"))
    params = {name: xp.asarray(value) for name, value in PARAMS.items()}
    if library == "numpy":
        state = rule.init(params)

        def step(grads: Any, state: Any) -> Any:
            return rule.update(grads, params, state)
    else:
        optimizer = samestep.jax.bind(rule)
        state = optimizer.init(params)

        def step(grads: Any, state: Any) -> Any:
            return optimizer.update(grads, state, params)

        if library == "jax.jit":
            step = pytest.importorskip("jax").jit(step)
    for _ in range(3):
        _, state = step({"a": params["a"], "b": None}, state)
    return state, params, step


def run_of_mlx(rule: Any) -> tuple[Any, Any, Any]:
    """An optimizer of MLX in place of the state."""
    mx = pytest.importorskip("mlx.core")
    params = {name: mx.array(value) for name, value in PARAMS.items()}
    optimizer = samestep.mlx.bind(rule)
    for _ in range(3):
        optimizer.apply_gradients({"a": params["a"]}, params)
    return optimizer, params, lambda grads, state: state.apply_gradients(grads, params)


def test_a_state_whose_step_is_no_count_is_not_saved():
    state, params, _ = run("numpy")
    with pytest.raises(ValueError, match=r"the state's step is 2\.5; it must be a whole number"):
        samestep.checkpoint(RULE, params, state._replace(step=2.5))


libraries = pytest.mark.parametrize("library", ["numpy", "jax", "jax.jit"])


@libraries
def test_missed_calls_are_no_more_than_all_calls(library):
    state, params, step = run(library)
    xp = state.shared[next(iter(state.shared))]
    before = state._replace(step=0 if library == "numpy" else xp * 0)
    if library == "jax.jit":  # where they cannot be read, it has had no update
        moved = numpy.asarray(step(params, before)[0]["b"])
        numpy.testing.assert_allclose(1 + moved, FIRST, rtol=1e-6)
        return
    said = r"counts 3 calls \(step missed by 1 of \w+\), and the state's step is 0; take both"
    with pytest.raises(ValueError, match=said):
        step(params, before)


@pytest.mark.parametrize("library", ["numpy", "jax"])
def test_skipped_steps_are_no_more_than_all_calls(library):
    state, params, step = run(library, SkipNonFinite(AdamW(lr=0.1)))
    skipped = state.shared["skipped"] * 0 + 4
    with pytest.raises(ValueError, match=r"counts 4 calls \(skipped\), and the state's step is 3"):
        step(params, state._replace(shared={**state.shared, "skipped": skipped}))


COUNTS = [
    numpy.float32(3),
    numpy.asarray([3], "int32"),
    numpy.int8(127),
    numpy.uint16(3),
    numpy.int32(-3),
    True,
    3.0,
    "3",
]


@pytest.mark.parametrize("library", ["numpy", "jax", "jax.jit", "mlx"])
@pytest.mark.parametrize("count", COUNTS, ids=repr)
def test_a_step_that_is_no_count_is_refused(library, count):
    """A count of 8 or 16 bits would stay at its largest number, or begin again."""
    state, params, step = run(library)
    grads = {"a": params["a"]} if library == "mlx" else {"a": params["a"], "b": None}
    if library == "mlx":
        mx = pytest.importorskip("mlx.core")
        state.state["step"] = mx.array(count) if hasattr(count, "dtype") else count
    elif library == "jax.jit" and (isinstance(count, str) or numpy.min(count) < 0):
        return  # JAX refuses the first; the value of the second cannot be read
    else:
        jax = library != "numpy" and hasattr(count, "dtype")
        state = state._replace(
            step=pytest.importorskip("jax.numpy").asarray(count) if jax else count
        )
    with pytest.raises(ValueError, match=r"AdamW: the state's step is .*; it must be a whole num"):
        step(grads, state)


@libraries
@pytest.mark.parametrize("count", [None, ()], ids=repr)
def test_a_step_that_is_no_leaf_is_named(library, count):
    state, params, step = run(library)
    with pytest.raises(ValueError, match=rf"step is {re.escape(repr(count))}; it must be a whole"):
        step(params, state._replace(step=count))


def test_a_step_of_mlx_stays_at_the_largest_number():
    optimizer, params, step = run("mlx")
    mx = pytest.importorskip("mlx.core")
    optimizer.state["step"] = mx.array(2**31 - 2, mx.int32)
    for _ in range(3):
        moved = step(params, optimizer)
        assert optimizer.state["step"].item() == optimizer.steps_taken == 2**31 - 1
        assert mx.isfinite(moved["b"]).all()


@libraries
@pytest.mark.parametrize(
    ("key", "count", "message"),
    [
        ("step missed by x", 1, "calls that were missed by 'x'; these must be places of parameter"),
        ("step missed by 2", 1, r"missed by '2'; .* of which there are 2, such as 0-2,7"),
        ("step missed by 1-0", 1, "missed by '1-0'; these must be places"),
        ("step missed by 0", 1.5, "the state's step missed by 0 is .*; it must be a whole number"),
        ("foo missed by 0", 1, "counts of missed calls of foo; AdamW counts step"),
        ("step missed by 0-1", 1, "under several keys: 0-1, 1 of"),
    ],
)
def test_a_key_that_names_no_parameter_is_refused(library, key, count, message):
    state, params, step = run(library)
    count = numpy.asarray(count, numpy.asarray(count).dtype.name.replace("64", "32"))
    with pytest.raises(ValueError, match=f"AdamW: .*{message}"):
        step(params, state._replace(shared={**state.shared, key: count}))
