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
from typing import Any

import numpy
import numpy as np
import pytest

import samestep
from samestep.backend import Snapshot
from samestep.conformance.dialects import FLOAT64, dialects, nested
from samestep.parity import compare, record
from samestep.rule import registry
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
SHAPES = {"scalar": (), "bias": (5,), "matrix": (4, 3), "kernel": (2, 3, 2, 2)}
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


# Runs of the native optimizers; each gives parameters and state before and after every step.


def torch_run(make: Any, params: Any, grads: Any, dtype: str = "float64") -> list[Snapshot]:
    """Step what ``make`` makes of named tensors."""
    torch = pytest.importorskip("torch")
    wanted = getattr(torch, dtype)
    tensors = {path: torch.tensor(array, dtype=wanted) for path, array in params.items()}
    optimizer = make(list(tensors.items()))
    optimizer.init_state()

    def snapshot() -> Snapshot:
        taken: dict[str, Any] = {"param": {path: t.numpy() for path, t in tensors.items()}}
        for path, tensor in tensors.items():
            for slot, value in optimizer.state[tensor].items():
                taken.setdefault(slot, {})[path] = value
        taken.pop("step", None)
        return nested(taken)

    snapshots = [snapshot()]
    for step in grads:
        for path, tensor in tensors.items():
            tensor.grad = torch.tensor(step[path], dtype=wanted)
        optimizer.step()
        snapshots.append(snapshot())
    return snapshots


def jax_run(optimizer: Any, params: Any, grads: Any, dtype: str = "float64") -> list[Snapshot]:
    """Step an optax transformation of ours in a jitted scan, whose types must not change."""
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    with jax.enable_x64(dtype == "float64"):
        native = {path: jax.numpy.asarray(a, dtype) for path, a in params.items()}
        stacked = {
            path: jax.numpy.asarray(np.stack([step[path] for step in grads]), dtype)
            for path in params
        }

        def body(carry: Any, step: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(step, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), {"param": params, **state.slots}

        state = optimizer.init(native)
        first = {"param": native, **state.slots}
        taken = jax.jit(lambda *args: jax.lax.scan(body, *args)[1])((native, state), stacked)
        taken = jax.tree.map(np.asarray, taken)
        rows = [first, *(jax.tree.map(lambda x, t=t: x[t], taken) for t in range(len(grads)))]
        return [nested(row) for row in rows]


def mlx_run(optimizer: Any, params: Any, grads: Any, dtype: str = "float64") -> list[Snapshot]:
    """Step an MLX optimizer of ours."""
    mx = pytest.importorskip("mlx.core")

    def snapshot(values: Any) -> Snapshot:
        taken = {"param": {path: np.array(value) for path, value in values.items()}}
        for slot in optimizer.rule.slots():
            kept = {path: optimizer.state[path][slot] for path in values}
            taken[slot] = {
                path: [*map(np.array, v)] if isinstance(v, (list, tuple)) else np.array(v)
                for path, v in kept.items()
            }
        return nested(taken)

    with mx.stream(mx.cpu):  # Metal has no float64
        values = {path: mx.array(array, getattr(mx, dtype)) for path, array in params.items()}
        optimizer.init(values)
        snapshots = [snapshot(values)]
        for step in grads:
            native = {path: mx.array(grad, getattr(mx, dtype)) for path, grad in step.items()}
            values = optimizer.apply_gradients(native, values)
            mx.eval(values, optimizer.state)
            snapshots.append(snapshot(values))
    return snapshots


def agree(ours: list[Snapshot], theirs: list[Snapshot], tolerance: float, what: Any = "") -> None:
    """Compare what both hold; a deviation is relative to the largest value or change so far."""
    assert len(ours) == len(theirs)
    assert any(slot == "param" for slot, _ in theirs[0])
    sizes: dict[Any, Any] = {}
    before = ours[0]
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for key in mine.keys() & other.keys():
            size = np.fmax(np.abs(mine[key]), np.abs(mine[key] - before[key]))
            sizes[key] = np.fmax(size, sizes.get(key, 0.0))
            error = np.abs(mine[key] - other[key].reshape(mine[key].shape))
            worst = np.max(error / np.where(sizes[key] == 0, 1.0, sizes[key]), initial=0.0)
            assert worst <= tolerance, f"{what}: {key} after step {step} differs by {worst:.2g}"
        before = mine


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
def mlx_theirs(optimizer: Any, slots: Any, params: Any, grads: Any) -> list[Snapshot]:
    """Step an optimizer of MLX in float32."""
    mx = pytest.importorskip("mlx.core")

    def snapshot(values: Any) -> Snapshot:
        taken = {"param": {path: np.array(value) for path, value in values.items()}}
        for slot, name in slots.items():
            taken[slot] = {path: np.array(optimizer.state[path][name]) for path in values}
        return nested(taken)

    values = {path: mx.array(array, mx.float32) for path, array in params.items()}
    optimizer.init(values)
    snapshots = [snapshot(values)]
    for step in grads:
        gradients = {path: mx.array(grad, mx.float32) for path, grad in step.items()}
        values = optimizer.apply_gradients(gradients, values)
        mx.eval(values, optimizer.state)
        snapshots.append(snapshot(values))
    return snapshots


@pytest.mark.parametrize("name", MLX_NAMES)
def test_mlx_optimizers_rules_are_those_of_mlx(name):
    optimizers = pytest.importorskip("mlx.optimizers")
    trajectory = record(3, STEPS, SHAPES).rounded("float32")
    theirs = getattr(optimizers, name)
    for values in trials(listed(theirs, "learning_rate")):
        values = {"lr": 0.01, **values}
        ours = native("mlx", name)(like="mlx", **values)
        arguments = {n: v for n, v in values.items() if n != "lr"}
        expected = mlx_theirs(
            theirs(values["lr"], **arguments),
            {s: n for s, n in MLX[name].slots.items() if s in ours.rule.slots()},
            trajectory.params,
            trajectory.grads,
        )
        found = mlx_run(ours, trajectory.params, trajectory.grads, "float32")
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
        found = mlx_run(optimizer, {"w": np.array(vector.start)}, grads, dtype)
        assert {slot for slot, _ in found[0]} == {*vector.after}
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
    found, expected = mlx_flat(found), mlx_flat(expected)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=FEW * SINGLE, atol=FEW * SINGLE)


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
        assert not any("scale" in path or path.startswith("layers.0.b")
                       for path in mlx_flat(optimizer.state))


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
    for found, expected in (after, first):
        found, expected = mlx_flat(found), mlx_flat(expected)
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", JAX_EXAMPLES)
def test_jax_example_libraries_optimizers_are_triples_of_our_rules(name, dtype):
    jax, theirs = pytest.importorskip("jax"), examples()
    values = JAX_EXAMPLES[name][1]
    assert [*values] == listed(getattr(theirs, name), "step_size")
    trajectory = record(4, STEPS, SHAPES).rounded(dtype)
    with jax.enable_x64(dtype == "float64"):
        for given in [{"mass": 0.9} if "mass" in values else {}, values]:
            rule, expected = example(name, given)
            found, wanted = (
                scanned(functions, trajectory.params, trajectory.grads, dtype)
                for functions in (samestep.triple(rule), expected)
            )
            assert moved(found)
            if dtype == "float64":
                agree(found, wanted, FLOAT64, given)
            else:
                import sys
                print(name, given, compare(found, wanted, "float32").ulp, file=sys.stderr)
