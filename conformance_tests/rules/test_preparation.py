"""Gradient preparation and averaging, beside the libraries' own functions and around each other.

What a library does to gradients is done by its own function, by hand, before every step of the
plain rule; our wrapper around the rule must come to the same parameters and state, in every
framework and over many steps.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import pairwise

import numpy
import pytest

import samestep
from samestep import (
    SGD,
    Accumulate,
    AdamW,
    AdaptiveClip,
    Cautious,
    ClipGlobalNorm,
    ClipNorm,
    Lion,
    Prodigy,
    SkipNonFinite,
    schedules,
)
from samestep.parity import Trajectory, follow, oracle, record
from samestep.parity.backend import NUMPY, Backend, backends
from samestep.parity.subjects.importing import alone

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


def of_timm(name):
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    return alone(name)


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
    "norm-optax": (
        partial(ClipNorm, clip_norm=0.2),
        lambda: of_optax(lambda optax: optax.clip_by_global_norm(0.2), alone=True),
    ),
    "global-mlx": (partial(ClipGlobalNorm, max_norm=0.5, norm_eps=1e-6), of_mlx),
    "global-samestep": (partial(ClipGlobalNorm, max_norm=0.5), of_samestep),
    "adaptive-timm": (
        partial(AdaptiveClip, clipping=0.1, min_norm=0.01),
        lambda: of_torch(lambda _, p: of_timm("timm.utils.agc").adaptive_clip_grad(p, 0.1, 0.01)),
    ),
    "adaptive-optax": (
        partial(AdaptiveClip, clipping=0.1, min_norm=0.01, layout="io"),
        lambda: of_optax(lambda optax: optax.adaptive_grad_clip(0.1, 0.01)),
    ),
}


@pytest.mark.parametrize("case", OWN)
def test_a_wrapper_does_what_a_library_s_function_does_before_the_plain_rule(case):
    """What else libraries clip by is in the list of peers."""
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
    rule = AdaptiveClip(SGD(lr=1.0), clipping=0.1, min_norm=0.01, layout="io", batch_axes=())
    new, _ = rule.update(trajectory.grads[0], trajectory.params, rule.init(trajectory.params))
    for path, param in trajectory.params.items():
        assert not numpy.allclose(param - new[path], theirs[path])


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
    [
        Accumulate(samestep.Lookahead(samestep.NAdam(lr=schedules.Linear(0.1, 0.01, 9)))),
        Prodigy(d0=1e-3, bias_correction=True),
        ClipGlobalNorm(Prodigy(d0=1e-3)),
    ],
    ids=["Accumulate-Lookahead-NAdam", "Prodigy", "ClipGlobalNorm-Prodigy"],
)
def test_a_call_with_a_bad_gradient_leaves_every_bit_and_every_count(rule, on):
    """Bias corrections, periods and schedules of what is inside: as if it had not been."""
    found = followed(SkipNonFinite(rule), on, spoilt())
    for step, (before, after) in enumerate(pairwise(found)):
        expected = before["skipped", ""] + (step in BAD)
        assert after["skipped", ""] == expected
        if step in BAD:
            assert_same(after, {**before, ("skipped", ""): expected})
        elif rule.name != "Accumulate":
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


@everywhere
def test_accumulation_around_skipping_counts_the_steps_that_are_taken(on):
    """A mean with a bad gradient in it is no step, and all counts go on at the next."""
    with numpy.errstate(invalid="ignore"):
        found = followed(Accumulate(SkipNonFinite(FALLING), every=3), on, spoilt())
    threes = [*zip(*[iter(spoilt(TRAJECTORY.rounded("float32")).grads)] * 3, strict=True)]
    taken = [at for at in range(len(threes)) if not {3 * at, 3 * at + 1, 3 * at + 2} & {*BAD}]
    means = [{path: sum(step[path] for step in threes[at]) / 3 for path in SHAPES} for at in taken]
    plain = followed(FALLING, on, Trajectory(TRAJECTORY.params, means))
    assert_close([found[3 * at + 3] for at in taken], plain[1:], 1e-5)
    assert found[-1]["skipped", ""] == len(threes) - len(taken)


def test_skipping_is_that_of_optax():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    falling = optax.exponential_decay(0.05, 4, 0.5)
    inner = optax.adamw(falling, weight_decay=0.1)
    theirs = optax.apply_if_finite(inner, max_consecutive_errors=len(BAD))
    ours = oracle(SkipNonFinite(FALLING), spoilt())
    with jax.enable_x64(True):
        params = {path: jax.numpy.asarray(p) for path, p in TRAJECTORY.params.items()}
        state, update = theirs.init(params), jax.jit(theirs.update)
        for grads, snapshot in zip(spoilt().grads, ours[1:], strict=True):
            updates, state = update(grads, state, params)
            params = optax.apply_updates(params, updates)
            for path, param in params.items():
                numpy.testing.assert_allclose(  # optax has float32 in its bias corrections
                    snapshot["param", path], param, rtol=1e-6, atol=1e-7
                )
    assert ours[-1]["skipped", ""] == state.total_notfinite == len(BAD)


@pytest.mark.parametrize("capturable", [False, True])
def test_skipping_is_that_of_torch_s_grad_scaler(capturable):
    """Ten calls with inf, and then the first step: GradScaler lets Adam count one."""
    torch, adapter = pytest.importorskip("torch"), pytest.importorskip("samestep.torch")
    theirs, ours = (torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    adam = torch.optim.Adam([theirs], lr=1e-2)
    skipping = adapter.bind(SkipNonFinite(samestep.Adam(lr=1e-2)), [ours], capturable=capturable)
    for value in [numpy.inf] * 10 + [1.0, -0.5, numpy.nan, 2.0]:
        theirs.grad = torch.full_like(theirs, value) * scaler.scale(torch.ones(()))
        ours.grad = torch.full_like(ours, value)
        scaler.step(adam)
        scaler.update()
        skipping.step()
        if value == 1.0:
            assert ours[0].item() == pytest.approx(-0.01, rel=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


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
        lambda p: of_timm("timm.optim.adamw").AdamWLegacy(
            p, **hypers, eps=1e-3, betas=(0.8, 0.99), caution=True, foreach=False
        ),
    )
    assert_cautious(
        Cautious(Lion(**hypers)),
        lambda p: of_timm("timm.optim.lion").Lion(p, **hypers, caution=True, foreach=False),
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
