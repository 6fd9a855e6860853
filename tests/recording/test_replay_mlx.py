"""Runs of MLX, recorded and recomputed."""

from __future__ import annotations

import pytest

from samestep.recording import RecordingError, read
from samestep.replay import Asked, replay

mx = pytest.importorskip("mlx.core")
import mlx.optimizers as optim  # noqa: E402
from mlx import nn  # noqa: E402  (needs MLX)

import samestep.mlx  # noqa: E402

STEPS = 20


def network():
    mx.random.seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))


def train(path, optimizer, *, model=None, first=0, last=STEPS, between=None, **how):
    model = model or network()
    gradient = nn.value_and_grad(model, lambda m, x, y: ((m(x) - y) ** 2).mean())
    with samestep.mlx.recorder(path, optimizer, **how):
        for step in range(first, last):
            key = mx.random.key(step)
            x = mx.random.normal((16, 6), key=key) * 10.0 ** (step % 5 - 2)
            _, grads = gradient(model, x, mx.random.normal((16, 2), key=mx.random.split(key)[0]))
            optimizer.update(model, grads)
            mx.eval(model.parameters(), optimizer.state)
            if between is not None:
                between(step)
    return path


RUNS = {
    "AdamW": lambda: optim.AdamW(1e-2, weight_decay=0.1),
    "Adam": lambda: optim.Adam(optim.cosine_decay(1e-2, STEPS)),
    "SGD": lambda: optim.SGD(1e-2, momentum=0.9, weight_decay=0.1),
    "Lion": lambda: optim.Lion(1e-3),
    "Adan": lambda: samestep.mlx.Adan(lr=1e-2, weight_decay=0.1),
    "Adamax": lambda: samestep.mlx.Adamax(lr=samestep.schedules.CosineDecay(1e-2, STEPS)),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_agrees_with_its_rule_in_stretches(path, name):
    found = replay([read(train(path, RUNS[name](), steps=lambda step: step % 8 < 3))])
    assert found.verdict == "agree", found.sentences
    assert [row[0] for row in found.growth] == [0, 1, 2, 8, 9, 10, 16, 17, 18]
    assert not found.unchecked and found.rule.split()[0] == name and len(found.rows) == 4
    assert replay([read(path)], Asked(settings={"lr": 0.0123})).first.step == 0


def test_several_optimizers_in_one_agree(path):
    both = optim.MultiOptimizer(
        [optim.AdamW(1e-2), optim.SGD(1e-2)], [lambda name, weight: weight.ndim > 1]
    )
    found = replay([read(train(path, both))])
    assert found.verdict == "agree" and found.rule == "AdamW, SGD like mlx"


def test_mlx_s_adam_is_not_the_published_one(path):
    train(path, optim.Adam(1e-2))
    assert replay([read(path)]).verdict == "agree"
    found = replay([read(path)], Asked("Adam", "torch", {"bias_correction": True}))
    assert found.verdict == "departs" and found.first.step == 0
    assert found.first.relative > 0.5  # its first step is three times as long


def test_a_state_that_is_lost_in_mid_course_is_named(path):
    optimizer = optim.AdamW(1e-2)

    def lose(step):
        if step == 7:
            own = optimizer.state["layers"][2]["weight"]
            own["m"], own["v"] = mx.zeros_like(own["m"]), mx.zeros_like(own["v"])

    found = replay([read(train(path, optimizer, between=lose))])
    assert [(d.step, d.path) for d in found.departures] == [(8, "layers.2.weight")]
    assert found.first.why.startswith("from here on as if the state was empty")


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_run_is_exact_or_has_lost_its_state(tmp_path, lost):
    model, optimizer = network(), optim.AdamW(1e-2)
    first = train(tmp_path / "first.safetensors", optimizer, model=model, last=9)
    if lost:
        optimizer = optim.AdamW(1e-2)
    second = train(tmp_path / "second.safetensors", optimizer, model=model, first=9)
    found = replay([read(first), read(second)])
    assert [(one.step, one.exact) for one in found.resumes] == [(9, not lost)]
    assert found.verdict == ("departs" if lost else "agree") and found.steps == STEPS


def test_the_optimizer_is_as_it_was_afterwards(path, tmp_path):
    optimizer = optim.SGD(1e-2)
    train(path, optimizer)
    assert "apply_gradients" not in vars(optimizer)
    with pytest.raises(TypeError, match=r"Linear is no mlx\.optimizers\.Optimizer"):
        samestep.mlx.recorder(tmp_path / "other.safetensors", nn.Linear(2, 2))


def test_a_compiled_step_is_refused(path):
    model, optimizer = network(), optim.SGD(1e-2)
    optimizer.init(model.trainable_parameters())
    state = [model.state, optimizer.state]

    def step(x):
        _, grads = nn.value_and_grad(model, lambda m, x: (m(x) ** 2).mean())(model, x)
        optimizer.update(model, grads)

    compiled = mx.compile(step, inputs=state, outputs=state)
    with (
        pytest.raises(RecordingError, match=r"a step inside mx\.compile cannot be recorded"),
        samestep.mlx.recorder(path, optimizer),
    ):
        compiled(mx.ones((4, 6)))


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_two_recorders_and_a_wrapper_of_somebody_s_all_see_every_step(tmp_path, order):
    optimizer, seen, model = optim.SGD(1e-2), [], network()
    inner = optimizer.apply_gradients

    def own(gradients, parameters):
        seen.append(1)
        return inner(gradients, parameters)

    optimizer.apply_gradients = own
    grads = {"layers": [{"weight": mx.ones((12, 6))}]}
    paths = [tmp_path / "one", tmp_path / "two"]
    recorders = [samestep.mlx.recorder(path, optimizer) for path in paths]
    for one in recorders:
        one.__enter__()
    for steps, place in enumerate(order, 3):
        for _ in range(steps):
            optimizer.update(model, grads)
        recorders[place].__exit__(None, None, None)
    optimizer.update(model, grads)
    assert [len(read(paths[place]).steps) for place in order] == [3, 7] and len(seen) == 8
    assert all(replay([read(path)]).verdict == "agree" for path in paths)
    if order == (1, 0):
        assert vars(optimizer)["apply_gradients"] is own
