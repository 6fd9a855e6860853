"""The MLX optimizers in the place of MLX's own: the same training, with the same tools around it.

What is compared is what ``mlx.optimizers`` computes under the same tool (``like="mlx"`` is the same
algorithm), in float64, where a difference is a mistake and not a rounding.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn, optimizers, utils

import samestep
import samestep.mlx as adapter
from samestep.conformance.harness.mlx_trees import (
    LR,
    TWINS,
    Model,
    assert_close,
    assert_equal,
    batch,
    copied,
    flat,
    loss,
    train,
    twins,
)

STEPS = 40
ROOT = Path(samestep.__file__).parent.parent


def assert_trained_alike(ours, theirs, tolerance=1e-11, **options):
    """Two optimizers in the same loop give the same losses, parameters and statistics."""
    models = Model(), Model()
    start = flat(Model().parameters())
    losses = [train(model, o, **options) for model, o in zip(models, (ours, theirs), strict=True)]
    assert_close(losses[0], losses[1], tolerance)
    assert_close(models[0].parameters(), models[1].parameters(), tolerance)
    assert not any(
        mx.array_equal(value, start[path]) for path, value in flat(models[0].parameters()).items()
    )
    assert ours.step.item() == theirs.step.item() == len(losses[0])


@pytest.mark.parametrize(
    ("name", "compiled"),
    [*((name, False) for name in TWINS), *((name, True) for name in ("SGD", "AdamW"))],
)
def test_a_model_trains_as_under_mlx_s_own_optimizer(name, compiled):
    assert_trained_alike(*twins(name), compiled=compiled)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_clipped_before_as_mlx_clips_them(compiled):
    def clipped(grads):
        return optimizers.clip_grad_norm(grads, 0.5)[0]

    assert_trained_alike(*twins("AdamW"), compiled=compiled, prepare=clipped)


def test_a_compiled_step_is_traced_once_whatever_the_learning_rate_and_the_step():
    traces = {}
    for name, optimizer in zip(("ours", "theirs"), twins("AdamW"), strict=True):
        model, traces[name] = Model(), []
        optimizer.init(model.trainable_parameters())

        def counted(grads, count=traces[name]):
            count.append(1)
            return grads

        state = [model.state, optimizer.state, mx.random.state]
        gradient = nn.value_and_grad(model, loss)

        @partial(mx.compile, inputs=state, outputs=state)
        def step(x, y, model=model, optimizer=optimizer, gradient=gradient, counted=counted):
            optimizer.update(model, counted(gradient(model, x, y)[1]))

        for t in range(STEPS):
            optimizer.learning_rate = LR / (1 + t % 7)
            step(*batch(t))
            mx.eval(state)
    assert len(traces["ours"]) == len(traces["theirs"]) == 1


SCHEDULES = {
    "cosine": optimizers.cosine_decay(LR, 30),
    "exponential": optimizers.exponential_decay(LR, 0.875),
    "warm-up": optimizers.join_schedules(
        [optimizers.linear_schedule(0.0, LR, 8), optimizers.step_decay(LR, 0.5, 4)], [8]
    ),
}


@pytest.mark.parametrize(
    ("kind", "compiled"), [*((kind, False) for kind in SCHEDULES), ("warm-up", True)]
)
def test_mlx_s_schedules_of_the_learning_rate_are_mlx_s(kind, compiled):
    """A schedule is float32 in MLX; outside ``mx.compile`` Python computes some in float64."""
    ours, theirs = twins("AdamW", SCHEDULES[kind])
    assert_trained_alike(ours, theirs, tolerance=1e-6, compiled=compiled)
    assert_close([ours.learning_rate], [theirs.learning_rate.astype(mx.float64)], 2.0**-22)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_accumulated_by_tree_map(compiled):
    models, built = (Model(), Model()), twins("AdamW")
    for model, optimizer in zip(models, built, strict=True):
        gradient = nn.value_and_grad(model, loss)
        state = [model.state, optimizer.state, mx.random.state]

        def step(x, y, before, update, model=model, optimizer=optimizer, gradient=gradient):
            _, grads = gradient(model, x, y)
            if before is not None:
                grads = utils.tree_map(lambda a, b: a + b, grads, before)
            if update:
                optimizer.update(model, utils.tree_map(lambda g: g / 2, grads))
                return None
            return grads

        run = mx.compile(step, inputs=state, outputs=state) if compiled else step
        mx.random.seed(5)
        before = None
        for t in range(STEPS):
            before = run(*batch(t), before, t % 2 == 1)
            mx.eval(state)
    assert_close(models[0].parameters(), models[1].parameters())
    assert built[0].step.item() == built[1].step.item() == STEPS // 2


def test_apply_gradients_is_update_without_the_model():
    models, built = (Model(), Model()), (twins("AdamW")[0], twins("AdamW")[0])
    for t in range(5):
        mx.random.seed(t)
        _, grads = nn.value_and_grad(models[0], loss)(models[0], *batch(t))
        built[0].update(models[0], grads)
        new = built[1].apply_gradients(grads, models[1].trainable_parameters())
        models[1].update(new)
        models[1].norm.update(models[0].norm.parameters())
        assert_equal(models[0].parameters(), models[1].parameters())
    assert_equal(built[0].state, built[1].state)


def test_two_paths_to_one_array_are_two_parameters_as_in_mlx():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 8)
            self.outer.weight = self.inner.weight

        def __call__(self, x):
            return self.outer(mx.tanh(self.inner(x))).sum(axis=1, keepdims=True)

    trained = []
    for optimizer in twins("AdamW"):
        mx.random.seed(1)
        model = Tied()
        model.set_dtype(mx.float64)
        model.outer.weight = model.inner.weight
        train(model, optimizer)
        trained.append(model.parameters())
    assert_close(*trained)
    assert not mx.array_equal(trained[0]["inner"]["weight"], trained[0]["outer"]["weight"])


def test_one_parameter_in_two_places_of_the_graph_has_one_state():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(8, 6)

        def __call__(self, x):
            tokens = mx.argmax(x, axis=1)
            return self.embed.as_linear(mx.tanh(self.embed(tokens))).sum(axis=1, keepdims=True)

    trained = []
    for optimizer in twins("AdamW"):
        mx.random.seed(1)
        model = Tied()
        model.set_dtype(mx.float64)
        train(model, optimizer)
        trained.append(model.parameters())
        assert {k.rpartition(".")[2] for k in flat(optimizer.state["embed"])} == {"m", "v"}
    assert_close(*trained)


def freeze_all_but_a_head(model):
    model.freeze()
    model.heads["mean"].unfreeze()


FREEZES = {
    "biases": lambda model: model.freeze(keys=["bias"]),
    "a block": lambda model: model.blocks[0].freeze(),
    "all but a head": freeze_all_but_a_head,
}


@pytest.mark.parametrize(
    ("frozen", "compiled"), [*((each, False) for each in FREEZES), ("all but a head", True)]
)
def test_what_is_frozen_stays_and_has_no_state(frozen, compiled):
    models, built = (Model(), Model()), twins("AdamW")
    for model, optimizer in zip(models, built, strict=True):
        FREEZES[frozen](model)
        train(model, optimizer, compiled=compiled)
    assert_close(models[0].parameters(), models[1].parameters())
    trained, before = flat(models[0].trainable_parameters()), flat(Model().parameters())
    for path, value in flat(models[0].parameters()).items():
        if "running" not in path:
            assert mx.array_equal(value, before[path]).item() == (path not in trained), path
    slots = {path.rpartition(".")[0] for path in flat(built[0].state) if "." in path}
    assert slots == set(trained)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_thawed_in_mid_course_begins_then(compiled):
    """MLX's own optimizers want ``init`` for it; a step is counted once for all parameters."""
    models, built = (Model(), Model()), twins("AdamW")
    for model, optimizer in zip(models, built, strict=True):
        model.blocks[0].freeze()
        train(model, optimizer, range(10), compiled=compiled)
        model.blocks[0].unfreeze()
    built[1].init(models[1].trainable_parameters())
    for model, optimizer in zip(models, built, strict=True):
        train(model, optimizer, range(10, 30), compiled=compiled)
        model.blocks[1].freeze()
        train(model, optimizer, range(30, 40), compiled=compiled)
    assert_close(models[0].parameters(), models[1].parameters())
    assert_close(built[0].state["blocks"], built[1].state["blocks"])


def test_a_gradient_tree_may_hold_any_part_of_the_parameters():
    """What ``tree_unflatten`` makes of some gradients has shorter lists than the model."""
    trained = []
    for optimizer in twins("AdamW"):
        params = {"layers": [{"w": mx.ones(3)} for _ in range(3)], "scale": mx.ones(2)}
        optimizer.init(params)
        for t in range(12):
            rng = np.random.default_rng(t)
            grads = {
                path: mx.array(rng.standard_normal(v.shape)) for path, v in flat(params).items()
            }
            part = [item for place, item in enumerate(grads.items()) if (place + t) % 4 < 2]
            new = optimizer.apply_gradients(utils.tree_unflatten(part), params)
            assert flat(new).keys() == dict(part).keys()
            params = utils.tree_unflatten(list((flat(params) | flat(new)).items()))
        trained.append(params)
    assert_close(*trained, 1e-6)


def matrices(path, parameter):
    return parameter.ndim == 2 and "heads" not in path


@pytest.mark.parametrize("compiled", [False, True])
def test_ours_stand_among_mlx_s_own_in_a_multi_optimizer(compiled, monkeypatch):
    """MLX's Muon adds 1e-7 to the norm of the gradient, and ``addmm`` rounds factors to float32."""
    monkeypatch.setattr(mx, "addmm", lambda c, a, b, alpha=1, beta=1: beta * c + alpha * (a @ b))
    muon = {"momentum": 0.9, "weight_decay": 0.0}
    first = adapter.Muon(lr=LR, **muon), optimizers.Muon(LR, **muon)
    second = optimizers.Lion(LR), optimizers.Lion(LR)
    filters = [matrices, lambda path, parameter: "bias" in path]
    ours, theirs = (
        optimizers.MultiOptimizer(list(each), filters)
        for each in zip(first, second, twins("AdamW"), strict=True)
    )
    models = Model(), Model()
    for model, optimizer in zip(models, (ours, theirs), strict=True):
        for steps, rate in ((range(30), LR), (range(30, STEPS), LR / 2)):
            optimizer.learning_rate = rate
            train(model, optimizer, steps, compiled, prepare=enlarged)
    assert_close(models[0].parameters(), models[1].parameters())
    assert [o.learning_rate.item() for o in ours.optimizers] == [LR / 2] * 3


def enlarged(grads):
    return utils.tree_map(lambda grad: 2.0**30 * grad, grads)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_state_of_mlx_s_own_optimizer_is_continued_as_it_would(compiled, tmp_path):
    ours, theirs = twins("AdamW")
    model = Model()
    train(model, theirs, range(10), compiled=compiled)
    other = Model()
    other.update(copied(model.parameters()))
    ours.state = utils.tree_unflatten(list(flat(theirs.state).items()))
    train(model, theirs, range(10, 30), compiled=compiled)
    train(other, ours, range(10, 30), compiled=compiled)
    assert_close(other.parameters(), model.parameters())
    assert_close(flat(ours.state["heads"]), flat(theirs.state["heads"]))


@pytest.mark.skipif(not (ROOT / "examples").exists(), reason="installed, not a checkout")
def test_the_example_trains():
    """Without MLX's compiler, which takes longer than the training; the integrations have it."""
    pytest.importorskip("sklearn")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "mlx_training.py", "--steps", "60"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MLX_DISABLE_COMPILE": "1"},
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[:2] == ["step", "60"] and float(last[-1]) > 0.85, done.stdout
