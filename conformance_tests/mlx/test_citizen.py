"""The MLX optimizers in the place of MLX's own: the same training, with the same tools around it.

What is compared is what ``mlx.optimizers`` computes under the same tool (``like="mlx"`` is the same
algorithm), in float64, where a difference is a mistake and not a rounding; or NumPy in float64.
"""

import copy
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import samestep
from samestep import Where, route, schedules
from samestep.conformance.harness.settings import typical

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")
adapter = pytest.importorskip("samestep.mlx")
utils = pytest.importorskip("mlx.utils")
from samestep.conformance.harness.mlx_trees import assert_equal, flat  # noqa: E402

STEPS = 40
LR = 2.0**-6  # MLX holds the rate in float32, which must not round it
CLOSE = 1e-11
"""Of the largest value in an array: float64 rounding, as forty steps of training amplify it."""
TWINS = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
    "RMSprop": {"alpha": 0.9},
    "Adagrad": {},
    "AdaDelta": {"rho": 0.8},
    "Adam": {"betas": (0.8, 0.99)},
    "AdamW": {"betas": (0.9, 0.99), "weight_decay": 0.1},
    "Adamax": {"betas": (0.8, 0.99)},
    "Lion": {"weight_decay": 0.1},
}
"""Optimizers that MLX has too, by the hyperparameters that both are given."""
KINDS = ["AdamW", "SM3", "LAMB", "Adafactor", "Muon", "Prodigy", "Lookahead"]
"""A rule of every kind: by element, axis, norm, factor, matrix, over all parameters, a wrapper."""
ROOT = Path(samestep.__file__).parent.parent


@pytest.fixture(autouse=True)
def _on_the_processor():
    """Metal has no float64."""
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(device)


class Model(nn.Module):
    """Modules in a list, in a dict and in each other; dropout, and statistics without gradient."""

    def __init__(self, dtype=mx.float64):
        super().__init__()
        mx.random.seed(3)
        self.blocks = [nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6)), nn.Linear(6, 6)]
        self.heads = {"mean": nn.Linear(6, 1), "gate": {"inner": nn.Linear(6, 1)}}
        self.norm = nn.BatchNorm(6)
        self.dropout = nn.Dropout(0.25)
        self.set_dtype(dtype)

    def __call__(self, x):
        for block in self.blocks:
            x = mx.tanh(block(x))
        x = self.dropout(self.norm(x))
        return self.heads["mean"](x) + mx.tanh(self.heads["gate"]["inner"](x))


def loss(model, x, y):
    return mx.mean((model(x) - y) ** 2)


def batch(t, dtype=mx.float64):
    """Inputs and targets, whose sign and scale change from step to step."""
    rng = np.random.default_rng(t)
    x = rng.standard_normal((16, 8))
    y = (-1) ** t * 10.0 ** rng.integers(-2, 2) * np.sin(x.sum(1, keepdims=True))
    return mx.array(x, dtype), mx.array(y, dtype)


def train(model, optimizer, steps=range(STEPS), compiled=False, prepare=lambda grads: grads):
    """The losses of an ordinary loop, as MLX's documentation writes it."""
    state = [model.state, optimizer.state, mx.random.state]
    gradient = nn.value_and_grad(model, loss)

    def step(x, y):
        value, grads = gradient(model, x, y)
        optimizer.update(model, prepare(grads))
        return value

    if compiled:
        step = mx.compile(step, inputs=state, outputs=state)
    mx.random.seed(17 + len(steps))
    losses = []
    for t in steps:
        losses.append(step(*batch(t, utils.tree_flatten(model.parameters())[0][1].dtype)))
        mx.eval(losses, state)
    return losses


def twins(name, lr=LR):
    """The optimizer of that name, ours and MLX's, of the same numbers."""
    hypers = TWINS[name]
    return getattr(adapter, name)(lr=lr, like="mlx", **hypers), getattr(optimizers, name)(
        lr, **hypers
    )


def copied(tree):
    """The same arrays in a tree of its own."""
    return utils.tree_map(lambda x: x, tree)


def assert_close(actual, expected, tolerance=CLOSE):
    actual, expected = flat(actual), flat(expected)
    assert actual.keys() == expected.keys()
    for path, value in expected.items():
        assert actual[path].dtype == value.dtype, path
        a, b = (np.array(x.astype(mx.float64)) for x in (actual[path], value))
        scale = np.abs(b).max()
        assert np.abs(a - b).max() <= tolerance * scale, path


def assert_trained_alike(ours, theirs, tolerance=CLOSE, **options):
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


# Training.


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


@pytest.mark.parametrize("compiled", [False, True])
def test_the_learning_rate_may_be_set_in_mid_course(compiled):
    ours, theirs = twins("AdamW")
    models = Model(), Model()
    for rates, steps in [((LR, LR), range(10)), ((LR / 4, mx.array(LR / 4)), range(10, 30))]:
        for model, optimizer, rate in zip(models, (ours, theirs), rates, strict=True):
            optimizer.learning_rate = rate
            train(model, optimizer, steps, compiled=compiled)
    assert_close(models[0].parameters(), models[1].parameters())
    assert ours.learning_rate.item() == LR / 4 and ours.step.item() == 30


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


# What is frozen, and what is left out.


def freeze_biases(model):
    model.freeze(keys=["bias"])


def freeze_a_block(model):
    model.blocks[0].freeze()


def freeze_all_but_a_head(model):
    model.freeze()
    model.heads["mean"].unfreeze()


@pytest.mark.parametrize(
    ("freeze", "compiled"),
    [
        (freeze_biases, False),
        (freeze_a_block, False),
        (freeze_all_but_a_head, False),
        (freeze_all_but_a_head, True),
    ],
)
def test_what_is_frozen_stays_and_has_no_state(freeze, compiled):
    models, built = (Model(), Model()), twins("AdamW")
    for model, optimizer in zip(models, built, strict=True):
        freeze(model)
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
        freeze_a_block(model)
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


# Optimizers beside each other.


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


def routed(muon=LR, rest=LR):
    first = samestep.Muon(lr=muon, weight_decay=0.1)
    return route(
        (Where(ndim=2) & ~Where(path="heads.*"), first), samestep.AdamW(lr=rest, weight_decay=0.1)
    )


@pytest.mark.parametrize(("scheduled", "compiled"), [(False, False), (True, False), (True, True)])
def test_a_route_is_a_multi_optimizer_of_its_rules(compiled, scheduled):
    lr = SCHEDULES["cosine"] if scheduled else LR
    rule = routed(lr, lr)
    models = Model(), Model()
    one = adapter.bind(rule)
    several = optimizers.MultiOptimizer(list(map(adapter.bind, rule.branches)), [matrices])
    losses = [
        train(model, optimizer, compiled=compiled)
        for model, optimizer in zip(models, (one, several), strict=True)
    ]
    assert_equal(losses[0], losses[1])
    assert_equal(models[0].parameters(), models[1].parameters())
    states = [flat(each) for each in several.state["states"]]
    kept = {path: value for state in states for path, value in state.items()}
    del kept["learning_rate"]
    assert_equal(one.state, utils.tree_unflatten(list(kept.items())))


def test_a_route_continues_from_a_file(tmp_path):
    models = Model(mx.float32), Model(mx.float32)
    built = [adapter.bind(routed(), execution="reference") for _ in models]
    train(models[0], built[0], range(10))
    models[1].update(copied(models[0].parameters()))
    built[1].state = saved_and_loaded(built[0].state, tmp_path)
    for model, optimizer in zip(models, built, strict=True):
        train(model, optimizer, range(10, 20))
    assert_equal(models[0].parameters(), models[1].parameters())
    assert_equal(built[0].state, built[1].state)


@pytest.mark.parametrize("around", [lambda rule: rule, samestep.Lookahead])
def test_a_route_has_no_learning_rate_of_its_own(around):
    rule = around(routed())
    optimizer, model = adapter.bind(rule, execution="reference"), Model()
    train(model, optimizer, range(2))
    before = copied(optimizer.state)
    message = f"{rule.name}: parameters have several rules, each with its own "
    for name in ("learning_rate", "lr", "betas", "momentum"):
        assert not hasattr(optimizer, name)
        with pytest.raises(AttributeError, match=message + name):
            getattr(optimizer, name)
        with pytest.raises(AttributeError, match=message + name):
            setattr(optimizer, name, 0.5)
    assert_equal(optimizer.state, before)
    assert optimizer.rule == rule


# State.


def saved_and_loaded(state, tmp_path):
    """The state as it comes out of a file."""
    path = str(tmp_path / "state.safetensors")
    mx.save_safetensors(path, flat(state))
    return utils.tree_unflatten(list(mx.load(path).items()))


def built(name):
    """An optimizer for all parameters of the model: where a rule takes some only, with another."""
    rule = typical(getattr(samestep, name))
    return adapter.bind(
        route((Where(min_ndim=rule.min_ndim), rule), samestep.AdamW()), execution="reference"
    )


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_training_continues_from_a_file_as_if_it_had_not_stopped(name, dtype, tmp_path):
    models, both = (Model(dtype), Model(dtype)), (built(name), built(name))
    train(models[0], both[0], range(6))
    models[1].update(copied(models[0].parameters()))
    loaded = saved_and_loaded(both[0].state, tmp_path)
    both[1].state = copied(loaded)
    both[1].init(models[1].trainable_parameters())
    assert_equal(both[1].state, loaded)
    for model, optimizer in zip(models, both, strict=True):
        train(model, optimizer, range(6, 12))
    assert_equal(models[0].parameters(), models[1].parameters())
    assert_equal(both[0].state, both[1].state)


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


@pytest.mark.parametrize("copying", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("name", KINDS)
def test_a_copy_goes_its_own_way(name, copying):
    rule = typical(getattr(samestep, name))
    params = {"layers": [mx.ones((2, 3)), mx.ones((3, 3))]}
    grads = {"layers": [mx.ones((2, 3)), -mx.ones((3, 3))]}
    optimizer = adapter.bind(rule, execution="reference")
    params = optimizer.apply_gradients(grads, params)
    twin = copying(optimizer)
    assert_equal(twin.state, optimizer.state)
    kept = copied(optimizer.state)
    new = twin.apply_gradients(grads, params)
    assert_equal(optimizer.state, kept)
    assert_equal(optimizer.apply_gradients(grads, params), new)
    assert_equal(twin.state, optimizer.state)


# Schedules of every hyperparameter.


def decays(start, end, steps=STEPS):
    """The same line in MLX, in samestep and in Python."""
    return {
        "mlx": optimizers.linear_schedule(start, end, steps),
        "samestep": schedules.Linear(start, end, steps),
        "python": lambda step: start + (end - start) * step / steps,
    }


LINES = {
    "lr": decays(0.01, 0.002),
    "beta1": decays(0.5, 0.9),
    "beta2": decays(0.9, 0.99),
    "eps": decays(1e-2, 1e-4),
    "weight_decay": decays(0.5, 0.0),
}


def adamw_step(t, grad, param, m, v, *, lr, betas, eps, weight_decay):
    """AdamW in NumPy, from the paper: step ``t`` of one parameter."""
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat, v_hat = m / (1 - betas[0] ** (t + 1)), v / (1 - betas[1] ** (t + 1))
    return (1 - lr * weight_decay) * param - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


@pytest.mark.parametrize(
    ("kind", "compiled"),
    [("mlx", False), ("mlx", True), ("samestep", False), ("samestep", True), ("python", False)],
)
def test_every_number_may_be_a_schedule(kind, compiled):
    lr, beta1, beta2, eps, decay = (line[kind] for line in LINES.values())
    optimizer = adapter.AdamW(lr, (beta1, beta2), eps, weight_decay=decay)
    rng = np.random.default_rng(9)
    start = {path: rng.standard_normal(shape) for path, shape in SHAPES.items()}
    params, traces = {path: mx.array(v, mx.float64) for path, v in start.items()}, []
    optimizer.init(params)
    state = [params, optimizer.state]

    def step(grads):
        traces.append(1)
        params.update(optimizer.apply_gradients(grads, params))

    run = mx.compile(step, inputs=state, outputs=state) if compiled else step
    for t in range(STEPS):
        run({path: mx.array(v, mx.float64) for path, v in gradients(t).items()})
        mx.eval(state)
    assert len(traces) == (1 if compiled else STEPS)
    bound = 1e-13 if kind != "mlx" and not compiled else 2e-6  # a schedule in float32
    for path, param in start.items():
        expected = param, 0 * param, 0 * param
        for t in range(STEPS):
            lr, beta1, beta2, eps, decay = (line["python"](t) for line in LINES.values())
            numbers = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
            expected = adamw_step(t, gradients(t)[path], *expected, **numbers)
        moved = np.abs(expected[0] - param).max()
        assert np.abs(np.array(params[path]) - expected[0]).max() <= bound * moved, path


SHAPES = {"w": (4, 3), "b": (4,), "s": ()}


def gradients(t):
    """Gradients that change sign and span decades, some of them exactly zero."""
    rng = np.random.default_rng(100 + t)
    scale = 10.0 ** rng.integers(-3, 2)
    return {
        path: scale * rng.standard_normal(shape) * (rng.random(shape) > 0.2)
        for path, shape in SHAPES.items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_schedule_is_the_number_set_before_every_step(name):
    rule = typical(getattr(samestep, name))
    numbers = {
        field: value
        for field, value in rule.hypers.items()
        if isinstance(value, float) and 0 < value < float("inf") and field in fields(rule)
    }
    assert numbers
    shapes = {"w": (4, 3), "u": (2, 3)}
    for field, value in numbers.items():
        values = [value * (1.0 if t % 2 else 0.875) for t in range(6)]
        changing = rule.replace(**{field: lambda step, values=values: values[step]})
        scheduled, by_hand = (adapter.bind(r, execution="reference") for r in (changing, rule))
        ours = theirs = {path: mx.ones(shape) for path, shape in shapes.items()}
        for t in range(6):
            rng = np.random.default_rng(t)
            grads = {p: mx.array(rng.standard_normal(s).astype("f")) for p, s in shapes.items()}
            setattr(by_hand, field, values[t])
            ours = scheduled.apply_gradients(grads, ours)
            theirs = by_hand.apply_gradients(grads, theirs)
            assert_equal(ours, theirs)


def fields(rule):
    """The fields that may be scheduled."""
    return {n for n, f in rule.all_fields().items() if hasattr(f, "unit")}


# Narrow parameters.


PRECISION = {"bfloat16": 8, "float16": 11}
SMALLEST = {"bfloat16": 2.0**-133, "float16": 2.0**-24}


def assert_rounded(array, exact, narrow):
    """Half a unit in the last place, and what float32 may have been wrong by before that."""
    exact = np.asarray(exact)
    _, exponent = np.frexp(exact)
    unit = np.maximum(2.0 ** (exponent - PRECISION[narrow]), SMALLEST[narrow])
    assert (np.abs(wide(array) - exact) <= unit * (0.5 + 2.0**-9)).all()


def wide(array):
    return np.array(array.astype(mx.float32), np.float64)


@pytest.mark.parametrize(("stored", "compiled"), [(None, False), (None, True), ("float32", False)])
@pytest.mark.parametrize("narrow", PRECISION)
def test_every_step_of_narrow_parameters_is_the_float64_step_rounded(narrow, stored, compiled):
    hypers = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": 0.1}
    optimizer = adapter.AdamW(**hypers, state_dtype=stored)
    dtype = getattr(mx, narrow)
    rng = np.random.default_rng(2)
    params = {path: mx.array(rng.standard_normal(s)).astype(dtype) for path, s in SHAPES.items()}
    optimizer.init(params)
    state = [params, optimizer.state]

    def step(grads):
        params.update(optimizer.apply_gradients(grads, params))

    run = mx.compile(step, inputs=state, outputs=state) if compiled else step
    for t in range(STEPS):
        grads = {path: mx.array(g).astype(dtype) for path, g in gradients(t).items()}
        before = {
            path: (wide(p), *map(wide, optimizer.state[path].values()))
            for path, p in params.items()
        }
        assert all(list(optimizer.state[path]) == ["m", "v"] for path in params)
        run(grads)
        mx.eval(state)
        for path, (param, m, v) in before.items():
            expected = adamw_step(t, wide(grads[path]), param, m, v, **hypers)
            for array, exact in zip(
                (params[path], *optimizer.state[path].values()), expected, strict=True
            ):
                kept = narrow if stored is None or array is params[path] else stored
                assert array.dtype == getattr(mx, kept)
                if kept == narrow:
                    assert_rounded(array, exact, narrow)
                else:
                    assert np.abs(wide(array) - exact).max() <= 1e-6 * np.abs(exact).max()


# What is refused.


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("name", ["step", "learning_rate", "shared_state"])
def test_a_parameter_called_like_an_entry_of_the_state_is_refused_by_name(name, below):
    """MLX's own optimizers fail on it without a word of the name."""
    params = {"a": mx.ones(2), name: {"w": mx.ones(2)} if below else mx.ones(2)}
    path = f"{name}.w" if below else name
    message = f"AdamW: parameter '{path}' would share the name '{name}' with an entry of the opt"
    optimizer = adapter.AdamW()
    before = copied(optimizer.state)
    for refused in (optimizer.init, lambda params: optimizer.apply_gradients(params, params)):
        with pytest.raises(ValueError, match=message):
            refused(params)
    assert_equal(optimizer.state, before)
    deeper = optimizer.apply_gradients({"model": params}, {"model": params})
    renamed = {"a": params["a"], "other": params[name]}
    other = adapter.AdamW().apply_gradients(renamed, renamed)
    assert_equal(deeper["model"][name], other["other"])


def test_what_is_called_like_an_entry_of_the_state_may_be_frozen():
    model = nn.Sequential(nn.Linear(2, 2))
    model.step = mx.array(0.0)
    model.shared_state = nn.Linear(2, 2)
    model.freeze(keys=["step"], recurse=False)
    model.shared_state.freeze()
    optimizer = adapter.AdamW()
    optimizer.init(model.trainable_parameters())
    before = mx.array(model.layers[0].weight)
    _, grads = nn.value_and_grad(model, lambda x: model(x).sum())(mx.ones((1, 2)))
    optimizer.update(model, grads)
    assert not mx.array_equal(model.layers[0].weight, before)
    assert optimizer.step.item() == 1 and "shared_state" not in optimizer.state


@pytest.mark.parametrize(
    ("state", "params", "error", "message"),
    [
        ({}, [mx.ones(2)], TypeError, "AdamW: the parameters are list; MLX keeps state by name"),
        ({}, mx.ones(2), TypeError, "AdamW: the parameters are array; MLX keeps state by name"),
        (
            {"w": {"m": mx.ones(2)}},
            {"w": [mx.ones(2)]},
            ValueError,
            "AdamW: the state of 'w' is dict, where a list belongs; was it made for other",
        ),
        (
            {"w": {"b": mx.ones(2)}},
            {"w": {"b": mx.ones(2)}},
            ValueError,
            "AdamW: the state of 'w.b' is array, where a dict belongs; was it made for other",
        ),
        (
            {"w": {"m": mx.ones(2)}},
            {"w": mx.ones(2)},
            ValueError,
            "AdamW: the state of 'w' has slots m; AdamW keeps m, v",
        ),
        (
            {"step": None},
            {"w": mx.ones(2)},
            ValueError,
            "AdamW: the state has no step; it has learning_rate",
        ),
        (
            {},
            {"w": mx.ones(2, mx.complex64)},
            TypeError,
            "AdamW: parameter 'w' has dtype mlx.core.complex64; allowed: bfloat16, float16",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(state, params, error, message):
    optimizer = adapter.AdamW()
    whole = {**optimizer.state, **state}
    optimizer.state = {name: value for name, value in whole.items() if value is not None}
    before = copied(optimizer.state)
    with pytest.raises(error, match=message):
        optimizer.apply_gradients(utils.tree_map(mx.ones_like, params), params)
    assert_equal(optimizer.state, before)


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
def test_a_schedule_that_fails_leaves_the_state_as_it_was(field):
    optimizer = adapter.AdamW(**{field: lambda step: 0.1 if step < 3 else -0.5})
    params = {"w": mx.ones(2)}
    for _ in range(3):
        params = optimizer.apply_gradients({"w": mx.ones(2)}, params)
    before = copied(optimizer.state)
    grads = {"w": mx.ones(2), "new": mx.ones(2)}
    with pytest.raises(ValueError, match=rf"AdamW\({field}=-0.5\).*gave it for step 3"):
        optimizer.apply_gradients(grads, {**params, "new": mx.ones(2)})
    assert_equal(optimizer.state, before)
    rule = optimizer.rule
    with pytest.raises(ValueError, match=r"AdamW\(lr=-1.0\).*gave it for step 3"):
        optimizer.learning_rate = lambda step: -1.0 if step else 1.0
    assert_equal(optimizer.state, before)
    assert optimizer.rule is rule
    optimizer.weight_decay = optimizer.lr = 0.1
    assert optimizer.apply_gradients({"w": mx.ones(2)}, params).keys() == {"w"}


class NoThrees(samestep.AdamW, register=False):
    """A rule that fails in the middle of a step."""

    def direction(self, xp, grad, param, state, s):
        if grad.shape == (3,):
            raise ValueError("no vectors of three")
        return super().direction(xp, grad, param, state, s)


def test_a_rule_that_fails_in_the_middle_leaves_the_state_as_it_was():
    optimizer = adapter.bind(NoThrees(lr=lambda step: 0.1 / (1 + step)), execution="reference")
    params = {"a": mx.ones(2)}
    params = optimizer.apply_gradients({"a": mx.ones(2)}, params)
    before = copied(optimizer.state)
    grads = {"a": mx.ones(2), "b": mx.ones(3)}
    with pytest.raises(ValueError, match="no vectors of three"):
        optimizer.apply_gradients(grads, {**params, "b": mx.ones(3)})
    assert_equal(optimizer.state, before)


# Examples.


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
