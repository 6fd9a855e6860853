"""Gradient preparation and averaging, beside the libraries' own functions and around each other.

What a library does to gradients is done by its own function, by hand, before every step of the
plain rule; our wrapper around the rule must come to the same parameters and state, in every
framework and over many steps.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType

import numpy
import pytest

import samestep
from samestep import (
    SGD,
    Accumulate,
    AdamW,
    AdaptiveClip,
    Average,
    Cautious,
    Centralize,
    ClipGlobalNorm,
    ClipNorm,
    ClipValue,
    Lion,
    Lookahead,
    Muon,
    Prodigy,
    Scout,
    SkipNonFinite,
    Where,
    route,
    schedules,
)
from samestep.conformance.references import follow_reference
from samestep.parity import Trajectory, follow, oracle, record
from samestep.parity.backend import NUMPY, Backend, backends

SHAPES = {"scale": (), "bias": (6,), "weight": (5, 7), "kernel": (4, 3, 2, 2)}
PLAIN = SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
"""Its steps are as long as its gradients, so that a wrong factor shows."""
TRAJECTORY = record(seed=5, steps=36, shapes=SHAPES, decades=(-3, 1))
BACKENDS = [
    found
    for name in ("numpy", "torch (packed)", "jax.jit", "mx.compile (state)")
    if isinstance(found := backends().get(name), Backend)
]
"""The executions that users have in each framework."""
BITS = 1e-12
"""Of the largest value so far: what float64 leaves of two orders of one computation."""

everywhere = pytest.mark.parametrize("on", BACKENDS, ids=lambda backend: backend.name)


def by_hand(rule, backend, trajectory, prepare, dtype="float32"):
    """Snapshots of the plain rule, given gradients that a function has prepared in float64."""
    run = backend.start(rule, trajectory.params, dtype)
    taken = [backend.snapshot(run)]
    for grads in trajectory.grads:
        params = {path: backend.numpy(array) for path, array in run.params().items()}
        run.step(prepare(params, grads))
        taken.append(backend.snapshot(run))
    return taken


def followed(rule, backend, trajectory=TRAJECTORY, dtype="float32"):
    return follow(backend.start(rule, trajectory.params, dtype), backend, trajectory.rounded(dtype))


def assert_close(found, expected, tolerance):
    """Every value that is expected is found, to a share of the largest in its array so far."""
    largest = {}
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for key, value in theirs.items():
            size = numpy.abs(value).max(initial=0.0)
            largest[key] = max(size, largest.get(key, 0.0))
            error = numpy.abs(ours[key] - value).max(initial=0.0)
            assert error <= tolerance * largest[key], f"{key} after step {step}: {error}"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        numpy.testing.assert_array_equal(found[key], value, err_msg=str(key))


# The libraries' own functions, on NumPy arrays of float64 by path.


@cache
def of_timm(name: str) -> ModuleType:
    """A module of timm by itself: the package around it needs torchvision."""
    found = find_spec("timm")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("timm is not installed")
    package, _, module = name.rpartition(".")
    alone = ModuleType(f"_timm_{package}")
    alone.__path__ = [str(Path(found.submodule_search_locations[0]) / package)]
    sys.modules[alone.__name__] = alone
    return import_module(f"{alone.__name__}.{module}")


def of_torch(clip):
    """``clip(torch, parameters)`` changes the gradients of parameters in place."""
    torch = pytest.importorskip("torch")

    def prepare(params, grads):
        tensors = {path: torch.nn.Parameter(torch.tensor(p)) for path, p in params.items()}
        for path, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[path])
        clip(torch, list(tensors.values()))
        return {path: tensor.grad.numpy() for path, tensor in tensors.items()}

    return prepare


def of_optax(make, alone=False):
    """A transformation of optax without state; of every parameter by itself if ``alone``."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    transformation = make(optax)

    def updated(params, grads):
        state = transformation.init(params)
        return transformation.update(grads, state, params)[0]

    def prepare(params, grads):
        with jax.enable_x64(True):
            params, grads = (
                {path: jax.numpy.asarray(array) for path, array in arrays.items()}
                for arrays in (params, grads)
            )
            if alone:
                updates = {path: updated(params[path], grads[path]) for path in params}
            else:
                updates = updated(params, grads)
            return {path: numpy.asarray(array) for path, array in updates.items()}

    return prepare


def of_mlx():
    mx, optimizers = pytest.importorskip("mlx.core"), pytest.importorskip("mlx.optimizers")

    def prepare(params, grads):
        with mx.stream(mx.cpu):
            tree = {path: mx.array(grad, mx.float64) for path, grad in grads.items()}
            clipped, _ = optimizers.clip_grad_norm(tree, max_norm=0.5)
            return {path: numpy.array(grad) for path, grad in clipped.items()}

    return prepare


def of_samestep():
    return lambda params, grads: samestep.clip_grads(grads, 0.5)


OWN = {
    "value-torch": (
        partial(ClipValue, max_value=0.1, like="torch"),
        lambda: of_torch(lambda torch, p: torch.nn.utils.clip_grad_value_(p, 0.1)),
    ),
    "value-optax": (
        partial(ClipValue, max_value=0.1, like="optax"),
        lambda: of_optax(lambda optax: optax.clip(0.1)),
    ),
    "norm-optax": (
        partial(ClipNorm, clip_norm=0.2),
        lambda: of_optax(lambda optax: optax.clip_by_global_norm(0.2), alone=True),
    ),
    "global-torch": (
        partial(ClipGlobalNorm, max_norm=0.5, like="torch"),
        lambda: of_torch(lambda torch, p: torch.nn.utils.clip_grad_norm_(p, 0.5)),
    ),
    "global-mlx": (partial(ClipGlobalNorm, max_norm=0.5, norm_eps=1e-6), of_mlx),
    "global-optax": (
        partial(ClipGlobalNorm, max_norm=0.5, like="optax"),
        lambda: of_optax(lambda optax: optax.clip_by_global_norm(0.5)),
    ),
    "global-samestep": (partial(ClipGlobalNorm, max_norm=0.5), of_samestep),
    "adaptive-timm": (
        partial(AdaptiveClip, clipping=0.1, min_norm=0.01),
        lambda: of_torch(lambda _, p: of_timm("utils.agc").adaptive_clip_grad(p, 0.1, 0.01)),
    ),
    "adaptive-optax": (
        partial(AdaptiveClip, clipping=0.1, min_norm=0.01, clip_layout="io"),
        lambda: of_optax(lambda optax: optax.adaptive_grad_clip(0.1, 0.01)),
    ),
    "centralize-optax": (
        partial(Centralize, like="optax"),
        lambda: of_optax(lambda optax: optax.centralize()),
    ),
}


@cache
def of_library(case):
    """What the plain rule comes to in float64, on gradients that the library has prepared."""
    return by_hand(PLAIN, NUMPY, TRAJECTORY.rounded("float32"), OWN[case][1](), "float64")


@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize(
    "on",
    [
        pytest.param(on, id=on.name, marks=pytest.mark.thorough if on.slow else ())
        for on in BACKENDS
    ],
)
def test_a_wrapper_does_what_the_library_s_function_does_before_the_plain_rule(case, on):
    assert_close(followed(OWN[case][0](PLAIN), on), of_library(case), 1e-5)


@pytest.mark.parametrize("case", OWN)
def test_it_does_so_to_the_last_digits_of_float64(case):
    wrap, own = OWN[case]
    prepare = own()
    changed = [
        any((new[path] != grad).any() for path, grad in grads.items())
        for grads in TRAJECTORY.grads
        if (new := prepare(TRAJECTORY.params, grads))
    ]
    assert any(changed)
    if "global" in case:
        assert not all(changed)
    for rule in (PLAIN, PLAIN.replace(maximize=True, decay="l2"), AdamW(lr=0.01, weight_decay=0.1)):
        found = followed(wrap(rule), NUMPY, dtype="float64")
        assert_close(found, by_hand(rule, NUMPY, TRAJECTORY, prepare, "float64"), BITS)


def test_torch_s_form_shrinks_what_has_exactly_the_largest_norm_and_optax_s_does_not():
    grad = numpy.array([3.0, 4.0])
    for like, factor in (("torch", 5 / (5 + 1e-6)), ("optax", 1.0)):
        rule = ClipGlobalNorm(SGD(lr=1.0), max_norm=5.0, like=like)
        param, _ = rule.update(grad, numpy.zeros(2), rule.init(grad))
        numpy.testing.assert_allclose(param, -factor * grad, rtol=1e-15)


def test_optax_takes_three_axes_and_single_ones_otherwise_as_the_docstring_says():
    shapes = {"three": (3, 4, 5), "row": (1, 6)}
    trajectory = record(seed=2, steps=4, shapes=shapes, decades=(-1, 1))
    prepare = of_optax(lambda optax: optax.adaptive_grad_clip(0.1, 0.01))
    theirs = prepare(trajectory.params, trajectory.grads[0])
    rule = AdaptiveClip(SGD(lr=1.0), clipping=0.1, min_norm=0.01, clip_layout="io")
    new, _ = rule.update(trajectory.grads[0], trajectory.params, rule.init(trajectory.params))
    for path, param in trajectory.params.items():
        assert not numpy.allclose(param - new[path], theirs[path])


@pytest.mark.parametrize("name", ["AdaptiveClip", "Centralize"])
def test_layouts_name_the_output_axis(name):
    tall = record(seed=5, steps=12, shapes={"w": (6, 5, 3, 3)}, decades=(-2, 1))
    last = Trajectory(
        {"w": numpy.moveaxis(tall.params["w"], 0, -1)},
        [{"w": numpy.moveaxis(g["w"], 0, -1)} for g in tall.grads],
    )
    field = {"AdaptiveClip": "clip_layout", "Centralize": "center_layout"}[name]
    wrap = getattr(samestep, name)
    first, moved = (
        oracle(wrap(PLAIN, **{field: layout}), given)[-1]["param", "w"]
        for layout, given in (("oi", tall), ("io", last))
    )
    numpy.testing.assert_allclose(numpy.moveaxis(moved, -1, 0), first, rtol=1e-13, atol=1e-15)


# Accumulation.


FALLING = AdamW(lr=schedules.ExponentialDecay(0.05, 4, 0.5), weight_decay=0.1)


@everywhere
def test_accumulation_moves_nothing_between_steps_and_counts_its_own_steps_only(on):
    """Bias corrections and the schedule are those of the plain rule on the means."""
    found = followed(Accumulate(FALLING, every=3), on)
    for step, (before, after) in enumerate(pairwise(found), 1):
        kept = {key: value for key, value in after.items() if key[0] != "accumulated"}
        moved = [key for key, value in kept.items() if (value != before[key]).any()]
        assert bool(moved) == (step % 3 == 0), moved
    means = [
        {path: sum(step[path] for step in three) / 3 for path in SHAPES}
        for three in zip(*[iter(TRAJECTORY.rounded("float32").grads)] * 3, strict=True)
    ]
    plain = followed(FALLING, on, Trajectory(TRAJECTORY.params, means))
    assert_close(found[::3], plain, 1e-5)


def test_a_rule_that_sums_over_all_parameters_accumulates_too():
    prodigy = Prodigy(d0=1e-3, weight_decay=0.1)
    found = oracle(Accumulate(prodigy, every=2), TRAJECTORY)
    for before, after in pairwise(found[::2]):
        assert (before["d", ""], before["s", "bias"].tolist()) != (
            after["d", ""],
            after["s", "bias"].tolist(),
        )
    for before, between in zip(found[::2], found[1::2], strict=False):
        changed = {key for key in before if (before[key] != between[key]).any()}
        assert {slot for slot, _ in changed} <= {"accumulated"}
    means = [
        {path: (one[path] + two[path]) / 2 for path in SHAPES}
        for one, two in zip(TRAJECTORY.grads[::2], TRAJECTORY.grads[1::2], strict=True)
    ]
    assert_close(found[::2], oracle(prodigy, Trajectory(TRAJECTORY.params, means)), 1e-9)


# Skipping.


BAD = {3: numpy.nan, 4: numpy.inf, 11: -numpy.inf, 30: numpy.nan}
"""What is put into one element of one gradient, by step."""


def spoilt(trajectory=TRAJECTORY):
    grads = [{p: numpy.array(grad) for p, grad in step.items()} for step in trajectory.grads]
    for place, (step, value) in enumerate(BAD.items()):
        grads[step][list(trajectory.params)[place % 4]][...] = 1.0
        grads[step][list(trajectory.params)[place % 4]].flat[-1] = value
    return Trajectory(trajectory.params, grads)


def without_bad(trajectory=TRAJECTORY):
    grads = [grad for step, grad in enumerate(trajectory.grads) if step not in BAD]
    return Trajectory(trajectory.params, grads)


@everywhere
@pytest.mark.parametrize(
    "rule",
    [PLAIN, samestep.SM3(lr=0.1, momentum=0.9), Prodigy(d0=1e-3), ClipGlobalNorm(Prodigy(d0=1e-3))],
    ids=["SGD", "SM3", "Prodigy", "ClipGlobalNorm-Prodigy"],
)
def test_a_step_with_a_bad_gradient_leaves_every_bit_and_is_counted(rule, on):
    """These rules do not look at how many steps there were: the rest is as if it had not been."""
    found = followed(SkipNonFinite(rule), on, spoilt())
    for step, (before, after) in enumerate(pairwise(found)):
        expected = before["skipped", ""] + (step in BAD)
        assert after["skipped", ""] == expected
        if step in BAD:
            assert_same(after, {**before, ("skipped", ""): expected})
        else:
            assert (after["param", "bias"] != before["param", "bias"]).any() or step == 30
    kept = [snapshot for step, snapshot in enumerate(found) if step - 1 not in BAD]
    plain = followed(rule, on, without_bad())
    if on.exact == "bound":  # XLA contracts another program otherwise
        assert_close(kept, plain, 1e-4)
        return
    for ours, theirs in zip(kept, plain, strict=True):
        assert_same({key: ours[key] for key in theirs}, theirs)


@everywhere
def test_global_norm_around_skipping_around_a_rule_that_sums(on):
    """Three sums over all parameters, one after the other; a norm of NaN reaches the second."""
    rule = ClipGlobalNorm(SkipNonFinite(Prodigy(d0=1e-3, weight_decay=0.1)), max_norm=0.5)
    assert rule.phases == 3
    with numpy.errstate(invalid="ignore"):
        found = followed(rule, on, spoilt())
    assert found[-1]["skipped", ""] == len(BAD)
    kept = [snapshot for step, snapshot in enumerate(found) if step - 1 not in BAD]
    prodigy = Prodigy(d0=1e-3, weight_decay=0.1)
    plain = by_hand(prodigy, NUMPY, without_bad().rounded("float32"), of_samestep(), "float64")
    assert_close(kept, plain, 1e-3)


def test_skipping_is_that_of_optax_but_for_the_count_of_steps():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    inner = optax.chain(
        optax.add_decayed_weights(0.1), optax.sgd(0.05, momentum=0.9, nesterov=True)
    )
    theirs = optax.apply_if_finite(inner, max_consecutive_errors=len(BAD))
    ours = oracle(SkipNonFinite(PLAIN), spoilt())
    with jax.enable_x64(True):
        params = {path: jax.numpy.asarray(p) for path, p in TRAJECTORY.params.items()}
        state, update = theirs.init(params), jax.jit(theirs.update)
        for grads, snapshot in zip(spoilt().grads, ours[1:], strict=True):
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            for path, param in params.items():
                numpy.testing.assert_allclose(
                    snapshot["param", path], param, rtol=1e-11, atol=1e-12
                )
    assert ours[-1]["skipped", ""] == state.total_notfinite == len(BAD)


def test_the_count_is_where_each_framework_keeps_what_is_shared():
    rule = SkipNonFinite(AdamW(lr=0.1))
    grads = [numpy.float32([1, 2]), numpy.float32([numpy.nan, 1]), numpy.float32([numpy.inf, 1])]

    param, state = numpy.ones(2, "float32"), rule.init(numpy.ones(2, "float32"))
    for grad in grads:
        param, state = rule.update(grad, param, state)
    assert state.shared["skipped"] == 2 and state.step == 3

    torch, adapter = pytest.importorskip("torch"), pytest.importorskip("samestep.torch")
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = adapter.bind(rule, [parameter])
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        optimizer.step()
    assert optimizer.param_groups[0]["skipped"] == 2
    again = adapter.bind(rule, [parameter])
    again.load_state_dict(optimizer.state_dict())
    again.step()
    assert again.param_groups[0]["skipped"] == 3

    jax, adapter = pytest.importorskip("jax"), pytest.importorskip("samestep.jax")
    optimizer, values = adapter.bind(rule), jax.numpy.ones(2)
    state = optimizer.init(values)
    for grad in grads:
        updates, state = jax.jit(optimizer.update)(grad, state, values)
        values = values + updates
    assert state.shared["skipped"] == 2

    mx, adapter = pytest.importorskip("mlx.core"), pytest.importorskip("samestep.mlx")
    optimizer, values = adapter.bind(rule), {"w": mx.ones(2)}
    for grad in grads:
        values = optimizer.apply_gradients({"w": mx.array(grad)}, values)
    assert optimizer.state["shared_state"]["skipped"].item() == 2
    for final in (parameter.detach().numpy(), numpy.array(values["w"])):
        numpy.testing.assert_allclose(final, param, rtol=1e-6)


# Cautious masking.


def assert_cautious(rule, make, dtype="float64"):
    """The rule is a torch optimizer that masks by itself."""
    torch = pytest.importorskip("torch")
    tensors = {
        path: torch.nn.Parameter(torch.tensor(param)) for path, param in TRAJECTORY.params.items()
    }
    optimizer, found = make(list(tensors.values())), []
    for grads in TRAJECTORY.grads:
        for path, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[path])
        optimizer.step()
        found.append({("param", path): t.detach().numpy().copy() for path, t in tensors.items()})
    assert_close(oracle(rule, TRAJECTORY)[1:], found, 1e-11)


def test_cautious_adamw_and_lion_are_timm_s():
    hypers = {"lr": 0.01, "weight_decay": 0.1}
    assert_cautious(
        Cautious(AdamW(**hypers, eps=1e-3, betas=(0.8, 0.99))),
        lambda p: of_timm("optim.adamw").AdamWLegacy(
            p, **hypers, eps=1e-3, betas=(0.8, 0.99), caution=True, foreach=False
        ),
    )
    assert_cautious(
        Cautious(Lion(**hypers)),
        lambda p: of_timm("optim.lion").Lion(p, **hypers, caution=True, foreach=False),
    )


def test_the_count_form_is_the_authors_first_version():
    """Worked out here: numel / (count + 1) on what agrees, and the decay on everything."""
    rule = Cautious(Lion(lr=0.5, betas=(0.5, 0.5), weight_decay=0.1), rescale="count")
    param, m = numpy.array([1.0, 2.0, 3.0, 4.0]), numpy.zeros(4)
    state = rule.init(param)
    for grad in numpy.array([[1.0, -1.0, 1.0, 0.0], [-0.1, -0.1, 2.0, 1.0]]):
        look = numpy.sign(0.5 * m + 0.5 * grad)
        mask = (look * grad > 0) * 4 / (numpy.count_nonzero(look * grad > 0) + 1)
        expected = param - 0.5 * look * mask - 0.5 * 0.1 * param
        m = 0.5 * m + 0.5 * grad
        param, state = rule.update(grad, param, state)
        numpy.testing.assert_allclose(param, expected, rtol=1e-14)


def test_where_nothing_agrees_nothing_moves_but_by_its_decay():
    rule = Cautious(SGD(lr=0.1, momentum=0.9, weight_decay=0.5, decay="decoupled"))
    param = numpy.ones(3)
    param, state = rule.update(numpy.ones(3), param, rule.init(param))
    after, _ = rule.update(-0.1 * numpy.ones(3), param, state)
    numpy.testing.assert_allclose(after, param * (1 - 0.1 * 0.5), rtol=1e-15)


# Averages.


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


def test_swapping_in_torch_and_back_after_an_exception():
    torch, adapter = pytest.importorskip("torch"), pytest.importorskip("samestep.torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = adapter.bind(Average(AdamW(lr=0.1), average_decay=0.5), model.parameters())
    data = torch.randn(8, 3)
    for _ in range(3):
        optimizer.zero_grad()
        model(data).square().sum().backward()
        optimizer.step()
    params = {name: param.detach().clone() for name, param in model.named_parameters()}
    averages = {name: optimizer.state[p]["average"] for name, p in model.named_parameters()}
    assign = partial(model.load_state_dict, strict=False)
    with pytest.raises(KeyError), samestep.swapped(assign, params, averages):
        for name, param in model.named_parameters():
            assert torch.equal(param, averages[name]) and not torch.equal(param, params[name])
        raise KeyError
    for name, param in model.named_parameters():
        assert torch.equal(param, params[name])
        assert optimizer.state[param]["average"] is averages[name]
    optimizer.step()


def test_what_has_no_averages_is_said():
    rule = Average(AdamW())
    with pytest.raises(TypeError, match=r"the state is dict; .* In torch .* in MLX tree_map"):
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
    adapter, utils = pytest.importorskip("samestep.mlx"), pytest.importorskip("mlx.utils")
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    optimizer = adapter.bind(Average(AdamW(lr=0.1), average_decay=0.5))
    data = mx.ones((4, 3))
    slope = nn.value_and_grad(model, lambda model, x: model(x).square().sum())
    for _ in range(3):
        optimizer.update(model, slope(model, data)[1])
    params = model.parameters()
    averages = utils.tree_map(lambda _, state: state["average"], params, optimizer.state)
    before = model(data)
    with pytest.raises(KeyError), samestep.swapped(model.update, params, averages):
        inside = model(data)
        raise KeyError
    assert mx.array_equal(model(data), before) and not mx.array_equal(inside, before)


# Around each other, and around routes.


WRAPPERS = {
    "Accumulate": partial(Accumulate, every=2),
    "AdaptiveClip": partial(AdaptiveClip, clipping=0.1),
    "Average": partial(Average, average_decay=0.9),
    "Cautious": Cautious,
    "Centralize": Centralize,
    "ClipGlobalNorm": partial(ClipGlobalNorm, max_norm=0.5),
    "ClipNorm": partial(ClipNorm, clip_norm=0.2),
    "ClipValue": partial(ClipValue, max_value=0.1),
    "Lookahead": partial(Lookahead, sync_period=3),
    "Scout": partial(Scout, sync_period=3, sync_rate=0.1),
    "SkipNonFinite": SkipNonFinite,
}
PREPARING = ("AdaptiveClip", "Centralize", "ClipGlobalNorm", "ClipNorm", "ClipValue")
BRIEF = record(seed=8, steps=14, shapes=SHAPES, decades=(-2, 1))


def refused(outer, inner):
    """Why one wrapper does not go around another."""
    if outer == inner or {outer, inner} == {"Lookahead", "Scout"}:
        return f"cannot wrap {inner}"
    if outer == "Cautious" and inner not in PREPARING:
        return "let that one be the outer one"
    if outer == "Scout" and inner in ("ClipGlobalNorm", "SkipNonFinite"):
        return "cannot wrap a rule that needs a tree"
    return None


@pytest.mark.parametrize(("outer", "inner"), [*product(WRAPPERS, WRAPPERS)])
def test_wrappers_go_around_each_other_or_say_why_not(outer, inner):
    """The references go around each other as well; one that masks has the prepared gradient."""
    for plain in (PLAIN, samestep.LAMB(lr=0.05, weight_decay=0.1)):
        if (reason := refused(outer, inner)) is not None:
            with pytest.raises(ValueError, match=reason):
                WRAPPERS[outer](WRAPPERS[inner](plain))
            continue
        rule = WRAPPERS[outer](WRAPPERS[inner](plain))
        reference = rule
        if outer == "Cautious":
            reference = WRAPPERS[inner](WRAPPERS[outer](plain))
        given = BRIEF
        if outer == "SkipNonFinite":
            given = Trajectory(BRIEF.params, [dict(step) for step in BRIEF.grads])
            given.grads[3] = {path: grad * numpy.nan for path, grad in BRIEF.grads[3].items()}
        with numpy.errstate(invalid="ignore"):
            ours = oracle(rule, given)
            theirs = follow_reference(reference, given)
        assert_close(ours, theirs, 1e-9)


ROUTED = route((Where(min_ndim=2), Prodigy(d0=1e-2, weight_decay=0.1)), PLAIN)
MATRICES = route((Where(ndim=2), Muon(lr=0.05, momentum=0.9)), AdamW(lr=0.01, weight_decay=0.1))


@pytest.mark.parametrize(
    ("name", "on"),
    [
        pytest.param(name, on, id=f"{name}-{on.name}")
        for name in sorted({*WRAPPERS} - {"Scout"})
        for on in BACKENDS
        if not on.slow or name in ("Accumulate", "ClipGlobalNorm")  # one sums, one does not
    ],
)
def test_a_wrapper_goes_around_a_route(name, on):
    """One of its rules sums over its parameters, or none does."""
    for routed in (ROUTED, MATRICES):
        rule = WRAPPERS[name](routed)
        found = followed(rule, on, BRIEF)
        expected = followed(rule, NUMPY, BRIEF.rounded("float32"), "float64")
        assert_close(found, expected, 1e-3 if routed is ROUTED else 1e-4)


def test_around_a_route_the_norm_is_that_of_all_parameters():
    prepare = of_samestep()
    found = followed(ClipGlobalNorm(ROUTED, max_norm=0.5), NUMPY, dtype="float64")
    assert_close(found, by_hand(ROUTED, NUMPY, TRAJECTORY, prepare, "float64"), 1e-9)


def test_around_a_route_skipping_keeps_every_rule_s_state():
    found = followed(SkipNonFinite(ROUTED), NUMPY, spoilt(), "float64")
    plain = followed(ROUTED, NUMPY, without_bad(), "float64")
    kept = [snapshot for step, snapshot in enumerate(found) if step - 1 not in BAD]
    for ours, theirs in zip(kept, plain, strict=True):
        assert_same({key: ours[key] for key in theirs}, theirs)


def test_cautious_masking_sees_the_gradient_as_wrappers_have_prepared_it():
    for name in PREPARING:
        inside, outside = Cautious(WRAPPERS[name](PLAIN)), WRAPPERS[name](Cautious(PLAIN))
        for one, other in zip(oracle(inside, BRIEF), oracle(outside, BRIEF), strict=True):
            assert_same(one, other)


def test_a_rule_that_steps_in_its_own_way_is_not_masked():
    class Own(SGD, register=False):
        def step(self, xp, grad, param, state, s):
            return param, {}

    assert not Own().divides
    with pytest.raises(ValueError, match="Own changes the step after it"):
        Cautious(Own())
    with pytest.raises(ValueError, match="Lookahead changes the step after it"):
        Cautious(route((Where(ndim=1), Lookahead(SGD())), SGD()))
