"""A step outside of ``jax.jit`` reads nothing from the device that it has written there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as xp
import numpy
import pytest

import samestep
import samestep.jax
from samestep.conformance.harness.classes import build
from samestep.conformance.harness.parametrized import each_rule

READING = (
    "item",
    "tolist",
    "__array__",
    "__int__",
    "__float__",
    "__bool__",
    "__index__",
    "__iter__",
    "_value",
    "block_until_ready",
)
"""Members of arrays that need their values."""
FUNCTIONS = {
    numpy: ("array", "asarray", "asanyarray", "ascontiguousarray", "copy"),
    jax: ("block_until_ready", "device_get"),
}
"""The same, which may read the memory of an array without a member of it."""


@contextmanager
def reads() -> Iterator[list[str]]:
    """The members and functions that give the values of arrays to the host, as they are called."""
    found: list[str] = []
    kind: Any = type(xp.zeros(()))

    def noted(name: str) -> Any:
        method = getattr(kind, name)

        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            found.append(name)
            return (method.fget if computed else method)(self, *args, **kwargs)

        computed = isinstance(method, property)
        return property(read) if computed else read

    def watched(owner: Any, name: str) -> Any:
        function = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((args, kwargs))):
                found.append(f"{owner.__name__}.{name}")
            return function(*args, **kwargs)

        return called

    with pytest.MonkeyPatch.context() as patch:
        for name in READING:
            patch.setattr(kind, name, noted(name))
        for owner, names in FUNCTIONS.items():
            for name in names:
                patch.setattr(owner, name, watched(owner, name))
        yield found


def started(rule: samestep.Rule, execution: str = "auto") -> tuple[Any, Any, Any]:
    optimizer = samestep.jax.bind(rule, execution=execution)
    params = {"w": xp.ones((4, 3)), "v": xp.ones((4, 3))}
    return optimizer, params, optimizer.init(params)


@pytest.mark.parametrize("missing", [False, True], ids=["every gradient", "one missing"])
@pytest.mark.parametrize("name", each_rule(lambda rule: not rule.withholds, most=3))
def test_a_warm_step_reads_nothing(name, missing):
    """A wrapper that lets no step be taken counts on the device, by what it finds there."""
    optimizer, params, state = started(build(name))
    grads = {"w": params["w"], "v": None if missing else params["v"]}
    for _ in range(2):
        _, state = optimizer.update(grads, state, params)
    with reads() as found:
        for _ in range(2):
            _, state = optimizer.update(grads, state, params)
    assert found == []
    assert state.steps_taken == 4


@pytest.mark.parametrize(
    "read",
    [
        int,
        lambda array: numpy.asarray(array, "int32"),
        lambda array: array._value,
        lambda array: jax.block_until_ready([array]),
        lambda array: jax.device_get({"step": array}),
    ],
)
def test_a_read_is_seen(read):
    count = xp.zeros((), xp.int32) + 1
    with reads() as found:
        read(count)
    assert found


def again(tree: Any) -> Any:
    return jax.tree.map(lambda array: xp.array(array, copy=True), tree)


def test_a_count_that_is_another_is_read():
    """States in turn, copied, set back, made anew, and given away."""
    optimizer, params, first = started(samestep.Adam(lr=0.1))
    update = optimizer.update
    states, after = [first], []
    for _ in range(4):
        change, state = update(params, states[-1], params)
        states.append(state)
        after.append(change)

    def assert_same(place: int, state: Any) -> Any:
        change, state = update(params, state, params)
        assert all(map(xp.array_equal, *map(jax.tree.leaves, (change, after[place]))))
        assert state.steps_taken == place + 1
        return state

    for place in (3, 0, 2, 1):
        state = assert_same(place, states[place])
        assert_same(place, again(states[place]))
        if place < 3:
            assert_same(place + 1, state)
    saved = samestep.checkpoint(optimizer, params, states[2])
    _, restored = samestep.restore(optimizer, saved, params)
    assert_same(2, restored)
    given = jax.jit(lambda state: state, donate_argnums=0)(again(states[3]))
    assert_same(3, given)
    donated = again(states[1])
    jax.jit(lambda state: state, donate_argnums=0)(donated)
    with pytest.raises(RuntimeError, match="deleted"):
        update(params, donated, params)
    assert_same(1, states[1])


def test_nothing_is_kept_of_a_state_that_is_let_go():
    optimizer, params, state = started(samestep.Adam(lr=0.1))
    _, state = optimizer.update(params, state, params)
    memory = optimizer.update.args[-1]
    assert [array() is state.step for array, _ in memory.counts.values()] == [True]
    del state
    assert [array() for array, _ in memory.counts.values()] == [None]


def test_counts_of_missed_calls_are_right_where_states_are_exchanged():
    optimizer, params, state = started(samestep.Adam(lr=0.1))
    some = {"w": params["w"], "v": None}
    results = []
    for known in (True, False):
        now = state
        for grads in (some, params, some, params, params):
            change, now = optimizer.update(grads, now if known else again(now), params)
        results.append((change, now))
    assert jax.tree.structure(results[0]) == jax.tree.structure(results[1])
    assert all(map(xp.array_equal, *map(jax.tree.leaves, results)))
