"""Averages of the parameters, beside those of the libraries, and how they are swapped in."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy
import pytest

import samestep
from samestep import SGD, AdamW, Average, Where, route
from samestep.conformance.peers import FLOAT64, agree
from samestep.conformance.references import follow_reference
from samestep.conformance.rules.test_preparation import (
    PLAIN,
    SHAPES,
    TRAJECTORY,
    assert_close,
    assert_same,
    everywhere,
    followed,
)
from samestep.parity import follow, oracle, record
from samestep.parity.backend import Backend, backends


def averages_of_torch(make, steps, first=0):
    """Averages of what the plain rule computes, by torch's AveragedModel."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(7, 5).double()
    trajectory = record(3, steps, {"weight": (5, 7), "bias": (5,)}, decades=(-2, 1))
    snapshots, taken = oracle(PLAIN, trajectory), []
    model.load_state_dict({p: torch.tensor(a) for p, a in trajectory.params.items()})
    averaged = make(torch.optim.swa_utils, model)
    for step, snapshot in enumerate(snapshots[1:]):
        model.load_state_dict({p: torch.tensor(snapshot["param", p]) for p in trajectory.params})
        if step >= first:
            averaged.update_parameters(model)
        named = averaged.module.state_dict().items()
        taken.append({("average", name): value.numpy().copy() for name, value in named})
    return trajectory, taken


@pytest.mark.parametrize(
    ("rule", "make", "first"),
    [
        (
            Average(PLAIN, average_decay=0.9, average_start=1),
            lambda swa, model: swa.AveragedModel(
                model, multi_avg_fn=swa.get_ema_multi_avg_fn(decay=0.9)
            ),
            0,
        ),
        (Average(PLAIN, averaging="equal"), lambda swa, model: swa.AveragedModel(model), 0),
        (
            Average(PLAIN, averaging="equal", average_start=10),
            lambda swa, model: swa.AveragedModel(model),
            10,
        ),
    ],
    ids=["ema", "swa", "swa-late"],
)
def test_averages_are_those_of_torch_s_averaged_model(rule, make, first):
    trajectory, theirs = averages_of_torch(make, 40, first)
    ours = oracle(rule, trajectory)[1:]
    for snapshot in ours[:first]:
        numpy.testing.assert_array_equal(snapshot["average", "bias"], snapshot["param", "bias"])
    assert_close(ours[first:], theirs[first:], 1e-13)


def test_averages_are_those_of_optax():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    snapshots, theirs = oracle(PLAIN, TRAJECTORY), {"ema": [], "debiased": []}
    with jax.enable_x64(True):
        debiased = optax.ema(0.9, debias=True)
        average = {path: jax.numpy.asarray(array) for path, array in TRAJECTORY.params.items()}
        state = debiased.init(average)
        for snapshot in snapshots[1:]:
            params = {path: jax.numpy.asarray(snapshot["param", path]) for path in SHAPES}
            average = optax.incremental_update(params, average, 0.1)
            without_bias, state = debiased.update(params, state)
            for form, found in (("ema", average), ("debiased", without_bias)):
                theirs[form].append({("average", p): numpy.asarray(a) for p, a in found.items()})
    for form, expected in theirs.items():
        ours = oracle(Average(PLAIN, average_decay=0.9, averaging=form), TRAJECTORY)
        assert_close(ours[1:], expected, 1e-13)


def warming(step):
    return (1 + step) / (10 + step)


@everywhere
def test_the_decay_of_an_average_may_be_a_schedule(on):
    """Of the form that many warm up with."""
    found = followed(Average(PLAIN, average_decay=warming), on)
    average = dict(TRAJECTORY.rounded("float32").params)
    for step, snapshot in enumerate(found[1:]):
        decay = warming(step)
        for path in SHAPES:
            average[path] = decay * average[path] + (1 - decay) * snapshot["param", path]
            size = max(numpy.abs(average[path]).max(), 1e-2)
            assert numpy.abs(snapshot["average", path] - average[path]).max() <= 1e-5 * size


@pytest.mark.parametrize("form", ["ema", "debiased", "equal"])
@everywhere
def test_averaging_changes_nothing_but_the_average(form, on):
    found = followed(Average(PLAIN, averaging=form, average_start=5), on)
    for ours, theirs in zip(found, followed(PLAIN, on), strict=True):
        if on.exact == "bound":  # XLA contracts another program otherwise
            assert_close([ours], [theirs], 1e-5)
        else:
            assert_same({key: ours[key] for key in theirs}, theirs)
    for snapshot in found[1:6]:
        for path in SHAPES:
            difference = snapshot["average", path] - snapshot["param", path]
            assert numpy.abs(difference).max() <= 1e-6 * numpy.abs(snapshot["param", path]).max()


def test_an_average_in_a_wider_dtype_than_its_parameter_does_not_stand_still():
    torch, adapter = pytest.importorskip("torch"), pytest.importorskip("samestep.torch")
    for dtype, moves in ((None, False), ("float32", True)):
        param = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        rule = Average(SGD(lr=0.5), average_decay=0.9999, average_dtype=dtype)
        optimizer = adapter.bind(rule, [param])
        for _ in range(20):
            param.grad = torch.ones_like(param)
            optimizer.step()
        average = optimizer.state[param]["average"]
        assert (average != 1).all() == moves


MODEL = {"encoder": {"w": numpy.ones((3, 2), "float32")}, "b": [numpy.zeros(3, "float32")]}


def test_averaged_gives_a_tree_like_the_parameters_and_in_their_dtypes():
    rule = route((Where(path="encoder.*"), Average(SGD(lr=0.5), average_decay=0.5)), AdamW(lr=0.1))
    state = rule.init(MODEL)
    params, state = rule.update(MODEL, MODEL, state)
    found = samestep.averaged(rule, params, state)
    numpy.testing.assert_allclose(found["encoder"]["w"], 0.75)
    assert found["encoder"]["w"].dtype == numpy.float32
    assert found["b"][0] is params["b"][0]
    with pytest.raises(ValueError, match=re.escape("averaged: AdamW() keeps no average; make it")):
        samestep.averaged(AdamW(), MODEL, AdamW().init(MODEL))


AVERAGING = [
    samestep.ScheduleFreeAdamW(lr=0.1, weight_decay=0.1),
    samestep.ScheduleFree(SGD(lr=0.1), toward=0.5),
    samestep.GPAAdamW(lr=0.1, mu_x=0.5),
    Average(AdamW(lr=0.1), average_decay=0.5),
    route((Where(ndim=2), samestep.ScheduleFreeSGD(lr=0.1)), AdamW(lr=0.1)),
]


@pytest.mark.parametrize("rule", AVERAGING, ids=lambda rule: rule.name)
def test_evaluating_in_torch_and_back(rule, tmp_path):
    """Exactly, from a state that was saved and loaded too, and with no step in between."""
    torch, adapter = pytest.importorskip("torch"), pytest.importorskip("samestep.torch")
    torch.manual_seed(0)

    def made():
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        return model, adapter.bind(rule, model.named_parameters())

    def step(model, optimizer):
        optimizer.zero_grad()
        model(data).square().sum().backward()
        optimizer.step()

    def values(model):
        return {name: value.detach().clone() for name, value in model.named_parameters()}

    (model, optimizer), (other, second), data = made(), made(), torch.randn(8, 3)
    for _ in range(3):
        step(model, optimizer)
    trained = values(model)
    tree, states = {n: p.numpy() for n, p in trained.items()}, optimizer.state
    slots = {
        slot: {n: s[slot].numpy() for n, p in model.named_parameters() if slot in (s := states[p])}
        for slot in rule.slots()
    }
    expected = samestep.averaged(rule, tree, samestep.rule.State(3, slots, {}))
    optimizer.eval()
    optimizer.eval()
    found = values(model)
    for name, value in expected.items():
        numpy.testing.assert_array_equal(found[name].numpy(), value)
    assert any(not torch.equal(found[name], trained[name]) for name in found)
    with pytest.raises(RuntimeError, match=r"is being evaluated.*call optimizer\.train\(\)"):
        step(model, optimizer)
    other.load_state_dict(model.state_dict())
    second.load_state_dict(deepcopy(optimizer.state_dict()))
    with pytest.raises(RuntimeError, match="is being evaluated"):
        second.step()
    samestep.save(tmp_path / "run", optimizer, model)
    (third, loading) = made()
    loading.eval()
    samestep.load(tmp_path / "run", loading, third)
    assert samestep.checkpoint(loading, third).point == "training"
    for own in (optimizer, second):
        own.train()
    pairs = [(model, optimizer), (other, second), (third, loading)]
    for at in range(2):
        expected = (trained, values(model))[at]
        for own, _ in pairs:
            for name, value in values(own).items():
                assert torch.equal(value, expected[name])
        for pair in pairs:
            step(*pair)


def test_a_rule_that_evaluates_at_its_parameters_says_so():
    torch, adapter = pytest.importorskip("torch"), pytest.importorskip("samestep.torch")
    optimizer = adapter.AdamW([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match=r"at its parameters.*Average\(AdamW"):
        optimizer.eval()
    optimizer.train()


def test_the_tensors_of_the_model_itself_are_restored():
    """``assign`` writes into what it was given: a state dict, arrays of NumPy, variables of NNX."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    zeros = {name: torch.zeros_like(value) for name, value in before.items()}
    for params in (model.state_dict(), dict(model.named_parameters())):
        with samestep.swapped(model.load_state_dict, params, zeros):
            assert not model.weight.any()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    array = numpy.ones(3)
    with samestep.swapped(
        lambda tree: numpy.copyto(array, tree["w"][0]), {"w": [array]}, {"w": [0]}
    ):
        assert not array.any()
    assert array.all()


def test_what_has_no_averages_is_said():
    rule = Average(AdamW())
    with pytest.raises(TypeError, match=r"is dict; .*optimizer\.state of MLX.*optimizer\.eval"):
        samestep.averaged(rule, MODEL, {"average": MODEL})
    with pytest.raises(TypeError, match=r"the state is NoneType"):
        samestep.averaged(rule, MODEL, None)
    with pytest.raises(ValueError, match=r"the state has slots m, v; Average keeps average, m, v"):
        samestep.averaged(rule, MODEL, AdamW().init(MODEL))
    with pytest.raises(TypeError, match=r"parameter 'a' is object; .*samestep\.jax\.averaged"):
        samestep.averaged(rule, {"a": object()}, rule.init(MODEL))


def test_what_assigning_averages_left_half_done_is_undone():
    model = {"a": 1, "b": 2}

    def assign(values):
        for name, value in values.items():
            if value is None:
                raise KeyError(name)
            model[name] = value

    with pytest.raises(KeyError), samestep.swapped(assign, dict(model), {"a": 5, "b": None}):
        raise AssertionError
    assert model == {"a": 1, "b": 2}


def test_averages_of_a_pytree_of_a_class():
    """JAX knows what is in it; some of it is not averaged, and the dtype is the parameter's."""
    jax, adapter = pytest.importorskip("jax"), pytest.importorskip("samestep.jax")

    @partial(jax.tree_util.register_dataclass, data_fields=["w", "b"], meta_fields=[])
    @dataclass
    class Layer:
        w: object
        b: object

    averages = Average(SGD(lr=0.5), average_decay=0.5, average_dtype="float32")
    optimizer = adapter.bind(route((Where(ndim=2), averages), AdamW(lr=0.1)))
    params = [Layer(jax.numpy.ones((3, 2), jax.numpy.bfloat16), jax.numpy.ones(2))]
    state = optimizer.init(params)
    updates, state = jax.jit(optimizer.update)(params, state, params)
    params = jax.tree.map(jax.numpy.add, params, updates)
    found = adapter.averaged(optimizer.rule, params, state)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    assert found[0].w.dtype == params[0].w.dtype and found[0].b is params[0].b
    numpy.testing.assert_allclose(found[0].w.astype("float32"), 0.75)
    with pytest.raises(ValueError, match="slot average of the state is not that of the param"):
        adapter.averaged(optimizer.rule, params[0], state)
    with pytest.raises(TypeError, match="parameter '0' is Layer"):
        samestep.averaged(optimizer.rule, params, state)


def test_swapping_in_jax_is_another_tree():
    jax, adapter = pytest.importorskip("jax"), pytest.importorskip("samestep.jax")
    rule = Average(AdamW(lr=0.1), average_decay=0.5)
    optimizer, params = adapter.bind(rule), jax.tree.map(jax.numpy.asarray, MODEL)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(params, state, params)
        params = jax.tree.map(jax.numpy.add, params, updates)
        return params, state, samestep.averaged(rule, params, state)

    expected = MODEL["encoder"]["w"]
    for _ in range(3):
        params, state, averages = step(params, state)
        expected = 0.5 * expected + 0.5 * numpy.asarray(params["encoder"]["w"])
    assert jax.tree.structure(averages) == jax.tree.structure(params)
    numpy.testing.assert_allclose(averages["encoder"]["w"], expected, rtol=1e-6)


def test_swapping_in_mlx_and_back_after_an_exception():
    mx, nn = pytest.importorskip("mlx.core"), pytest.importorskip("mlx.nn")
    adapter = pytest.importorskip("samestep.mlx")
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    optimizer = adapter.bind(Average(AdamW(lr=0.1), average_decay=0.5))
    data = mx.ones((4, 3))
    slope = nn.value_and_grad(model, lambda model, x: model(x).square().sum())
    for _ in range(3):
        optimizer.update(model, slope(model, data)[1])
    params = model.parameters()
    averages = samestep.averaged(optimizer.rule, params, optimizer.state)
    kept = optimizer.state["layers"][0]["weight"]["average"]
    assert mx.array_equal(averages["layers"][0]["weight"], kept)
    before = model(data)
    with pytest.raises(KeyError), samestep.swapped(model.update, params, averages):
        inside = model(data)
        raise KeyError
    assert mx.array_equal(model(data), before) and not mx.array_equal(inside, before)


@pytest.mark.parametrize("name", ["numpy", "torch (packed)", "optax", "mlx"])
def test_schedule_free_goes_around_prodigy(name):
    """The step size that Prodigy finds moves z, and weighs it in the average."""
    backend = backends()[name]
    if not isinstance(backend, Backend):
        pytest.skip(f"{name} is not installed")
    recorded = record(3, 20, {"matrix": (4, 3), "bias": (5,)}, decades=(-2, 1))
    onward = [{path: 1 + 0.1 * g for path, g in grads.items()} for grads in recorded.grads]
    trajectory = replace(recorded, grads=onward)
    found = samestep.Prodigy(lr=1.0, betas=(0.0, 0.99), weight_decay=0.1, d0=1e-3, growth_rate=1.3)
    rule = samestep.ScheduleFree(found)
    expected = follow_reference(rule, trajectory)
    assert expected[-1]["d", ""] > 100 * found.d0
    run = backend.start(rule, trajectory.params, "float64")
    agree(follow(run, backend, trajectory), expected, FLOAT64)


def test_the_point_of_a_stack_is_that_of_its_layers():
    class First(samestep.Rule, register=False):
        needs, min_ndim = "axes", 2
        lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
        seen = samestep.slot("the last gradient")

        def direction(self, xp, grad, param, state, s):
            return grad, {"seen": grad}

        def point(self, param, state):
            return state.seen / state.seen[0]

    layers, grads = numpy.ones((3, 4, 2)), numpy.arange(1.0, 25.0).reshape(3, 4, 2)
    rule, one = First(layout="oi", batch_axes=0), First(layout="oi")
    stack, state = rule.update(grads, layers, rule.init(layers))
    found = samestep.averaged(rule, stack, state)
    for at, layer in enumerate(grads):
        param, own = one.update(layer, layers[at], one.init(layers[at]))
        assert numpy.array_equal(found[at], samestep.averaged(one, param, own))


@pytest.mark.parametrize(
    ("cls", "name", "values"),
    [
        (samestep.ScheduleFreeAdamW, "betas", ((0.9, 0.999), (0.5, 0.999))),
        (samestep.ScheduleFreeRAdam, "weight_power", (0.0, 1.0)),
        (samestep.ScheduleFreeSGD, "momentum", (0.9, 0.5)),
        (samestep.GPAAdamW, "mu_y", (0.9, 0.5)),
        (partial(samestep.ScheduleFree, SGD()), "toward", (0.9, 0.5)),
    ],
)
def test_what_the_point_is_computed_with_may_not_change(cls, name, values):
    """It was made with the number of before, and would be elsewhere with the new one."""
    first, other = values
    words = rf"{name}(\.0)? .*may not change in a training"
    changing = (lambda step: 0.5, 0.9) if isinstance(first, tuple) else lambda step: 0.5
    with pytest.raises(ValueError, match=words):
        cls(**{name: changing})
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = samestep.torch.bind(cls(**{name: first}), [param])
    for value in (first, first, other):
        param.grad = torch.ones(3)
        optimizer.param_groups[0][name] = value
        if value is other:
            with pytest.raises(ValueError, match=words):
                optimizer.step()
        else:
            optimizer.step()
    mx = pytest.importorskip("mlx.core")
    optimizer = samestep.mlx.bind(cls(**{name: first}))
    optimizer.apply_gradients({"w": mx.ones(3)}, {"w": mx.ones(3)})
    with pytest.raises(ValueError, match=words):
        setattr(optimizer, name, other)
