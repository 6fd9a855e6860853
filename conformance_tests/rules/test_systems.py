"""What the five systems that samestep grew from have beside their update rules.

    jax.example_libraries.optimizers: schedules and triples
    labml_nn.optimizers.adam: parameter groups
    holocron.optim: options that nothing reads
    AdEMAMix of xlstm_jax, which is apple/ml-ademamix's: schedules inside the tools of Optax

That the rules, in NumPy and as native classes, compute the same stands in ``test_dialects``.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import samestep
from samestep.conformance.peers import FLOAT64, agree, dialects, followed, nested, run, xlstm
from samestep.conformance.rules.test_dialects import CASES, FURTHEST, Case, need, of_library
from samestep.parity import Trajectory, record
from samestep.parity.backend import Snapshot
from samestep.schedules import HalfLife, InverseTimeDecay, Linear, make_schedule

STEPS = 100
SHAPES = {"scalar": (), "matrix": (4, 3), "kernel": (2, 3, 2, 2)}


# jax.example_libraries.optimizers


def examples() -> Any:
    return pytest.importorskip("jax.example_libraries.optimizers")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.label) for case in FURTHEST if case.like == "jax-example"],
)
def test_a_rule_is_a_triple_like_jax_s(case: Case) -> None:
    ours = followed("jax", samestep.triple(case.rule), case.trajectory)
    agree(ours, of_library(case), FLOAT64)


def test_the_optimizers_and_schedules_of_jax_s_examples_are_all_known() -> None:
    theirs = examples()
    functions = {
        name: function
        for name, function in inspect.getmembers(theirs, inspect.isfunction)
        if function.__module__ == theirs.__name__
        and [*inspect.signature(function).parameters][:1] in (["step_size"], ["boundaries"])
    }
    optimizers = {name for name, function in functions.items() if hasattr(function, "__wrapped__")}
    assert optimizers == {
        *("sgd", "momentum", "nesterov", "adagrad", "adam", "adamax", "sm3"),
        *("rmsprop", "rmsprop_momentum"),
    }
    assert {*functions} - optimizers == {
        *("constant", "exponential_decay", "inverse_time_decay", "polynomial_decay"),
        "piecewise_constant",
    }


def test_make_schedule_takes_what_jax_s_does() -> None:
    jax, theirs = pytest.importorskip("jax"), examples()
    for value in (0.3, np.float32(0.5), np.asarray(0.5), jax.numpy.asarray(0.5)):
        for step in (0, 7):
            assert float(make_schedule(value)(step)) == float(theirs.make_schedule(value)(step))
    for make in (make_schedule, theirs.make_schedule):
        schedule = InverseTimeDecay(0.3, 7, 0.6)
        assert make(schedule) is schedule
        with pytest.raises(TypeError):
            make(jax.numpy.zeros(3))


# labml_nn.optimizers.adam


GROUPS = {
    "scalar": {},
    "matrix": {"lr": 0.02, "betas": (0.8, 0.99), "weight_decay": 0.0},
    "kernel": {"lr": 0.005, "eps": 1e-3, "weight_decay": 0.3},
}
LABML = [case for case in CASES if (case.peer.rule, case.like) == ("Adam", "labml")]


@pytest.mark.parametrize("case", LABML, ids=lambda case: case.label)
@pytest.mark.parametrize("framework", ["torch", "jax", "mlx"])
def test_labml_s_groups_are_ours(case: Case, framework: str) -> None:
    """What a group leaves out is the optimizer's."""
    need(case.module)
    adapter = pytest.importorskip(f"samestep.{framework}")
    trajectory = record(8, STEPS, SHAPES)

    def grouped(tensors: Any, names: bool) -> list[dict[str, Any]]:
        pairs = zip(GROUPS.items(), tensors, strict=True)
        return [
            {"params": [(path, tensor) if names else tensor], **own}
            for (path, own), tensor in pairs
        ]

    def theirs(tensors: Any, hypers: Any) -> Any:
        return case.peer.make(grouped(tensors, names=False), hypers)

    peer = replace(case.peer, make=theirs)
    expected = run(case.module, peer, case.rule.hypers, trajectory)
    by_path = [
        (lambda parameter, path=path: parameter.path == path, own)
        for path, own in GROUPS.items()
        if own
    ]

    def ours(*tensors: Any) -> Any:
        if tensors:
            return adapter.Adam(grouped(*tensors, names=True), like="labml", **case.values)
        return adapter.Adam(like="labml", groups=by_path, **case.values)

    found = followed({"jax": "optax"}.get(framework, framework), ours, trajectory)
    agree(found, expected, FLOAT64)


# holocron.optim


IGNORED = dialects()["holocron"].IGNORED
COMMON = {
    "AdaBelief": ("lr", "betas", "eps", "weight_decay", "amsgrad"),
    "LARS": ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
}


@pytest.mark.parametrize("name", IGNORED)
def test_holocron_never_reads_some_options(name: str) -> None:
    case = next(case for case in FURTHEST if (case.peer.rule, case.like) == (name, "holocron"))
    module, expected = case.module, of_library(case)
    theirs = getattr(module._optim(), name)
    for option, value in IGNORED[name].items():
        if option not in inspect.signature(theirs).parameters:
            continue  # torch's Adam has gained and lost some

        def make(tensors: Any, hypers: Any, given: Any = (option, value)) -> Any:
            made = case.peer.make(tensors, hypers)
            return theirs(tensors, **{k: made.defaults[k] for k in COMMON[name]}, **dict([given]))

        found = run(module, replace(case.peer, make=make), case.rule.hypers, case.trajectory)
        agree(found, expected, 0.0, option)


# AdEMAMix of xlstm_jax


ADEMAMIX = dialects()["xlstm"].PEERS[0]
NUMBERS = {"lr": 0.01, "eps": 1e-4, "eps_root": 0.0, "weight_decay": 0.1, "slow_start": 0}
SCHEDULED: dict[str, Any] = {
    "betas": (0.9, 0.99, HalfLife(0.9, 0.9999, 30)),
    "alpha": Linear(0.0, 5.0, 30),
}
AUTHORS: dict[str, Any] = {
    "betas": (0.9, 0.99, xlstm.beta3_scheduler(0.9999, 0.9, 30)),
    "alpha": xlstm.alpha_scheduler(5.0, 0.0, 30),
}


def native(**values: Any) -> Any:
    return pytest.importorskip("samestep.jax").AdEMAMix(like="xlstm", **values)


def of_authors(trajectory: Trajectory, **changed: Any) -> list[Snapshot]:
    return run(xlstm, ADEMAMIX, {**NUMBERS, **AUTHORS, **changed}, trajectory)


@pytest.mark.parametrize("warmup", [0, 1, 60])
def test_schedules_of_ours_are_the_authors(warmup: int) -> None:
    for start, end in ((0.9, 0.9999), (0.5, 0.99)):
        ours, theirs = HalfLife(start, end, warmup), xlstm.beta3_scheduler(end, start, warmup)
        assert [ours(t) for t in range(STEPS)] == pytest.approx([theirs(t) for t in range(STEPS)])
    ours, theirs = Linear(0.0, 5.0, warmup), xlstm.alpha_scheduler(5.0, 0.0, warmup)
    assert [ours(t) for t in range(STEPS)] == pytest.approx([theirs(t) for t in range(STEPS)])


def test_ademamix_takes_schedules_and_a_mask() -> None:
    pytest.importorskip("optax")
    trajectory, lr = record(12, STEPS, SHAPES), Linear(0.0, 0.01, 30)
    numbers = {"lr": lr, "eps": 1e-4, "weight_decay": 0.1, "eps_root": 1e-3}
    ours = native(mask=lambda parameter: parameter.ndim == 2, **SCHEDULED, **numbers)
    decayed = of_authors(trajectory, lr=lr, eps_root=1e-3)
    plain = of_authors(trajectory, lr=lr, eps_root=1e-3, weight_decay=0.0)
    expected = [
        {key: (one if key[1] == "matrix" else other)[key] for key in one}
        for one, other in zip(decayed, plain, strict=True)
    ]
    agree(followed("optax", ours, trajectory), expected, FLOAT64)


def test_ademamix_inside_a_chain() -> None:
    """Gradients clipped before it and a schedule after it."""
    optax = pytest.importorskip("optax")
    trajectory = record(15, STEPS, SHAPES)
    chain = optax.chain(
        optax.clip_by_global_norm(0.5),
        native(lr=1.0, eps=1e-4, weight_decay=0.1, **SCHEDULED),
        optax.scale_by_schedule(Linear(0.0, 0.02, 50)),
    )
    norms = [np.sqrt(sum(np.sum(g * g) for g in step.values())) for step in trajectory.grads]
    assert min(norms) < 0.5 < max(norms)
    clipped = [
        {path: grad * min(1.0, 0.5 / max(norm, 1e-30)) for path, grad in step.items()}
        for step, norm in zip(trajectory.grads, norms, strict=True)
    ]
    expected = of_authors(
        Trajectory(trajectory.params, clipped), lr=lambda step: 0.02 * min(step / 50, 1.0)
    )
    for optimizer in (chain, optax.masked(chain, dict.fromkeys(SHAPES, True))):
        agree(followed("optax", optimizer, trajectory), only_params(expected), FLOAT64)


def only_params(rows: list[Snapshot]) -> list[Snapshot]:
    return [{key: value for key, value in row.items() if key[0] == "param"} for row in rows]


def test_ademamix_masked_and_with_injected_hyperparameters() -> None:
    """A mask leaves parameters out altogether; an injected alpha's schedule is called by optax."""
    optax = pytest.importorskip("optax")
    trajectory = record(16, STEPS, SHAPES)
    inject = optax.inject_hyperparams(
        lambda lr, alpha, eps, weight_decay: native(
            lr=lr, betas=SCHEDULED["betas"], alpha=alpha, eps=eps, weight_decay=weight_decay
        )
    )
    optimizer = inject(lr=0.01, alpha=SCHEDULED["alpha"], eps=1e-4, weight_decay=0.1)
    masked = optax.chain(
        optax.masked(optimizer, {"scalar": False, "matrix": True, "kernel": True}),
        optax.masked(optax.set_to_zero(), {"scalar": True, "matrix": False, "kernel": False}),
    )
    expected = only_params(of_authors(trajectory))
    for row in expected:
        row["param", "scalar"] = trajectory.params["scalar"]
    agree(followed("optax", masked, trajectory), expected, FLOAT64)


def test_ademamix_counts_the_slow_average_by_itself_where_the_number_is_injected() -> None:
    """m2 begun anew at step 40: the schedules of alpha and beta3 do so too, that of lr does not."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    trajectory, lr = record(14, STEPS, SHAPES), Linear(0.0, 0.02, 80)
    expected = of_authors(trajectory, lr=lr, slow_start=40)
    injector = optax.inject_hyperparams(
        lambda slow_start: native(
            slow_start=slow_start, lr=lr, eps=1e-4, weight_decay=0.1, **SCHEDULED
        )
    )
    with jax.enable_x64(True):
        params = {path: jax.numpy.asarray(a) for path, a in trajectory.params.items()}
        made = injector(slow_start=0)
        state, update = made.init(params), jax.jit(made.update)
        for t, step in enumerate(trajectory.grads):
            if t == 40:
                inner = state.inner_state
                slots = {**inner.slots, "m2": jax.tree.map(jax.numpy.zeros_like, inner.slots["m2"])}
                hyperparams = {**state.hyperparams, "slow_start": jax.numpy.asarray(40)}
                state = state._replace(
                    hyperparams=hyperparams, inner_state=inner._replace(slots=slots)
                )
            updates, state = update(step, state, params)
            params = optax.apply_updates(params, updates)
            row = nested({"param": params})
            agree([expected[0], row], [expected[0], expected[t + 1]], FLOAT64, t)
