"""Numbers that change: schedules, and numbers that optax injects as arrays."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import samestep
import samestep.jax as adapter
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.jax_trees import (
    KINDS,
    close,
    each_single_kind,
    same,
    stacked,
    stepper,
    tree,
    types,
)
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import all_rules, typical
from samestep.declaration import Option
from samestep.wrapper import Wrapper


def whole_options(rule):
    """Options that are whole numbers, which optax would make arrays of."""
    return [
        name
        for name, field in type(rule).fields().items()
        if isinstance(field, Option) and type(rule.hypers[name]) is int
    ]


def injected(rule):
    """The class of the rule's name with its values, of which optax makes arrays where it can."""
    values = {name: rule.hypers[name] for name in type(rule).fields()}
    inner = [rule.rule] if isinstance(rule, Wrapper) else []
    make = optax.inject_hyperparams(getattr(adapter, rule.name), static_args=whole_options(rule))
    numbers = {n for n, v in values.items() if type(v) in (int, float)} - {*whole_options(rule)}
    return make(*inner, **values), {name: values[name] for name in numbers}


def test_every_number_may_be_injected(rule_class):
    optimizer, numbers = injected(typical(rule_class))
    params = tree(typical(rule_class), 0)
    state = optimizer.init(params)
    assert {n: float(v) for n, v in state.hyperparams.items()} == pytest.approx(numbers)
    updates, after = jax.eval_shape(optimizer.update, params, state, params)
    assert types(updates) == types(params) and types(after) == types(state)


@each_single_kind
def test_every_number_may_be_changed_between_jitted_steps(kind, wide):
    rule = KINDS[kind]
    (optimizer, numbers), params = injected(rule), tree(rule, 0)
    state, own = optimizer.init(params), adapter.bind(rule).init(params)
    step, fixed = jax.jit(stepper(optimizer)), {}
    for t in range(5):
        changed = {
            name: value * ((1.25 if value >= 1 else 0.75) if t % 2 else 1.0)
            for name, value in numbers.items()
            if type(value) is float and math.isfinite(value)
        }
        state.hyperparams.update({n: jnp.asarray(v, float) for n, v in changed.items()})
        grads = tree(rule, 100 + t)
        if t < 2:
            fixed[t] = jax.jit(stepper(adapter.bind(rule.replace(**changed))))
        expected, own = fixed[t % 2](params, own, grads)
        params, state = step(params, state, grads)
        close(params, expected)
        assert {n: float(v) for n, v in state.hyperparams.items()}.items() >= changed.items()
    assert step._cache_size() == 1


def injected_pair():
    """AdamW of both, with a schedule, and a beta that can be changed."""
    ours = optax.inject_hyperparams(
        lambda lr, b1, wd: adapter.AdamW(lr=lr, betas=(b1, 0.999), weight_decay=wd, like="optax")
    )
    theirs = optax.inject_hyperparams(optax.adamw)
    rate = optax.exponential_decay(0.1, 5, 0.5)
    return ours(lr=rate, b1=0.9, wd=0.1), theirs(learning_rate=rate, b1=0.9, weight_decay=0.1)


def test_injected_schedules_and_betas_are_optax_s(wide):
    ends = []
    for optimizer in injected_pair():
        params, step = tree(samestep.Rule, 0), jax.jit(stepper(optimizer))
        state = optimizer.init(params)
        for t in range(12):
            if t == 6:
                state = optax.tree_utils.tree_set(state, b1=jnp.asarray(0.5, float))
            params, state = step(params, state, tree(samestep.Rule, 100 + t))
        assert step._cache_size() == 1
        ends.append(params)
    close(*ends)


def test_a_number_of_another_type_traces_as_often_as_in_optax():
    sizes = []
    for optimizer in injected_pair():
        params = tree(samestep.Rule, 0)
        state, step = optimizer.init(params), jax.jit(stepper(optimizer))
        for value in (0.5, jnp.asarray(0.5), jnp.float32(0.5), np.float32(0.5), 0.25):
            state.hyperparams["b1"] = value
            params, state = step(params, state, params)
        sizes.append(step._cache_size())
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_number_is_not_rounded_to_the_dtype_of_the_parameters(dtype):
    """optax rounds what it injects: 0.99 is 0.98828 in bfloat16."""
    params, make = jnp.ones(2, dtype), optax.inject_hyperparams
    with pytest.raises(TypeError, match=r"^SGD: .*momentum.* hyperparam_dtype=jnp\.float32"):
        make(adapter.SGD)(momentum=0.99).init(params)
    make(adapter.SGD, hyperparam_dtype=jnp.float32)(momentum=0.99).init(params)


def test_what_cannot_be_injected_is_refused_in_words():
    with pytest.raises(TypeError, match=r"Muon: ns_steps may not be .* static_args=\['ns_steps'\]"):
        optax.inject_hyperparams(adapter.Muon)(lr=0.1).init(jnp.ones((2, 2)))
    with pytest.raises(TypeError, match=r"AdamW\(like='optax'\): all arguments .*lambda lr: AdamW"):
        optax.inject_hyperparams(adapter.AdamW)(lr=0.1, like="optax").init(jnp.ones(2))
    injected = optax.inject_hyperparams(adapter.AdamW, static_args="mask")
    decaying = injected(lr=0.5, weight_decay=0.5, mask=lambda p: p.ndim > 0)
    params = {"a": jnp.ones(2), "b": jnp.ones(())}
    updates, _ = decaying.update(
        jax.tree.map(jnp.zeros_like, params), decaying.init(params), params
    )
    same(updates, {"a": jnp.full(2, -0.25), "b": jnp.zeros(())})


def test_an_injected_number_is_held_to_the_range_outside_jit():
    params = {"w": jnp.ones(2)}
    injected = optax.inject_hyperparams(adapter.AdamW)(lr=0.5)
    state = injected.init(params)
    injected.update(params, state, params)
    state.hyperparams["lr"] = jnp.asarray(-1.0)
    with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be >= 0"):
        injected.update(params, state, params)
    jax.jit(injected.update)(params, state, params)


def test_a_schedule_that_fails_while_traced_says_so():
    params = {"w": jnp.ones(2)}
    optimizer = adapter.AdamW(lr=lambda step: lambda other: other)
    with pytest.raises(ValueError, match="; the schedule gave it for a traced step"):
        jax.jit(optimizer.update)(params, optimizer.init(params), params)


@pytest.mark.parametrize("name", each_rule(most=3))
def test_injected_learning_rates_may_be_mapped_over(name, wide):
    """One state for each rate, all stepped by one call; a state is told its rate as an array."""
    rule = build(name)
    inject = optax.inject_hyperparams(lambda lr: adapter.bind(rule.replace(lr=lr)))
    params, rates = tree(rule, 0), jnp.asarray([0.5, 0.05])
    state = jax.vmap(lambda lr: inject(lr=lr).init(params))(rates)
    together = stacked([params, params])
    step = jax.jit(jax.vmap(stepper(inject(lr=0.0)), (0, 0, None)))
    for t in range(3):
        together, state = step(together, state, tree(rule, 100 + t))
    alone = []
    for rate in (0.5, 0.05):
        optimizer = adapter.bind(rule.replace(lr=rate))
        current, kept = params, optimizer.init(params)
        for t in range(3):
            current, kept = stepper(optimizer)(current, kept, tree(rule, 100 + t))
        alone.append(current)
    close(together, stacked(alone))


@pytest.mark.parametrize("name", each_rule())
def test_schedules_are_called_with_the_steps_taken_so_far(name):
    seen = []
    rule = build(name, lr=lambda step: seen.append(int(step)) or 0.5 / (1 + step))
    steps_inside = getattr(rule, "steps_inside", lambda step: step)
    params = by_hand = tree(rule, 0)
    optimizer, bound = made(adapter, rule), adapter.bind(rule)
    state = own = optimizer.init(params)
    for t in range(3):
        grads = tree(rule, 100 + t)
        params, state = stepper(optimizer if t % 2 else bound)(params, state, grads)
        fixed = adapter.bind(rule.replace(lr=0.5 / (1 + steps_inside(t))))
        by_hand, own = stepper(fixed)(by_hand, own, grads)
    assert seen == sorted(seen) and {*seen} == {steps_inside(step) for step in range(3)}
    close(params, by_hand, 1e-6)


def test_a_step_that_is_known_is_known_at_every_trace():
    """Where the state is closed over, so that only gradients are traced."""
    optimizer = adapter.SGD(lr=lambda step: 0.1 * math.cos(step / 10))
    params, grads = {"w": jnp.ones(2)}, {"w": jnp.full(2, 2.0)}
    state = optimizer.init(params)
    for _ in range(3):
        mapped = jax.vmap(lambda g: optimizer.update({"w": g}, state, params)[0])(grads["w"][None])
        np.testing.assert_allclose(mapped["w"], -0.2, rtol=1e-6)


OFF = [  # rules that keep a slot for a number that may be 0, and that number
    pytest.param(rule, field, marks=() if rule.name == "SGD" else pytest.mark.thorough)
    for rule in map(typical, all_rules())
    for slot in rule.declared_slots().values()
    if (field := slot.only_if) and not isinstance(rule.all_fields()[field], Option)
]


@pytest.mark.parametrize(("rule", "field"), OFF, ids=lambda part: getattr(part, "name", part))
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_the_value_of_an_array_does_not_say_which_slots_there_are(rule, field, compiled):
    rule = rule.replace(**{field: 0.0})
    params, grads = tree(rule, 0), tree(rule, 1)
    ends = []
    for number in (0.0, jnp.asarray(0.0)):
        optimizer = adapter.bind(rule.replace(**{field: number}, lr=lambda step: 0.1 + 0 * step))
        update = jax.jit(optimizer.update) if compiled else optimizer.update
        state, own = optimizer.init(params), params
        for _ in range(2):
            updates, later = update(grads, state, own)
            assert jax.tree.structure(later) == jax.tree.structure(state)
            own, state = optax.apply_updates(own, updates), later
        ends.append(own)
        assert len(state.slots) == len(rule.slots()) + isinstance(number, jax.Array)
    close(*ends)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_an_injected_momentum_that_is_zero_at_first_is_optax_s(name):
    warmup = optax.linear_schedule(0.0, 0.9, 4)
    ours = getattr(adapter, {"sgd": "SGD", "rmsprop": "RMSprop"}[name])
    pair = (
        optax.inject_hyperparams(lambda lr, momentum: ours(lr=lr, momentum=momentum, like="optax"))(
            0.1, momentum=warmup
        ),
        optax.inject_hyperparams(getattr(optax, name))(0.1, momentum=warmup),
    )
    ends = []
    for optimizer in pair:
        params = jnp.ones(3)
        state = optimizer.init(params)
        for step in range(5):
            grads = jnp.asarray([1.0, -0.5, 0.1]) * (step + 1)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        ends.append(params)
    np.testing.assert_allclose(*ends, rtol=2e-6)
