"""The five systems that samestep grew from, item by item, through the native optimizers.

    mlx.optimizers, as it is and as it was in December 2023
    jax.example_libraries.optimizers
    labml_nn.optimizers.adam
    holocron.optim
    AdEMAMix of xlstm_jax, which is apple/ml-ademamix's

Where a package is installed its own optimizer takes the same steps beside ours, over recorded
gradients that change sign, span decades and hold exact zeros; what there is to try is read from
its signatures, so that an option which it gains is noticed here. That the NumPy rules compute the
same, in float64, stands in ``test_dialects``.
"""

from __future__ import annotations

import inspect
import pickle
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import samestep
from samestep.conformance.peers import (
    FLOAT64,
    RECTIFIED,
    agree,
    dialects,
    followed,
    nested,
    run,
)
from samestep.parity import Trajectory, compare, record
from samestep.parity.backend import Snapshot
from samestep.schedules import (
    Constant,
    ExponentialDecay,
    HalfLife,
    InverseTimeDecay,
    Linear,
    PiecewiseConstant,
    PolynomialDecay,
    make_schedule,
)

STEPS = 100
SHAPES = {"scalar": (), "matrix": (4, 3), "kernel": (2, 3, 2, 2)}
SINGLE = float(np.finfo(np.float32).eps)
FEW = 8
"""ULP of float32 that two orders of evaluation may part by in all: each rounding is half a unit,
and errors of either sign add up to some sqrt(100) of them."""
VALUES = {
    "lr": 0.01,
    "betas": (0.8, 0.99),
    "eps": 1e-2,
    "weight_decay": 0.1,
    "momentum": 0.9,
    "dampening": 0.3,
    "nesterov": True,
    "alpha": 0.75,
    "rho": 0.8,
    "bias_correction": True,
    "amsgrad": True,
    "dof": 3.0,
    "delta": 0.5,
    "scale_clip": (0.5, 2.0),
    "force_adaptive_momentum": True,
}
"""What every option is set to that a library lists, by our name for it."""
COMPANIONS = {"dampening": {"momentum": 0.9}, "nesterov": {"momentum": 0.9}}
"""What an option needs beside it to mean something."""


def listed(function: Any, *aside: str) -> list[str]:
    """The options that a library's own signature lists, but for what is set ``aside``."""
    return [name for name in inspect.signature(function).parameters if name not in aside]


def trials(options: list[str], *, triple: bool = False) -> list[dict[str, Any]]:
    """Values to try: the defaults, every option by itself, and all that go together.

    ``triple``: betas are three.
    """
    unknown = {*options} - {*VALUES}
    assert not unknown, f"the library has options of which nothing is known here: {unknown}"
    values = {name: VALUES[name] for name in options}
    if triple:
        values["betas"] = (0.8, 0.99, 0.95)
    apart = [{name: value, **COMPANIONS.get(name, {})} for name, value in values.items()]
    exclusive = [name for name in ("dampening", "nesterov") if name in values] or [None]
    together = [{n: v for n, v in values.items() if n != name} for name in exclusive]
    return [{}, *apart, *together]


# Runs of optimizers; each gives parameters and state before and after every step.


def torch_run(make: Any, trajectory: Trajectory, dtype: str = "float64") -> list[Snapshot]:
    """Step what ``make`` makes of named tensors."""
    pytest.importorskip("torch")
    return followed(
        "torch",
        lambda tensors: make(list(zip(trajectory.params, tensors, strict=True))),
        trajectory,
        dtype,
    )


def jax_run(optimizer: Any, trajectory: Trajectory, dtype: str = "float64") -> list[Snapshot]:
    """Step a transformation of optax."""
    pytest.importorskip("optax")
    return followed("optax", lambda: optimizer, trajectory, dtype)


def mlx_run(optimizer: Any, trajectory: Trajectory, dtype: str = "float64") -> list[Snapshot]:
    """Step an optimizer of MLX."""
    pytest.importorskip("mlx.core")
    return followed("mlx", lambda: optimizer, trajectory, dtype)


def agree_in_ulp(ours: list[Snapshot], theirs: list[Snapshot], limit: float, what: Any) -> None:
    """Compare what both hold in float32, after every step from the start on."""
    common = ours[0].keys() & theirs[0].keys()
    assert any(slot == "param" for slot, _ in common)
    one, other = (
        [{key: row[key].reshape(ours[0][key].shape) for key in common} for row in rows]
        for rows in (ours, theirs)
    )
    difference = compare(one, other, "float32")
    worst = ", ".join(map(str, difference.worst.values()))
    assert difference.ulp <= limit, f"{what}: {worst}"


def moved(snapshots: list[Snapshot]) -> bool:
    return all(
        not np.array_equal(snapshots[-1][key], value)
        for key, value in snapshots[0].items()
        if key[0] == "param"
    )


def native(library: str, name: str) -> Any:
    """The class ``samestep.<library>.<name>``."""
    return getattr(pytest.importorskip(f"samestep.{library}"), name)


# mlx.optimizers


MLX = {peer.rule: peer for peer in dialects()["mlx"].PEERS if peer.rule != "Adafactor"}
MLX_EARLY = dialects()["mlx-0.0"].VECTORS
MLX_NAMES = ["SGD", "RMSprop", "Adagrad", "AdaDelta", "Adam", "AdamW", "Adamax", "Lion"]


@pytest.mark.parametrize("name", MLX_NAMES)
def test_mlx_optimizers_rules_are_those_of_mlx(name):
    optimizers = pytest.importorskip("mlx.optimizers")
    trajectory = record(3, STEPS, SHAPES).rounded("float32")
    theirs = getattr(optimizers, name)
    for trial in trials(listed(theirs, "learning_rate")):
        values = {"lr": 0.01, **trial}
        ours = native("mlx", name)(like="mlx", **values)
        arguments = {n: v for n, v in values.items() if n != "lr"}
        expected = mlx_run(theirs(values["lr"], **arguments), trajectory, "float32")
        found = mlx_run(ours, trajectory, "float32")
        assert moved(found)
        # With its correction MLX takes 1 - beta2**t in float32, off by half a unit of 1: so many
        # units of 1 - beta2, of which the root takes half.
        unbiased = 0.5 / (1 - ours.betas[1]) if values.get("bias_correction") else 0
        agree_in_ulp(found, expected, FEW + unbiased, values)


@pytest.mark.parametrize("vector", MLX_EARLY, ids=lambda vector: vector.rule)
def test_mlx_optimizers_of_december_2023_are_computed_by_hand(vector):
    grads = [{"w": np.array(grad)} for grad in vector.grads]
    for dtype, tolerance in [("float64", 1e-14), ("float32", 4 * SINGLE)]:
        optimizer = native("mlx", vector.rule)(like="mlx-0.0", **vector.settings)
        found = mlx_run(optimizer, Trajectory({"w": np.array(vector.start)}, grads), dtype)
        assert {slot for slot, _ in found[-1]} == {*vector.after}
        for slot, rows in vector.after.items():
            for step, row in enumerate(rows, 1):
                np.testing.assert_allclose(
                    found[step][slot, "w"], row, rtol=tolerance, atol=tolerance
                )


def test_mlx_optimizers_of_december_2023_are_all_there():
    assert {vector.rule for vector in MLX_EARLY} == {*MLX_NAMES}
    assert {*MLX} == {*MLX_NAMES}


def mlx_tree(seed: int) -> Any:
    mx = pytest.importorskip("mlx.core")
    random = np.random.default_rng(seed)

    def array(*shape: int) -> Any:
        return mx.array(random.normal(size=shape), mx.float32)

    return {"layers": [{"w": array(2, 3), "b": array(3)}, {"w": array(3)}], "scale": array()}


def mlx_flat(tree: Any) -> dict[str, Any]:
    utils = pytest.importorskip("mlx.utils")
    return {path: np.array(value) for path, value in utils.tree_flatten(tree)}


def mlx_close(found: Any, expected: Any) -> None:
    ours, theirs = mlx_flat(found), mlx_flat(expected)
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=FEW * SINGLE, atol=FEW * SINGLE)


def mlx_two(name: str) -> tuple[Any, Any]:
    optimizers = pytest.importorskip("mlx.optimizers")
    return native("mlx", name)(lr=0.01, like="mlx"), getattr(optimizers, name)(0.01)


@pytest.mark.parametrize("name", MLX_NAMES)
def test_mlx_optimizers_take_parameters_that_are_a_superset_of_the_gradients(name):
    """The result is shaped like the gradients; nothing else is looked at, or begun."""
    ours, theirs = mlx_two(name)
    params = mlx_tree(0)
    one = other = params
    for t in range(5):
        grads = mlx_tree(10 + t)
        del grads["scale"], grads["layers"][0]["b"]
        one, other = ours.apply_gradients(grads, one), theirs.apply_gradients(grads, other)
        assert [*mlx_flat(one)] == [*mlx_flat(grads)] == ["layers.0.w", "layers.1.w"]
        mlx_close(one, other)
        one, other = (
            {**params, "layers": [{**params["layers"][0], **tree["layers"][0]}, tree["layers"][1]]}
            for tree in (one, other)
        )
    for optimizer in (ours, theirs):
        assert int(optimizer.state["step"].item()) == 5
        assert not any(
            "scale" in path or path.startswith("layers.0.b") for path in mlx_flat(optimizer.state)
        )


@pytest.mark.parametrize("name", MLX_NAMES)
def test_mlx_optimizers_have_a_state_before_and_after_init(name):
    ours, theirs = mlx_two(name)
    for optimizer in (ours, theirs):
        assert {*optimizer.state} == {"step", "learning_rate"}
        assert optimizer.state["step"].item() == 0
        assert optimizer.learning_rate.item() == np.float32(0.01)
        optimizer.init(mlx_tree(0))
        assert {*optimizer.state} == {"step", "learning_rate", "layers", "scale"}
    slots = MLX[name].slots if ours.rule.slots() else {}
    for slot, their_name in slots.items():
        for mine, their in [(ours.state["scale"], theirs.state["scale"])]:
            assert np.array_equal(np.array(mine[slot]), np.array(their[their_name]))
    fresh, _ = mlx_two(name)
    grads = mlx_tree(1)
    mlx_close(ours.apply_gradients(grads, mlx_tree(0)), fresh.apply_gradients(grads, mlx_tree(0)))
    mlx_close(ours.state, fresh.state)


@pytest.mark.parametrize("name", MLX_NAMES)
def test_mlx_optimizers_update_a_model_and_leave_frozen_parameters(name):
    mx, nn = pytest.importorskip("mlx.core"), pytest.importorskip("mlx.nn")
    x = mx.array(np.random.default_rng(7).normal(size=(6, 4)), mx.float32)
    after, first = [], []
    for optimizer in mlx_two(name):
        mx.random.seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2))
        model.layers[1].freeze()
        before = mlx_flat(model.parameters())
        step = nn.value_and_grad(model, lambda model: (model(x) ** 2).sum())
        for _ in range(5):
            _, grads = step(model)
            optimizer.update(model, grads)
        first.append(optimizer.apply_gradients(step(model)[1], model))  # the model is a tree
        frozen = {path for path in before if path.startswith("layers.1")}
        new = mlx_flat(model.parameters())
        assert {path for path in new if np.array_equal(new[path], before[path])} == frozen
        assert not any(path.startswith("layers.1.") for path in mlx_flat(optimizer.state))
        after.append(model.parameters())
    for pair in (after, first):
        found, expected = map(mlx_flat, pair)
        assert found.keys() == expected.keys()
        for path, value in expected.items():  # gradients of parameters that differ, differ
            np.testing.assert_allclose(found[path], value, rtol=0, atol=2e-6)


# jax.example_libraries.optimizers


JAX_EXAMPLES = {
    "sgd": ("SGD", {}, {}),
    "momentum": ("SGD", {"mass": 0.9}, {}),
    "nesterov": ("SGD", {"mass": 0.9}, {"nesterov": True}),
    "adagrad": ("Adagrad", {"momentum": 0.5}, {}),
    "rmsprop": ("RMSprop", {"gamma": 0.8, "eps": 1e-2}, {}),
    "rmsprop_momentum": ("RMSprop", {"gamma": 0.8, "eps": 1e-2, "momentum": 0.5}, {}),
    "adam": ("Adam", {"b1": 0.8, "b2": 0.99, "eps": 1e-2}, {}),
    "adamax": ("Adamax", {"b1": 0.8, "b2": 0.99, "eps": 1e-2}, {}),
    "sm3": ("SM3", {"momentum": 0.5}, {}),
}
"""JAX's optimizer, our rule, values of JAX's arguments, and what selects the algorithm here."""
OURS = {"mass": "momentum", "gamma": "alpha"}
SCHEDULES = {
    "constant": (Constant(0.02), ("constant", 0.02)),
    "exponential": (ExponentialDecay(0.02, 30, 0.5), ("exponential_decay", 0.02, 30, 0.5)),
    "inverse time": (InverseTimeDecay(0.02, 30, 0.5), ("inverse_time_decay", 0.02, 30, 0.5)),
    "stairs": (
        InverseTimeDecay(0.02, 30, 0.5, staircase=True),
        ("inverse_time_decay", 0.02, 30, 0.5, True),
    ),
    "polynomial": (
        PolynomialDecay(0.02, 60, 0.001, 2.0),
        ("polynomial_decay", 0.02, 60, 0.001, 2.0),
    ),
    "pieces": (
        PiecewiseConstant((30, 60), (0.03, 0.01, 0.003)),
        ("piecewise_constant", [30, 60], [0.03, 0.01, 0.003]),
    ),
}


def examples() -> Any:
    return pytest.importorskip("jax.example_libraries.optimizers")


def example(name: str, values: dict[str, Any], lr: Any = 0.02, step_size: Any = 0.02) -> Any:
    """Our rule, and JAX's triple with those of its arguments."""
    rule, _, chosen = JAX_EXAMPLES[name]
    ours = {OURS.get(n, n): v for n, v in values.items() if n not in ("b1", "b2")}
    if "b1" in values:
        ours["betas"] = (values["b1"], values["b2"])
    if name == "rmsprop_momentum":
        ours.setdefault("momentum", 0.9)
    made = getattr(samestep, rule)(lr=lr, like="jax-example", **ours, **chosen)
    return made, getattr(examples(), name)(step_size, **values)


def scanned(functions: Any, params: Any, grads: Any, dtype: str) -> list[Snapshot]:
    """Parameters before and after every step of a triple, in a jitted scan.

    JAX's SM3 keeps shapes in its state, which must stay numbers: only arrays are carried.
    """
    jax = pytest.importorskip("jax")
    init, update, get_params = functions
    native = {path: jax.numpy.asarray(a, dtype) for path, a in params.items()}
    stacked = {
        path: jax.numpy.asarray(np.stack([step[path] for step in grads]), dtype) for path in params
    }
    leaves, structure = jax.tree.flatten(init(native))
    if isinstance(functions, samestep.Triple):
        leaves = [jax.numpy.asarray(leaf) for leaf in leaves]
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def body(carry: Any, step: Any) -> Any:
        whole = [*leaves]
        for place, value in zip(places, carry, strict=True):
            whole[place] = value
        state = update(*step, structure.unflatten(whole))
        new = jax.tree.leaves(state)
        return [new[place] for place in places], get_params(state)

    scan = jax.jit(lambda *args: jax.lax.scan(body, *args)[1])
    taken = scan([leaves[place] for place in places], (jax.numpy.arange(len(grads)), stacked))
    assert all(array.dtype == dtype for array in taken.values())
    taken = jax.tree.map(np.asarray, taken)
    rows = [native, *(jax.tree.map(lambda x, t=t: x[t], taken) for t in range(len(grads)))]
    return [nested({"param": row}) for row in rows]


def correction(name: str, values: dict[str, Any]) -> float:
    """ULP that ``1 - beta**t`` is off by in float32, where JAX takes powers of rounded betas.

    Adamax has one of beta1, and Adam one of beta2, of which the root takes half.
    """
    given = {"b1": 0.9, "b2": 0.999, **values}
    return {"adam": 0.5 / (1 - given["b2"]), "adamax": 1 / (1 - given["b1"])}.get(name, 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", JAX_EXAMPLES)
def test_jax_example_libraries_optimizers_are_triples_of_our_rules(name, dtype):
    """With the defaults in float32, and with other values of every argument in float64."""
    jax, theirs = pytest.importorskip("jax"), examples()
    values = JAX_EXAMPLES[name][1]
    assert [*values] == listed(getattr(theirs, name), "step_size")
    trajectory = record(4, STEPS, SHAPES).rounded(dtype)
    given = values if dtype == "float64" or "mass" in values else {}
    rule, expected = example(name, given)
    with jax.enable_x64(dtype == "float64"):
        found, wanted = (
            scanned(functions, trajectory.params, trajectory.grads, dtype)
            for functions in (samestep.triple(rule), expected)
        )
    assert moved(found)
    if dtype == "float64":
        agree(found, wanted, FLOAT64)
    else:  # a sum of steps, such as momentum of steps, gathers the errors of ten
        agree_in_ulp(found, wanted, 2 * FEW + correction(name, given), given)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", JAX_EXAMPLES)
def test_jax_example_libraries_optimizers_take_every_schedule(name, schedule):
    jax, theirs = pytest.importorskip("jax"), examples()
    ours, (kind, *arguments) = SCHEDULES[schedule]
    trajectory = record(5, STEPS, {"bias": (5,)})
    with jax.enable_x64(True):
        step_size = getattr(theirs, kind)(*arguments)
        functions = example(name, JAX_EXAMPLES[name][1], ours, step_size)
        found, wanted = (
            scanned(made, trajectory.params, trajectory.grads, "float64")
            for made in (samestep.triple(functions[0]), functions[1])
        )
    assert moved(found)
    agree(found, wanted, FLOAT64)


def test_jax_example_libraries_optimizers_and_their_schedules_are_all_there():
    theirs = examples()
    functions = {
        name: function
        for name, function in inspect.getmembers(theirs, inspect.isfunction)
        if function.__module__ == theirs.__name__
        and [*inspect.signature(function).parameters][:1] in (["step_size"], ["boundaries"])
    }
    optimizers = {name for name, function in functions.items() if hasattr(function, "__wrapped__")}
    assert optimizers == {*JAX_EXAMPLES}
    assert {*functions} - optimizers == {kind for _, (kind, *_) in SCHEDULES.values()}


def test_jax_example_libraries_optimizers_make_schedule():
    jax, theirs = pytest.importorskip("jax"), examples()
    for step in (0, 7):
        assert make_schedule(0.3)(step) == theirs.make_schedule(0.3)(step) == 0.3
        assert make_schedule(np.float32(0.5))(step) == theirs.make_schedule(np.float32(0.5))(step)
    for make in (make_schedule, theirs.make_schedule):
        schedule = InverseTimeDecay(0.3, 7, 0.6)
        assert make(schedule) is schedule
        with pytest.raises(TypeError):
            make(jax.numpy.zeros(3))


def test_jax_example_libraries_optimizers_make_schedule_of_a_0_d_array():
    jax, theirs = pytest.importorskip("jax"), examples()
    for array in (np.asarray(0.5), jax.numpy.asarray(0.5)):
        assert float(theirs.make_schedule(array)(3)) == 0.5
        assert float(make_schedule(array)(3)) == 0.5


LIBRARIES = {
    "numpy": lambda array: array,
    "torch": lambda array: pytest.importorskip("torch").tensor(array),
    "mlx": lambda array: pytest.importorskip("mlx.core").array(
        array, getattr(pytest.importorskip("mlx.core"), str(array.dtype))
    ),
    "jax": lambda array: pytest.importorskip("jax.numpy").asarray(array),
}
libraries = pytest.mark.parametrize("library", LIBRARIES)


def in_float64(library: str) -> Any:
    """A context in which the library's arrays may be float64."""
    if library == "mlx":
        mx = pytest.importorskip("mlx.core")
        return mx.stream(mx.cpu)
    return pytest.importorskip("jax").enable_x64(True)


@libraries
def test_jax_example_libraries_optimizers_l2_norm_and_clip_grads(library):
    jax, theirs = pytest.importorskip("jax"), examples()
    make = LIBRARIES[library]
    for dtype, tolerance in [("float32", FEW * SINGLE), ("float64", 1e-14)]:
        arrays = record(6, 1, SHAPES).rounded(dtype).params
        arrays = {path: array.astype(dtype) for path, array in arrays.items()}
        with jax.enable_x64(True), in_float64(library):
            tree = {path: make(array) for path, array in arrays.items()}
            size = float(theirs.l2_norm(arrays))
            found = samestep.l2_norm(tree)
            assert str(found.dtype).endswith(dtype) and found.shape == ()
            assert float(found) == pytest.approx(size, rel=tolerance)
            for limit in (0.5 * size, 2.0 * size):
                clipped = samestep.clip_grads(tree, limit)
                expected = theirs.clip_grads(arrays, limit)
                for path, array in expected.items():
                    new = np.asarray(clipped[path])
                    assert new.dtype == dtype
                    np.testing.assert_allclose(new, array, rtol=tolerance)
                    assert limit < size or np.array_equal(new, arrays[path])
            if library == "jax":
                jitted = jax.jit(samestep.clip_grads)(tree, 0.5 * size)
                expected = theirs.clip_grads(arrays, 0.5 * size)
                for path, array in expected.items():
                    np.testing.assert_allclose(jitted[path], array, rtol=tolerance)


@cache
def example_run(name: str) -> list[Snapshot]:
    """JAX's own triple in float64, its state pickled in mid-course."""
    jax, theirs = pytest.importorskip("jax"), examples()
    trajectory = record(4, 20, SHAPES)
    with jax.enable_x64(True):
        init, update, get_params = example(name, JAX_EXAMPLES[name][1])[1]
        update = update if name == "sm3" else jax.jit(update)  # its state holds shapes
        state = init(trajectory.params)
        rows = [trajectory.params]
        for t, step in enumerate(trajectory.grads):
            if t == 10:
                marked = pickle.dumps(theirs.unpack_optimizer_state(state))
                state = theirs.pack_optimizer_state(pickle.loads(marked))
            state = update(t, step, state)
            rows.append({path: np.asarray(a) for path, a in get_params(state).items()})
    return [nested({"param": row}) for row in rows]


@libraries
def test_jax_example_libraries_optimizers_serve_arrays_of_every_library(library):
    make, trajectory = LIBRARIES[library], record(4, 20, SHAPES)
    for name, (_, values, _) in JAX_EXAMPLES.items():
        ours = samestep.triple(example(name, values)[0])
        with in_float64(library):
            params = {path: make(array) for path, array in trajectory.params.items()}
            state, rows = ours.init(params), [trajectory.params]
            for t, step in enumerate(trajectory.grads):
                state = ours.update(t, {path: make(grad) for path, grad in step.items()}, state)
                found = ours.get_params(state)
                rows.append({path: np.asarray(array) for path, array in found.items()})
        assert all(type(array) is type(params[path]) for path, array in found.items())
        agree([nested({"param": row}) for row in rows], example_run(name), FLOAT64, name)


@libraries
def test_jax_example_libraries_optimizers_states_are_pickled_in_mid_course(library):
    make, trajectory = LIBRARIES[library], record(4, 20, SHAPES)
    for name, (_, values, _) in JAX_EXAMPLES.items():
        ours = samestep.triple(example(name, values)[0])
        with in_float64(library):
            state = fresh = ours.init({path: make(a) for path, a in trajectory.params.items()})
            straight = state
            for t, step in enumerate(trajectory.grads):
                if t == 10:
                    flat = samestep.unpack_state(state)
                    stored = pickle.dumps({key: np.asarray(value) for key, value in flat.items()})
                    state = samestep.pack_state(pickle.loads(stored), fresh)
                grads = {path: make(grad) for path, grad in step.items()}
                state, straight = ours.update(t, grads, state), ours.update(t, grads, straight)
            again, kept = samestep.unpack_state(state), samestep.unpack_state(straight)
            assert again.keys() == kept.keys()
            for key, value in kept.items():
                assert again[key].dtype == value.dtype
                assert np.array_equal(np.asarray(again[key]), np.asarray(value)), (name, key)


# labml_nn.optimizers.adam


LABML_GROUPS = {
    "scalar": {},
    "matrix": {"lr": 0.02, "betas": (0.8, 0.99), "weight_decay": 0.0},
    "kernel": {"lr": 0.005, "eps": 1e-3, "weight_decay": 0.3},
}
LABML = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
ORDERS = {"uncorrected": True, "outside": False}
"""Our ``eps_at`` and what labml calls ``optimized_update``."""
DECAYS = {"l2": (False, False), "decoupled": (True, False), "absolute": (True, True)}
"""Our ``decay`` and what labml calls ``weight_decouple`` and ``absolute``."""


def labml_groups(tensors: Any, paths: Any) -> list[dict[str, Any]]:
    return [{"params": [t], **LABML_GROUPS[path]} for path, t in zip(paths, tensors, strict=True)]


def labml_run(trajectory: Any, arguments: Any) -> list[Snapshot]:
    """Step labml's own Adam in float64, with its parameter groups."""
    labml = pytest.importorskip("labml_nn.optimizers.adam")
    module = dialects()["labml"]
    peer = next(peer for peer in module.PEERS if peer.rule == "Adam")

    def make(tensors: Any, hypers: Any) -> Any:
        return labml.Adam(labml_groups(tensors, trajectory.params), **arguments)

    return run(module, replace(peer, make=make), {}, trajectory)


def labml_torch(**settings: Any) -> Any:
    """What makes our optimizer of named tensors, with the same groups."""

    def make(named: Any) -> Any:
        groups = [{"params": [(path, t)], **LABML_GROUPS[path]} for path, t in named]
        return native("torch", "Adam")(groups, like="labml", **settings)

    return make


LABML_BY_PATH = [
    (lambda parameter, path=path: parameter.path == path, values)
    for path, values in LABML_GROUPS.items()
    if values
]


def test_labml_adam_has_no_other_options():
    labml = pytest.importorskip("labml_nn.optimizers.adam")
    assert listed(labml.Adam, "params") == [*LABML, "optimized_update", "defaults"]
    assert listed(labml.WeightDecay) == ["weight_decay", "weight_decouple", "absolute"]


def test_labml_adam_has_the_same_defaults():
    """``optimized_update`` among them, with eps = 1e-16 where it does not mean Adam's eps."""
    trajectory = record(8, STEPS, SHAPES)
    agree(
        torch_run(labml_torch(), trajectory),
        labml_run(trajectory, {}),
        FLOAT64,
    )
    rule = samestep.Adam(like="labml")
    assert (rule.eps_at, rule.decay, rule.eps) == ("uncorrected", "decoupled", 1e-16)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("eps_at", ORDERS)
@pytest.mark.parametrize("eps", [1e-2, 1e-8])
def test_labml_adam_in_every_order_and_decay_with_groups(eps_at, decay, eps):
    labml = pytest.importorskip("labml_nn.optimizers.adam")
    trajectory = record(8, STEPS, SHAPES)
    decouple, absolute = DECAYS[decay]
    settings = {**LABML, "eps": eps}
    expected = labml_run(
        trajectory,
        {
            **settings,
            "weight_decay": labml.WeightDecay(settings["weight_decay"], decouple, absolute),
            "optimized_update": ORDERS[eps_at],
            "defaults": {"mine": 1.0},
        },
    )
    settings |= {"eps_at": eps_at, "decay": decay}
    found = torch_run(labml_torch(**settings), trajectory)
    assert moved(found)
    assert (
        {"param", "m", "v"} == {slot for slot, _ in found[-1]} == {slot for slot, _ in expected[-1]}
    )
    agree(found, expected, FLOAT64)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("eps_at", ORDERS)
def test_labml_adam_is_the_same_in_jax_and_mlx(eps_at, decay):
    trajectory = record(8, STEPS, SHAPES).rounded("float32")
    settings = {**LABML, "eps": 1e-2, "eps_at": eps_at, "decay": decay}
    others = {**settings, "like": "labml", "groups": LABML_BY_PATH}
    for dtype in ("float64", "float32") if decay == "decoupled" else ("float64",):
        data = (trajectory, dtype)
        expected = torch_run(labml_torch(**settings), *data)
        found = {
            "jax": jax_run(native("jax", "Adam")(**others), *data),
            "mlx": mlx_run(native("mlx", "Adam")(**others), *data),
        }
        for library, snapshots in found.items():
            if dtype == "float64":
                agree(snapshots, expected, FLOAT64, library)
            else:  # optax adds differences, which rounds once more in every step
                agree_in_ulp(snapshots, expected, 2 * FEW, library)


def test_labml_adam_groups_take_what_they_leave_out_from_the_optimizer():
    torch = pytest.importorskip("torch")
    labml = pytest.importorskip("labml_nn.optimizers.adam")
    tensors = [torch.zeros(shape) for shape in SHAPES.values()]
    theirs = labml.Adam(
        labml_groups(tensors, SHAPES),
        **{**LABML, "weight_decay": labml.WeightDecay(LABML["weight_decay"])},
    )
    ours = labml_torch(**LABML)(list(zip(SHAPES, tensors, strict=True)))
    for mine, their in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert {name: mine[name] for name in LABML} == {name: their[name] for name in LABML}


# holocron.optim


HOLOCRON = {peer.rule: peer for peer in dialects()["holocron"].PEERS}
HOLOCRON_RULES = [name for name in HOLOCRON if name not in ("Lookahead", "Scout")]
THREE_BETAS = ("Adan", "AdEMAMix")
IGNORED = {
    "AdaBelief": {
        "foreach": True,
        "maximize": True,
        "capturable": True,
        "differentiable": True,
        "fused": True,
        "decoupled_weight_decay": True,
    },
    "LARS": {"scale_clip": (0.5, 2.0)},
}
"""What is in a signature and is never read; AdaBelief's comes with torch's Adam."""


def holocron() -> Any:
    pytest.importorskip("torch")
    if find_spec("holocron") is None:
        pytest.skip("holocron is not installed")
    return dialects()["holocron"]._optim()


def holocron_run(name: str, trajectory: Any, make: Any) -> list[Snapshot]:
    """Step an optimizer of holocron in float64."""
    holocron()
    peer = replace(HOLOCRON[name], make=lambda tensors, hypers: make(tensors))
    return run(dialects()["holocron"], peer, {}, trajectory)


def holocron_trajectory(name: str) -> Any:
    trajectory = record(9, STEPS, SHAPES)
    peer = HOLOCRON[name]
    return peer.problem(trajectory.taken({*SHAPES} - {*peer.without}))


def holocron_trials(name: str) -> list[dict[str, Any]]:
    aside = {"params", *IGNORED.get(name, {})}
    options = listed(getattr(holocron(), name), *aside)
    return trials(options, triple=name in THREE_BETAS)


@pytest.mark.parametrize("name", HOLOCRON_RULES)
def test_holocron_optim_rules_with_every_option(name):
    theirs, trajectory = getattr(holocron(), name), holocron_trajectory(name)
    seen = []
    for values in holocron_trials(name):
        expected = holocron_run(name, trajectory, lambda tensors, v=values: theirs(tensors, **v))
        found = torch_run(
            lambda named, v=values: native("torch", name)(named, like="holocron", **v),
            trajectory,
        )
        assert moved(found)
        kept = {slot for slot, _ in found[-1]}
        assert kept == {slot for slot, _ in expected[-1]}, values
        agree(found, expected, HOLOCRON[name].tolerance, values)
        seen.append(np.concatenate([found[-1]["param", path].ravel() for path in ("matrix",)]))
    for place, values in enumerate(holocron_trials(name)[1:], 1):
        assert not np.array_equal(seen[0], seen[place]), f"{values} changed nothing"


@pytest.mark.parametrize("name", IGNORED)
def test_holocron_optim_never_reads_some_options(name):
    theirs, trajectory = getattr(holocron(), name), holocron_trajectory(name)
    expected = holocron_run(name, trajectory, theirs)
    for option, value in IGNORED[name].items():
        if option not in listed(theirs):
            continue  # torch's Adam has gained and lost some
        given = {option: value}
        found = holocron_run(name, trajectory, lambda tensors, g=given: theirs(tensors, **g))
        agree(found, expected, 0.0, option)


def test_holocron_optim_lars_clips_norms_here():
    """As its text says: the norm of the parameter, in the ratio, stays within scale_clip."""
    params, grads = {"w": np.array([3.0, -4.0])}, [{"w": np.array([0.5, 1.2])}]
    trajectory = Trajectory(params, grads)
    for scale_clip, size in [((0.0, 2.0), 2.0), ((7.0, 9.0), 7.0), ((1.0, 9.0), 5.0)]:
        found = torch_run(
            lambda named, clip=scale_clip: native("torch", "LARS")(
                named, lr=0.1, like="holocron", scale_clip=clip, weight_decay=0.2
            ),
            trajectory,
        )
        total = grads[0]["w"] + 0.2 * params["w"]
        ratio = size / (1.3 + 0.2 * 5.0)
        np.testing.assert_allclose(
            found[1]["param", "w"], params["w"] - 0.1 * ratio * total, rtol=1e-14
        )


@pytest.mark.parametrize("name", HOLOCRON_RULES)
def test_holocron_optim_rules_are_the_same_in_jax_and_mlx(name):
    trajectory = holocron_trajectory(name).rounded("float32")
    for values in (holocron_trials(name)[-1], {}):
        everywhere(name, (), {"like": "holocron", **values}, trajectory, values == {})


def everywhere(
    name: str, inner: Any, values: dict[str, Any], trajectory: Any, single: bool
) -> None:
    """The native optimizers of torch, JAX (in a jitted scan) and MLX beside each other."""
    dtype = "float32" if single else "float64"
    data = (trajectory, dtype)
    adapter = pytest.importorskip("samestep.torch")
    rule = getattr(samestep, name)(*inner, **values)
    expected = torch_run(lambda named: adapter.bind(rule, named), *data)
    found = {
        "jax": jax_run(native("jax", name)(*inner, **values), *data),
        "mlx": mlx_run(native("mlx", name)(*inner, **values), *data),
    }
    for library, snapshots in found.items():
        if single:  # JAX contracts operations, and optax adds differences, which rounds once more
            agree_in_ulp(snapshots, expected, 2 * FEW, library)
        else:
            agree(snapshots, expected, RECTIFIED if name == "RaLars" else FLOAT64, library)


INSIDE = {
    "SGD": (
        lambda torch, tensors: torch.optim.SGD(tensors, lr=0.01, momentum=0.9, nesterov=True),
        lambda: samestep.SGD(lr=0.01, momentum=0.9, nesterov=True),
    ),
    "AdamW": (
        lambda torch, tensors: torch.optim.AdamW(tensors, lr=0.01, weight_decay=0.1),
        lambda: samestep.AdamW(lr=0.01, weight_decay=0.1),
    ),
    **{
        name: (
            lambda torch, tensors, name=name: getattr(holocron(), name)(
                tensors, lr=0.01, weight_decay=0.1
            ),
            lambda name=name: getattr(samestep, name)(lr=0.01, weight_decay=0.1, like="holocron"),
        )
        for name in ("LARS", "LAMB", "TAdam", "AdaBelief", "AdEMAMix")
    },
}
"""Rules for the wrappers: the library's optimizer and ours."""
WRAPPER_OPTIONS = {"sync_rate": 0.3, "sync_period": 4}


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("name", ["Lookahead", "Scout"])
def test_holocron_optim_wrappers_around_any_rule(name, inside):
    torch, theirs = pytest.importorskip("torch"), getattr(holocron().wrapper, name)
    adapter = pytest.importorskip("samestep.torch")
    assert listed(theirs, "base_optimizer") == [*WRAPPER_OPTIONS]
    build, rule = INSIDE[inside]
    peer = HOLOCRON[name]
    slots = {**HOLOCRON.get(inside, HOLOCRON["AdamP"]).slots, **peer.slots}
    trajectory = holocron_trajectory(name).taken({"matrix", "kernel"})
    for values in ({}, WRAPPER_OPTIONS):
        ours = getattr(samestep, name)(rule(), like="holocron", **values)
        wrapped = replace(
            peer,
            make=lambda tensors, hypers, v=values: theirs(build(torch, tensors), **v),
            slots={slot: place for slot, place in slots.items() if slot in ours.slots()},
        )
        expected = run(dialects()["holocron"], wrapped, {}, trajectory)
        found = torch_run(lambda named, ours=ours: adapter.bind(ours, named), trajectory)
        assert moved(found)
        compared = {slot for slot, _ in found[-1]} & {slot for slot, _ in expected[-1]}
        assert compared == {"param", *ours.slots()} - {*peer.left_out}
        agree(found, expected, FLOAT64, values)


@pytest.mark.parametrize("name", ["Lookahead", "Scout"])
def test_holocron_optim_wrappers_are_the_same_in_jax_and_mlx(name):
    trajectory = holocron_trajectory(name).taken({"matrix"}).rounded("float32")
    for inside in ("AdamW", "LAMB"):
        inner = (INSIDE[inside][1](),)
        values = {"like": "holocron", **WRAPPER_OPTIONS}
        everywhere(name, inner, values, trajectory, inside == "AdamW")


# AdEMAMix of xlstm_jax


XLSTM = {"lr": 0.01, "eps": 1e-4, "weight_decay": 0.1}


def alpha_schedule(end: float, start: float, warmup: int) -> Any:
    """The authors' alpha, but for a warmup of 0, where they divide by it."""
    return lambda step: (1 - step / warmup) * start + step / warmup * end if step < warmup else end


def beta3_schedule(end: float, start: float, warmup: int) -> Any:
    """The authors' beta3: linear in the half-life."""

    def f(beta: float) -> float:
        return float(np.log(0.5) / np.log(beta) - 1)

    def value(step: int) -> float:
        if step >= warmup:
            return end
        mixed = (1 - step / warmup) * f(start) + step / warmup * f(end)
        return float(0.5 ** (1 / (mixed + 1)))

    return value


def ademamix(
    trajectory: Any,
    betas: tuple[float, float],
    beta3: Any,
    alpha: Any,
    *,
    lr: Any,
    eps: float,
    weight_decay: float,
    eps_root: float = 0.0,
    decayed: Any = None,
    slow_start: int = 0,
) -> list[Snapshot]:
    """The authors' formula in float64, with schedules that count from 0.

    ``slow_start``: the step at which the slow average, and its count, begin anew.
    """
    beta1, beta2 = betas
    rows: dict[str, dict[str, Any]] = {"param": dict(trajectory.params)}
    for slot in ("m1", "m2", "v"):
        rows[slot] = {path: np.zeros_like(a) for path, a in trajectory.params.items()}
    snapshots = [nested(rows)]
    for t, step in enumerate(trajectory.grads, 1):
        since = t - 1 - slow_start if t > slow_start else t - 1
        b3, mix = beta3(since), alpha(since)
        rate = lr(t - 1) if callable(lr) else lr
        new: dict[str, dict[str, Any]] = {slot: {} for slot in rows}
        for path, grad in step.items():
            param, m2 = rows["param"][path], rows["m2"][path]
            m2 = np.zeros_like(m2) if slow_start and t == slow_start + 1 else m2
            m1 = beta1 * rows["m1"][path] + (1 - beta1) * grad
            m2 = b3 * m2 + (1 - b3) * grad
            v = beta2 * rows["v"][path] + (1 - beta2) * grad**2
            unbiased = v / (1 - beta2**t)
            update = m1 / (1 - beta1**t) + mix * m2
            update = update / (np.sqrt(unbiased + eps_root) + eps)
            decay = weight_decay if decayed is None or path in decayed else 0.0
            new["param"][path] = param - rate * (update + decay * param)
            new["m1"][path], new["m2"][path], new["v"][path] = m1, m2, v
        rows = new
        snapshots.append(nested(rows))
    return snapshots


@pytest.mark.parametrize("warmup", [0, 1, 60])
@pytest.mark.parametrize("eps_root", [0.0, 1e-3])
def test_xlstm_ademamix_with_its_schedules(warmup, eps_root):
    trajectory = record(10, STEPS, SHAPES)
    optimizer = native("jax", "AdEMAMix")(
        like="xlstm",
        betas=(0.9, 0.99, HalfLife(0.9, 0.9999, warmup)),
        alpha=Linear(0.0, 5.0, warmup),
        eps_root=eps_root,
        **XLSTM,
    )
    expected = ademamix(
        trajectory,
        (0.9, 0.99),
        beta3_schedule(0.9999, 0.9, warmup),
        alpha_schedule(5.0, 0.0, warmup),
        eps_root=eps_root,
        **XLSTM,
    )
    found = jax_run(optimizer, trajectory)
    assert moved(found)
    agree(found, expected, FLOAT64)


def test_xlstm_ademamix_defaults():
    """Those of its signature: no schedules, no decay."""
    rule = samestep.AdEMAMix(like="xlstm")
    assert (rule.lr, rule.betas, rule.alpha) == (1e-3, (0.9, 0.999, 0.9999), 5.0)
    assert (rule.eps, rule.eps_root, rule.weight_decay) == (1e-8, 0.0, 0.0)
    trajectory = record(11, STEPS, SHAPES)
    expected = ademamix(
        trajectory,
        (0.9, 0.999),
        lambda step: 0.9999,
        lambda step: 5.0,
        lr=1e-3,
        eps=1e-8,
        weight_decay=0.0,
    )
    optimizer = native("jax", "AdEMAMix")(like="xlstm")
    agree(jax_run(optimizer, trajectory), expected, FLOAT64)


def test_xlstm_ademamix_takes_a_schedule_of_the_learning_rate_and_a_mask():
    trajectory = record(12, STEPS, SHAPES)
    settings = {**XLSTM, "lr": Linear(0.0, 0.01, 30)}
    optimizer = native("jax", "AdEMAMix")(
        like="xlstm",
        betas=(0.9, 0.99, 0.999),
        mask=lambda parameter: parameter.ndim == 2,
        **settings,
    )
    expected = ademamix(
        trajectory,
        (0.9, 0.99),
        lambda step: 0.999,
        lambda step: 5.0,
        decayed={"matrix"},
        **settings,
    )
    agree(jax_run(optimizer, trajectory), expected, FLOAT64)


def test_xlstm_ademamix_keeps_the_dtype_of_its_averages():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    jnp = jax.numpy
    trajectory = record(13, STEPS, SHAPES).rounded("float32")
    wanted = {"m1": "bfloat16", "m2": "float16", "v": "float32"}
    settings = {
        **XLSTM,
        "betas": (0.9, 0.99, HalfLife(0.9, 0.999, 50)),
        "alpha": Linear(0.0, 5.0, 50),
    }
    narrow = {name: dtype for name, dtype in wanted.items() if dtype != "float32"}
    optimizer = native("jax", "AdEMAMix")(like="xlstm", state_dtype=narrow, **settings)
    params = {path: jnp.asarray(a, "float32") for path, a in trajectory.params.items()}
    stacked = {
        path: jnp.asarray(np.stack([step[path] for step in trajectory.grads]), "float32")
        for path in params
    }

    def body(carry: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    def dtypes(state: Any) -> dict[str, set[str]]:
        return {
            slot: {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}
            for slot, tree in state.slots.items()
        }

    start = optimizer.init(params)
    assert dtypes(start) == {slot: {dtype} for slot, dtype in wanted.items()}
    (new, state), _ = jax.jit(lambda *args: jax.lax.scan(body, *args))((params, start), stacked)
    assert dtypes(state) == dtypes(start)
    assert all(array.dtype == "float32" for array in new.values())
    exact = ademamix(
        trajectory,
        (0.9, 0.99),
        beta3_schedule(0.999, 0.9, 50),
        alpha_schedule(5.0, 0.0, 50),
        **XLSTM,
    )
    for path, array in new.items():
        went = np.abs(exact[-1]["param", path] - exact[0]["param", path]).max()
        error = np.abs(np.asarray(array) - exact[-1]["param", path]).max()
        assert 0 < error < 0.05 * went, path  # what bfloat16 leaves of seven bits


def test_xlstm_ademamix_counts_the_slow_average_by_itself():
    """m2 begun anew at step 40: the schedules of alpha and beta3 do so too, that of lr does not."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    trajectory = record(14, STEPS, SHAPES)
    settings = {
        **XLSTM,
        "lr": Linear(0.0, 0.02, 80),
        "betas": (0.9, 0.99, HalfLife(0.9, 0.9999, 30)),
        "alpha": Linear(0.0, 5.0, 30),
    }
    expected = ademamix(
        trajectory,
        (0.9, 0.99),
        beta3_schedule(0.9999, 0.9, 30),
        alpha_schedule(5.0, 0.0, 30),
        slow_start=40,
        **{**XLSTM, "lr": settings["lr"]},
    )

    # Built in, by two transformations, and injected, by one that is compiled once.
    def plain(start: int, state: Any) -> tuple[Any, Any]:
        made = native("jax", "AdEMAMix")(like="xlstm", slow_start=start, **settings)
        if state is None:
            return made, None
        slots = {**state.slots, "m2": jax.tree.map(jax.numpy.zeros_like, state.slots["m2"])}
        return made, state._replace(slots=slots)

    injector = optax.inject_hyperparams(
        lambda slow_start: native("jax", "AdEMAMix")(
            like="xlstm", slow_start=slow_start, **settings
        )
    )

    def injected(start: int, state: Any) -> tuple[Any, Any]:
        made = injector(slow_start=0)
        if state is None:
            return made, None
        inner = state.inner_state
        slots = {**inner.slots, "m2": jax.tree.map(jax.numpy.zeros_like, inner.slots["m2"])}
        hyperparams = {**state.hyperparams, "slow_start": jax.numpy.asarray(start)}
        return made, state._replace(
            hyperparams=hyperparams, inner_state=inner._replace(slots=slots)
        )

    with jax.enable_x64(True):
        for way in (plain, injected):
            params = {path: jax.numpy.asarray(a) for path, a in trajectory.params.items()}
            made, _ = way(0, None)
            state, update = made.init(params), jax.jit(made.update)
            for t, step in enumerate(trajectory.grads):
                if t == 40:
                    made, state = way(40, state)
                    update = jax.jit(made.update) if way is plain else update
                grads = {path: jax.numpy.asarray(grad) for path, grad in step.items()}
                updates, state = update(grads, state, params)
                params = optax.apply_updates(params, updates)
                row = nested({"param": params})
                agree([expected[0], row], [expected[0], expected[t + 1]], FLOAT64, (way, t))


def test_xlstm_ademamix_inside_a_chain():
    """Gradients clipped before it and a schedule after it, everything in one jitted scan."""
    optax = pytest.importorskip("optax")
    trajectory = record(15, STEPS, SHAPES)
    mine = {
        "betas": (0.9, 0.99, HalfLife(0.9, 0.9999, 60)),
        "alpha": Linear(0.0, 5.0, 60),
        "eps": 1e-4,
        "weight_decay": 0.1,
    }
    chain = optax.chain(
        optax.clip_by_global_norm(0.5),
        native("jax", "AdEMAMix")(like="xlstm", lr=1.0, **mine),
        optax.scale_by_schedule(Linear(0.0, 0.02, 50)),
    )
    norms = [
        np.sqrt(sum(np.sum(grad * grad) for grad in step.values())) for step in trajectory.grads
    ]
    assert min(norms) < 0.5 < max(norms)
    clipped = replace(
        trajectory,
        grads=[
            {path: grad * min(1.0, 0.5 / max(norm, 1e-30)) for path, grad in step.items()}
            for step, norm in zip(trajectory.grads, norms, strict=True)
        ],
    )
    expected = ademamix(
        clipped,
        (0.9, 0.99),
        beta3_schedule(0.9999, 0.9, 60),
        alpha_schedule(5.0, 0.0, 60),
        lr=lambda step: 0.02 * min(step / 50, 1.0),
        eps=1e-4,
        weight_decay=0.1,
    )
    for optimizer in (chain, optax.masked(chain, dict.fromkeys(SHAPES, True))):
        found = chain_run(optimizer, trajectory)
        agree(found, [nested(select(row)) for row in expected], FLOAT64)


def select(row: Snapshot) -> dict[str, Any]:
    return {"param": {path: value for (slot, path), value in row.items() if slot == "param"}}


def chain_run(optimizer: Any, trajectory: Any) -> list[Snapshot]:
    """Parameters of any optax transformation, in float64."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        params = {path: jax.numpy.asarray(a) for path, a in trajectory.params.items()}
        stacked = {
            path: jax.numpy.asarray(np.stack([step[path] for step in trajectory.grads]))
            for path in params
        }

        def body(carry: Any, grads: Any) -> Any:
            updates, state = optimizer.update(grads, carry[1], carry[0])
            new = optax.apply_updates(carry[0], updates)
            return (new, state), new

        start = (params, optimizer.init(params))
        taken = jax.jit(lambda *args: jax.lax.scan(body, *args)[1])(start, stacked)
        taken = {path: np.asarray(array) for path, array in taken.items()}
    rows = [trajectory.params]
    rows += [{path: a[t] for path, a in taken.items()} for t in range(len(trajectory.grads))]
    return [nested({"param": row}) for row in rows]


def test_xlstm_ademamix_masked_and_with_injected_hyperparameters():
    """A mask leaves parameters out altogether; an injected alpha's schedule is called by optax."""
    optax = pytest.importorskip("optax")
    trajectory = record(16, STEPS, SHAPES)
    betas = (0.9, 0.99, HalfLife(0.9, 0.9999, 30))
    inject = optax.inject_hyperparams(
        lambda lr, alpha, eps, weight_decay: native("jax", "AdEMAMix")(
            lr, betas, alpha=alpha, eps=eps, weight_decay=weight_decay, like="xlstm"
        )
    )
    optimizer = inject(lr=0.01, alpha=Linear(0.0, 5.0, 30), eps=1e-4, weight_decay=0.1)
    masked = optax.chain(
        optax.masked(optimizer, {"scalar": False, "matrix": True, "kernel": True}),
        optax.masked(optax.set_to_zero(), {"scalar": True, "matrix": False, "kernel": False}),
    )
    expected = ademamix(
        trajectory,
        (0.9, 0.99),
        beta3_schedule(0.9999, 0.9, 30),
        alpha_schedule(5.0, 0.0, 30),
        **XLSTM,
    )
    rows = [select(row) for row in expected]
    for row in rows:
        row["param"]["scalar"] = trajectory.params["scalar"]
    agree(chain_run(masked, trajectory), [nested(row) for row in rows], FLOAT64)
