"""A state's counts that cannot be its own are refused in words, before anything is computed."""

from __future__ import annotations

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
