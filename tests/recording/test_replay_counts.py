"""Runs in which parameters miss gradients: each parameter counts its own updates."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep.recording import Recorder, read
from samestep.replay import replay

STEPS = 20
START = {"a": numpy.ones(3, "f4"), "b": numpy.ones((2, 2), "f4")}
RULES = {
    "NAdam": samestep.NAdam(lr=0.01),
    "scheduled": samestep.AdamW(lr=samestep.schedules.CosineDecay(0.1, STEPS)),
    "Lookahead": samestep.Lookahead(samestep.AdamW(lr=0.01), sync_period=3),
    "SkipNonFinite": samestep.SkipNonFinite(samestep.NAdam(lr=lambda step: 0.1 / (1 + step))),
    "Prodigy": samestep.Prodigy(),
}


def gradients(step, rule):
    """Those of a parameter that misses two of three steps, and one that misses none."""
    random = numpy.random.default_rng(step)
    found = {name: random.normal(size=value.shape).astype("f4") for name, value in START.items()}
    if step % 5 in (0, 2) and "Skip" in rule.name:  # the first one too
        found["a"][0] = numpy.nan
    return {name: value for name, value in found.items() if name == "a" or step % 3 == 1}


def in_numpy(rule, path, **how):
    params, state = START, rule.init(START)
    with Recorder(path, **how) as recording:
        for step in range(STEPS):
            grads = gradients(step, rule)
            after, new = rule.update({n: grads.get(n) for n in START}, params, state)
            recording.note(step, grads, params, after, rule, state)
            params, state = after, new


def in_torch(rule, path, **how):
    torch = pytest.importorskip("torch")
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in START.items()}
    optimizer = samestep.torch.bind(rule, [*params.items()])
    with samestep.torch.recorder(path, optimizer, **how):
        for step in range(STEPS):
            grads = gradients(step, rule)
            for name, param in params.items():
                param.grad = torch.tensor(grads[name]) if name in grads else None
            optimizer.step()


def in_jax(rule, path, given=False, **how):
    jax = pytest.importorskip("jax")
    with samestep.jax.recorder(path, rule=rule if given else None, **how) as recording:
        optimizer = recording(samestep.jax.bind(rule))
        params = jax.tree.map(jax.numpy.asarray, START)
        state = optimizer.init(params)
        for step in range(STEPS):
            grads = gradients(step, rule)
            updates, state = optimizer.update({n: grads.get(n) for n in START}, state, params)
            params |= {n: params[n] + u for n, u in updates.items() if u is not None}


def in_jax_with_rule(rule, path, **how):
    in_jax(rule, path, given=True, **how)


def in_mlx(rule, path, **how):
    mx = pytest.importorskip("mlx.core")
    optimizer, params = samestep.mlx.bind(rule), {n: mx.array(v) for n, v in START.items()}
    with samestep.mlx.recorder(path, optimizer, **how):
        for step in range(STEPS):
            grads = {name: mx.array(value) for name, value in gradients(step, rule).items()}
            params = params | optimizer.apply_gradients(grads, params)


FAST = {(run, "NAdam") for run in (in_numpy, in_torch, in_mlx)} | {
    (run, "SkipNonFinite") for run in (in_numpy, in_torch, in_jax_with_rule)
}
ALL = [
    pytest.param(run, name, marks=() if (run, name) in FAST else pytest.mark.thorough)
    for run in (in_numpy, in_torch, in_jax, in_jax_with_rule, in_mlx)
    for name in RULES
]


@pytest.mark.parametrize(("run", "name"), ALL)
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(None, id="all"),
        pytest.param(lambda step: step % 7 < 4, id="stretches", marks=pytest.mark.thorough),
    ],
)
def test_a_parameter_that_misses_gradients_agrees_with_its_rule(path, run, name, steps):
    run(RULES[name], path, steps=steps)
    found = replay([read(path)])
    assert found.verdict == "agree" and not found.unchecked, found.sentences
    assert found.steps == len([step for step in range(STEPS) if steps is None or steps(step)])
