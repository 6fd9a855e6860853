"""Trainings in MLX that are interrupted go on exactly: modules, schedules, compiled steps.

Every training is saved with ``samestep.save`` and as MLX's documentation does it, and a new process
takes it from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn, utils

import samestep
import samestep.mlx as adapter
from samestep.conformance.harness.interrupted import asked_for, in_a_new_process
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import all_rules, typical
from samestep.schedules import CosineDecay

HALF, STEPS = 7, 14
BY_HAND = 0.0123456789
"""A learning rate that float32 rounds."""
WAYS = ("samestep", "recipe")


class Net(nn.Module):
    """Layers in a list and in a dict, some of them frozen."""

    def __init__(self, seed, dtype=mx.float32):
        super().__init__()
        mx.random.seed(seed)
        self.blocks = [nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), nn.Linear(4, 3)]
        self.heads = {"mean": nn.Linear(3, 2), "fixed": nn.Linear(3, 2)}
        self.set_dtype(dtype)
        self.heads["fixed"].freeze()


@dataclass
class Training:
    """A model, its optimizer, and what is done before a step."""

    model: Any
    optimizer: Any
    compiled: bool = False
    change: Callable[[Training, int], None] = lambda run, step: None

    def train(self, steps):
        """Steps with gradients that change sign and scale."""
        update = self.optimizer.update
        if self.compiled:
            state = [self.model.state, self.optimizer.state]
            update = mx.compile(
                lambda _, grads: self.optimizer.update(self.model, grads), state, state
            )
        for step in steps:
            self.change(self, step)
            update(self.model, gradients(self.model, step))
            mx.eval(self.model.parameters(), self.optimizer.state)
        return self


def gradients(model, step):
    keys = iter(mx.random.split(mx.random.key(step), 99))

    def one(param):
        scale = 10.0 ** mx.random.randint(-3, 2, param.shape, key=next(keys))
        return (mx.random.normal(param.shape, key=next(keys)) * scale).astype(param.dtype)

    return utils.tree_map(one, model.trainable_parameters())


def everything(run):
    """Parameters and state by path."""
    trees = {"params": run.model.parameters(), "state": run.optimizer.state}
    return dict(utils.tree_flatten(utils.tree_map(lambda array: array, trees)))


def differing(one, other):
    """Paths of what is not the same to the last bit."""
    assert one.keys() == other.keys()
    return [
        key
        for key in one
        if one[key].dtype != other[key].dtype or not mx.array_equal(one[key], other[key]).item()
    ]


def plain(rule, dtype=mx.float32, **options):
    return lambda seed: Training(Net(seed, dtype), adapter.bind(rule, **options))


def whole(rule):
    """The whole step in mx.compile, which has captured the state."""
    return lambda seed: Training(Net(seed), adapter.bind(rule), compiled=True)


def rate_by_hand(seed, compiled=False):
    """A learning rate that is set to a number in mid-course; another one at the beginning."""
    run = Training(Net(seed), adapter.bind(adamw(lr=0.02 if seed else 0.01)), compiled)

    def change(run, step):
        if step == 3:
            run.optimizer.learning_rate = BY_HAND

    run.change = change
    return run


def thawed(seed):
    """A layer that joins before the file and one that joins after it."""
    run = Training(Net(seed), adapter.bind(samestep.Adan(weight_decay=0.1)))
    run.model.blocks[0].freeze()
    run.model.heads["mean"].freeze()
    if seed:
        run.model.blocks[0].unfreeze()

    def change(run, step):
        if step == 4:
            run.model.blocks[0].unfreeze()
        if step == HALF + 3:
            run.model.heads["mean"].unfreeze()

    run.change = change
    return run


def adamw(**values):
    return samestep.AdamW(**{"lr": 0.01, "weight_decay": 0.1, **values})


def taken(rule):
    """The rule for the parameters that it takes, AdamW for the others."""
    where = samestep.Where(min_ndim=rule.min_ndim)
    return samestep.route((where, rule), adamw()) if rule.min_ndim else rule


ROUTED = samestep.route((samestep.Where(min_ndim=2), samestep.Muon()), samestep.Prodigy(lr=0.5))
TRAININGS = {
    **{cls.__name__: plain(taken(typical(cls)), execution="reference") for cls in all_rules()},
    "route": plain(ROUTED, execution="packed"),
    "grouped": plain(adamw(groups=[(samestep.Where(ndim=1), {"lr": 0.5})]), execution="packed"),
    "scheduled": plain(adamw(lr=CosineDecay(0.1, STEPS), betas=(0.8, 0.99)), execution="packed"),
    "narrow": plain(adamw(state_dtype="float32"), mx.bfloat16, execution="packed"),
    "narrow state": plain(adamw(state_dtype={"m": "bfloat16"}), execution="packed"),
    "packed": plain(samestep.Prodigy(weight_decay=0.1), execution="packed"),
    "compiled": plain(adamw(), execution="compiled"),
    "whole step compiled": whole(samestep.Adan(weight_decay=0.1)),
    "whole step compiled, all parameters": whole(samestep.Prodigy(weight_decay=0.1)),
    "rate by hand": rate_by_hand,
    "rate by hand, compiled": partial(rate_by_hand, compiled=True),
    "thawed": thawed,
}


each_training = pytest.mark.parametrize(
    "name", [*each_rule(), *(name for name in TRAININGS if name not in samestep.rules.__all__)]
)


def save(way, path, run):
    if way == "samestep":
        samestep.save(path / "state.safetensors", run.optimizer, run.model)
        return
    run.model.save_weights(str(path / "model.safetensors"))
    state = dict(utils.tree_flatten(run.optimizer.state))
    mx.save_safetensors(str(path / "optimizer.safetensors"), state)


def load(way, path, run):
    if way == "samestep":
        samestep.load(path / "state.safetensors", run.optimizer, run.model)
        return
    run.model.load_weights(str(path / "model.safetensors"))
    state = mx.load(str(path / "optimizer.safetensors"))
    run.optimizer.state = utils.tree_unflatten(list(state.items()))


def resume(folder):
    """What the new process does: load, go on, and write down where each training ends."""
    for path in folder.iterdir():
        name, way = path.name.split("-")
        run = TRAININGS[name](1)
        load(way, path, run)
        if name.startswith("rate by hand") and way == "recipe":
            run.optimizer.learning_rate = BY_HAND  # which the state has in float32
        mx.save_safetensors(str(path / "loaded.safetensors"), everything(run))
        run.train(range(HALF, STEPS))
        mx.save_safetensors(str(path / "end.safetensors"), everything(run))


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """Every training halfway, in both ways, and what another process has made of it."""
    found = tmp_path_factory.mktemp("resuming")
    for name in asked_for(request):
        run = TRAININGS[name](0).train(range(HALF))
        for way in WAYS:
            (found / f"{name}-{way}").mkdir()
            save(way, found / f"{name}-{way}", run)
    in_a_new_process(__name__, f"resume(Path({str(found)!r}))")
    return found


@each_training
def test_a_new_process_goes_on_exactly(name, folder):
    """What is loaded is what was saved, and seven steps later it is what it would have been."""
    run = TRAININGS[name](0).train(range(HALF))
    half = everything(run)
    end = everything(run.train(range(HALF, STEPS)))
    assert differing(half, {key: end[key] for key in half})
    for way in WAYS:
        path = folder / f"{name}-{way}"
        loaded = mx.load(str(path / "loaded.safetensors"))
        assert differing(loaded, half) == [], way
        assert differing(mx.load(str(path / "end.safetensors")), end) == [], way


def test_a_learning_rate_set_to_a_number_is_rounded_in_the_state_and_not_in_a_file(
    tmp_path,
):
    run = rate_by_hand(0).train(range(HALF))
    others = {way: rate_by_hand(1) for way in WAYS}
    for way, other in others.items():
        save(way, tmp_path, run)
        load(way, tmp_path, other)
    rounded = mx.array(BY_HAND).item()
    assert rounded != BY_HAND
    assert others["samestep"].optimizer.lr == BY_HAND == run.optimizer.lr
    assert others["recipe"].optimizer.lr == rounded


def test_a_compiled_step_goes_on_with_a_state_that_is_loaded_into_it(tmp_path):
    """It has captured the state, which is therefore changed in place."""
    run = whole(adamw())(0)
    state = [run.model.state, run.optimizer.state]
    traced = []

    def update(grads):
        traced.append(1)
        run.optimizer.update(run.model, grads)

    step = mx.compile(update, state, state)

    def train(steps):
        for t in steps:
            step(gradients(run.model, t))
            mx.eval(state)
        return everything(run)

    train(range(HALF))
    save("samestep", tmp_path, run)
    first = train(range(HALF, STEPS))
    held = run.optimizer.state
    load("samestep", tmp_path, run)
    assert run.optimizer.state is held
    assert differing(train(range(HALF, STEPS)), first) == []
    assert len(traced) <= 2


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    run = plain(adamw())(0).train(range(3))
    save("samestep", tmp_path, run)
    for other, words in (
        (plain(samestep.Lion())(1), "it is the state of AdamW, not of Lion"),
        (Training(Net(1, mx.bfloat16), adapter.bind(adamw())), "is bfloat16 here and float32 in"),
    ):
        other.train(range(2))
        before = everything(other)
        with pytest.raises(samestep.CheckpointError, match=words):
            load("samestep", tmp_path, other)
        assert differing(everything(other), before) == []
