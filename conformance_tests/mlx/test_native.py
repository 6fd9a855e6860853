"""States of MLX's own optimizers become ours, and ours theirs: both go on alike.

The states of single optimizers are compared in ``checkpoint/test_foreign_states``. Everything is in
float64, on the CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samestep
from samestep.checkpoints import Checkpoint, CheckpointError, read
from samestep.checkpoints.description import made
from samestep.conformance.rules.test_dialects import FURTHEST

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")
adapter = pytest.importorskip("samestep.mlx")
converter = pytest.importorskip("samestep.mlx.natives")
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402

FLOAT64 = 1e-12
FLOAT32 = 6e-6
"""MLX takes the corrections of bias in float32."""
STEPS, MORE = 30, 10
LR = 2.0**-6
SHAPES = {"enc.w": (5, 4), "enc.b": (4,), "head.0": (3, 2)}


@pytest.fixture(autouse=True)
def _on_the_cpu() -> Iterator[None]:
    with mx.stream(mx.cpu):
        yield


def tree(seed: int, spread: int = 0, dtype: Any = None) -> Any:
    """Numbers of either sign in the shapes of the parameters, over some decades."""
    rng = np.random.default_rng(seed)
    dtype = mx.float64 if dtype is None else dtype
    flat = [
        (path, rng.normal(size=shape) * 10.0 ** rng.integers(-spread, 1, size=shape))
        for path, shape in SHAPES.items()
    ]
    return tree_unflatten([(path, mx.array(array, dtype=dtype)) for path, array in flat])


class Native:
    """An optimizer with parameters, in training."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.params, self.taken = optimizer, tree(0), 0

    def run(self, steps: int) -> Any:
        for _ in range(steps):
            self.taken += 1
            grads = tree(self.taken, spread=3)
            self.params = self.optimizer.apply_gradients(grads, self.params)
            mx.eval(self.params, self.optimizer.state)
        return self.params


def compare(ours: Any, theirs: Any, tolerance: float) -> None:
    left, right = dict(tree_flatten(ours)), dict(tree_flatten(theirs))
    assert left.keys() == right.keys()
    for path, array in right.items():
        mine, other = np.array(left[path]), np.array(array)
        size = np.max(np.abs(other))
        agreed = bool(np.all(np.abs(mine - other) <= tolerance * size))
        assert agreed, f"{path}: {np.max(np.abs(mine - other)) / size}"


def same(mine: Any, other: Any) -> bool:
    """Two trees, to the last bit and dtype."""
    left, right = dict(tree_flatten(mine)), dict(tree_flatten(other))
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and np.array_equal(np.array(left[key]), right[key])
        for key in left
    )


def rule_of(saved: Checkpoint) -> Any:
    """The rules in a checkpoint as one."""
    pairs = [
        (functools.partial(lambda path, parameter: parameter.path == path, path), made(own.rule))
        for path, own in saved.parameters.items()
    ]
    rules = [rule for _, rule in pairs]
    return rules[0] if rules.count(rules[0]) == len(rules) else samestep.route(*pairs)


def goes_on(make: Callable[[], Any], path: Path, tolerance: float = FLOAT64) -> None:
    """There and back, through files."""
    native = Native(make())
    native.run(STEPS)
    samestep.save(path, native.optimizer, native.params)
    again = make()
    restored = samestep.load(path, again, tree(1))
    assert same(again.state, native.optimizer.state) and same(restored, native.params)
    rule = rule_of(read(path))
    ours = adapter.bind(rule, execution="reference")
    params = samestep.load(path, ours, tree(1))
    for step in range(STEPS + 1, STEPS + MORE + 1):
        params = ours.apply_gradients(tree(step, spread=3), params)
    compare(params, native.run(MORE), tolerance)
    samestep.save(path, ours, params)
    back = Native(make())
    back.params = samestep.load(path, back.optimizer, tree(1))
    back.taken = native.taken
    compare(back.run(MORE), native.run(MORE), tolerance)


def halved(step: Any) -> Any:
    return LR * 0.5 ** (step // 64)


SETS: dict[str, Callable[[], Any]] = {
    "scheduled": lambda: optimizers.AdamW(halved, eps=1e-2),
    "MultiOptimizer": lambda: optimizers.MultiOptimizer(
        [optimizers.AdamW(LR, eps=1e-2), optimizers.SGD(LR, momentum=0.9)],
        [lambda path, _: path.startswith("enc")],
    ),
}
CASES: dict[str, Callable[[], Any]] = SETS | {
    case.label: functools.partial(case.peer.make, optimizers, case.rule.hypers)
    for case in FURTHEST
    if case.like == "mlx"
}


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own hyperparameters")
@pytest.mark.parametrize("name", SETS)
def test_a_rule_goes_on_where_mlx_stopped_and_back(name: str, tmp_path: Path) -> None:
    goes_on(SETS[name], tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_a_state_that_mlx_users_save_is_read_alike(name: str, tmp_path: Path) -> None:
    native = Native(CASES[name]())
    native.params = tree(0, dtype=mx.float32)
    for step in range(3):
        grads = tree(step + 1, spread=3, dtype=mx.float32)
        native.params = native.optimizer.apply_gradients(grads, native.params)
    flat = dict(tree_flatten(native.optimizer.state))
    path = str(tmp_path / "state.safetensors")
    mx.save_safetensors(path, flat)
    expected = samestep.checkpoint(native.optimizer, native.params)
    givers = [native.optimizer, rule_of(expected)]
    for found in [adapter.from_state(mx.load(path), giver, native.params) for giver in givers]:
        assert [*found.parameters] == [*expected.parameters]
        for mine, other in zip(
            found.parameters.values(), expected.parameters.values(), strict=True
        ):
            assert (mine.step, made(mine.rule)) == (other.step, made(other.rule))
            for (slot, left), (_, right) in zip(mine.tensors(), other.tensors(), strict=True):
                assert left.dtype == right.dtype == "float32"
                assert np.array_equal(left.bits, right.bits), slot


def test_a_schedule_is_said_where_it_becomes_a_number() -> None:
    native = Native(optimizers.AdamW(halved))
    native.run(2)
    saved = samestep.checkpoint(native.optimizer, native.params)
    described = {"schedule": repr(halved), "value": LR}
    assert all(own.rule["values"]["lr"] == described for own in saved.parameters.values())
    for fixed in (optimizers.AdamW(0.5), adapter.AdamW(lr=0.5, like="mlx")):
        with pytest.warns(UserWarning, match=f"lr.*{LR}.* by <function halved"):
            samestep.restore(fixed, saved, native.params)
        assert float(fixed.learning_rate) == LR
    samestep.restore(optimizers.AdamW(halved), saved, native.params)  # says nothing


def test_a_class_stands_for_its_defaults() -> None:
    native = Native(optimizers.AdamW(LR))
    native.run(2)
    found = adapter.from_state(native.optimizer.state, optimizers.AdamW, native.params)
    values = found.parameters["enc.w"].rule["values"]
    assert (values["lr"], values["weight_decay"]) == (LR, 0.01)
    assert values["bias_correction"] is False and found.step == 2


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (optimizers.SGD, "has m, which mlx.optimizers.SGD does not keep"),
        (optimizers.SGD(LR, momentum=0.9), "has m, which mlx.optimizers.SGD does not keep"),
        (optimizers.Lion, "has v, which mlx.optimizers.Lion does not keep"),
        (samestep.SGD(like="mlx"), "has m, which mlx.optimizers.SGD does not keep"),
    ],
)
def test_a_state_is_not_taken_for_that_of_another_class(given: Any, text: str) -> None:
    native = Native(optimizers.AdamW(LR))
    native.run(2)
    with pytest.raises(CheckpointError, match=text):
        adapter.from_state(native.optimizer.state, given, native.params)


def test_a_momentum_is_not_lost_without_the_number_of_it() -> None:
    native = Native(optimizers.SGD(LR, momentum=0.9))
    native.run(2)
    with pytest.raises(CheckpointError, match=r"'enc.w' has v, which SGD\(.* does not keep"):
        adapter.from_state(native.optimizer.state, optimizers.SGD, native.params)
    bare = Native(optimizers.SGD(LR))
    bare.run(2)  # MLX keeps zeros
    assert adapter.from_state(bare.optimizer.state, optimizers.SGD, bare.params).step == 2


def test_a_model_is_restored_in_place_and_takes_the_numbers(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer = optimizers.AdamW(LR, [0.5, 0.75], 1e-3, 0.25)
    step = nn.value_and_grad(model, lambda m, x: m(x).sum())
    for _ in range(3):
        optimizer.update(model, step(model, mx.ones((1, 3)))[1])
    path = tmp_path / "x.safetensors"
    samestep.save(path, optimizer, model)
    fresh = optimizers.AdamW(0.5)
    assert samestep.load(path, fresh, other) is None
    assert same(fresh.state, optimizer.state) and same(other.parameters(), model.parameters())
    assert fresh.betas == [0.5, 0.75] and (fresh.eps, fresh.weight_decay) == (1e-3, 0.25)


def test_frozen_layers_have_no_state() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model.layers[0].freeze()
    optimizer = optimizers.Adam(LR)
    step = nn.value_and_grad(model, lambda m, x: m(x).sum())
    for _ in range(2):
        optimizer.update(model, step(model, mx.ones((1, 3)))[1])
    saved = samestep.checkpoint(optimizer, model)
    assert saved.parameters["layers.0.weight"].slots is None
    assert saved.parameters["layers.1.weight"].step == 2
    fresh = optimizers.Adam(LR)
    samestep.restore(fresh, saved, model)
    assert "m" in fresh.state["layers"][1]["weight"] and not fresh.state["layers"][0]["weight"]
    optimizer.update(model, step(model, mx.ones((1, 3)))[1])


def test_a_correspondence_that_is_wrong_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"

    def corrected() -> Any:
        return optimizers.AdamW(LR, [0.9, 0.99], 1e-2, 0.1, True)

    goes_on(corrected, path, FLOAT32)
    with monkeypatch.context() as patch:
        patch.setattr(converter, "_step", lambda *_: 1)
        with pytest.raises(AssertionError):
            goes_on(corrected, path, FLOAT32)


def test_a_rate_that_adafactor_ignores_is_carried_neither_way(tmp_path: Path) -> None:
    """With ``relative_step`` its largest step is 0.01, whatever the learning rate."""
    goes_on(lambda: optimizers.Adafactor(learning_rate=0.5), tmp_path / "x", 2e-6)
    saved = samestep.checkpoint(optimizers.Adafactor(), tree(0))
    own = adapter.Adafactor(lr=0.5, like="mlx")
    own.init(tree(0))
    other = samestep.checkpoint(own, tree(0))
    with pytest.raises(CheckpointError, match=r"has lr = 0\.5; mlx.optimizers.Adafactor has no lr"):
        samestep.restore(optimizers.Adafactor(), other, tree(0))
    samestep.restore(optimizers.Adafactor(0.5), saved, tree(0))
    found = adapter.from_state({"learning_rate": 0.5, "step": mx.array(0)}, rule_of(saved), tree(0))
    assert {own.rule["values"]["lr"] for own in found.parameters.values()} == {0.01}


class Own(optimizers.Optimizer):  # type: ignore[misc]
    """An optimizer of a user's."""


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a user's own": (Own, "Own cannot be carried: there is no rule here"),
    "a subclass": (lambda: type("Mine", (optimizers.Adam,), {})(LR), "Mine cannot be carried"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_is_refused_by_name(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(CheckpointError, match=words):
        samestep.checkpoint(make(), tree(0))


def test_parameters_must_be_given() -> None:
    with pytest.raises(TypeError, match="give the model"):
        samestep.checkpoint(optimizers.Adam(LR))


def other_rule(saved: Checkpoint) -> tuple[Any, str]:
    return optimizers.Lion(LR), "it is the state of AdamW, not of Lion"


def other_option(saved: Checkpoint) -> tuple[Any, str]:
    return optimizers.AdamW(LR, bias_correction=True), "bias_correction is True here and False"


def narrow(saved: Checkpoint) -> tuple[Any, str]:
    wide = saved.parameters["head.0"]
    wide.slots["v"] = type(wide.slots["v"])(wide.slots["v"].values() / 3, "float64")
    return optimizers.AdamW(LR), "state of parameter 'head.0' is .*float64 .*float32"


@pytest.mark.parametrize("spoil", [other_rule, other_option, narrow])
def test_after_a_refusal_nothing_is_changed(spoil: Callable[..., Any]) -> None:
    params = tree(0, dtype=mx.float32)
    source = optimizers.AdamW(LR)
    for step in range(2):
        params = source.apply_gradients(tree(step + 1, dtype=mx.float32), params)
    saved = samestep.checkpoint(source, params)
    target, words = spoil(saved)
    kept = tree(5, dtype=mx.float32)
    kept = target.apply_gradients(tree(6, dtype=mx.float32), kept)
    before = tree_map(mx.array, target.state)
    with pytest.raises(CheckpointError, match=words):
        samestep.restore(target, saved, kept)
    assert same(target.state, before)
    model = {"enc": kept["enc"]}
    with pytest.raises(CheckpointError, match="not in the model: head"):
        samestep.restore(target, saved, model)
    assert same(target.state, before)
