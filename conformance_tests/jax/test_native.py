"""States of optax's own transformations become ours, and ours theirs: both go on alike.

The states of single transformations are compared in ``checkpoint/test_foreign_states``; here they
are in Optax's containers. optax takes 30 steps; its state goes through a file into our rule in
NumPy, and both take 10 more. Then ours goes back into a fresh state of optax, and that goes on
beside the one that never stopped. Everything is in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samestep
from samestep import Where
from samestep.checkpoints import Checkpoint, CheckpointError, read
from samestep.conformance.peers import dialects
from samestep.conformance.peers.optax import multi_steps
from samestep.conformance.rules.test_dialects import made
from samestep.rule import Rule

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
adapter = pytest.importorskip("samestep.jax")
states = pytest.importorskip("samestep.jax.natives")
counting = pytest.importorskip("samestep.jax.natives.counting")

FLOAT64 = 1e-12
STEPS, MORE = 30, 10
SHAPES = {"enc": {"w": (5, 4), "b": (4,)}, "head": [(3, 2)]}
PEERS = dialects()["optax"].PEERS


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with jax.enable_x64(True):
        yield


def tree(seed: int, spread: int = 0) -> Any:
    """Numbers of either sign in the shapes of the parameters, over some decades."""
    rng = np.random.default_rng(seed)

    def one(shape: Any) -> Any:
        scale = 10.0 ** rng.integers(-spread, 1, size=shape)
        return jax.numpy.asarray(rng.normal(size=shape) * scale)

    return jax.tree.map(one, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


def plain(values: Any) -> Any:
    return jax.tree.map(np.asarray, values)


class Native:
    """A transformation of optax, its parameters and its state, in training."""

    def __init__(self, transformation: Any) -> None:
        self.transformation = transformation
        self.params, self.taken = tree(0), 0
        self._update = jax.jit(transformation.update)
        self.state = transformation.init(self.params)
        if isinstance(self.state, optax.LookaheadState):
            self.params = optax.LookaheadParams.init_synced(self.params)

    def fresh(self) -> Any:
        return self.transformation.init(self.params)

    def run(self, steps: int) -> Any:
        for _ in range(steps):
            self.taken += 1
            grads = tree(self.taken, spread=3)
            updates, self.state = self._update(grads, self.state, self.params)
            self.params = optax.apply_updates(self.params, updates)
        return getattr(self.params, "fast", self.params)


def taken(native: Native, rule: Any) -> Checkpoint:
    """A checkpoint; the step is given where optax counts none."""
    try:
        found: Checkpoint = samestep.checkpoint(rule, native.params, native.state)
    except CheckpointError as error:
        if "step=" not in str(error):
            raise
        found = adapter.from_optax(rule, native.params, native.state, step=native.taken)
    return found


def compare(ours: Any, theirs: Any) -> None:
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        size = np.max(np.abs(other))
        agreed = bool(np.all(np.abs(np.asarray(mine) - np.asarray(other)) <= FLOAT64 * size))
        assert agreed, np.max(np.abs(mine - other)) / size


def goes_on(transformation: Any, rule: Any, path: Path, *, ours: Any = None) -> None:
    """There and back, through files."""
    native = Native(transformation)
    native.run(STEPS)
    samestep.save(path, taken(native, rule))
    own: Rule = ours or rule
    params, state = samestep.load(path, own, plain(tree(0)))
    again = adapter.to_optax(read(path), native.fresh(), native.params)
    for mine, other in zip(jax.tree.leaves(again), jax.tree.leaves(native.state), strict=True):
        assert mine.dtype == other.dtype
        same = bool(np.all(np.asarray(mine) == np.asarray(other)))
        assert same
    for step in range(STEPS + 1, STEPS + MORE + 1):
        params, state = own.update(plain(tree(step, spread=3)), params, state)
    compare(params, native.run(MORE))
    samestep.save(path, own, params, state)
    back = Native(transformation)
    saved = read(path)
    back.state = adapter.to_optax(saved, back.state, back.params)
    back.params, back.taken = adapter.to_optax_params(saved, back.params), native.taken
    compare(back.run(MORE), native.run(MORE))


def test_a_state_that_the_rule_has_not_is_refused() -> None:
    (peer,) = (peer for peer in PEERS if peer.rule == "SM3")
    rule = made("SM3", "optax", {"momentum": 0.0})
    params = {"w": jax.numpy.ones((3, 2))}
    state = peer.make(optax, rule.hypers).init(params)
    with pytest.raises(CheckpointError, match="nu of it is no slot of SM3"):
        samestep.checkpoint(rule, params, state)


ADAMW = samestep.AdamW(lr=2.0**-6, weight_decay=0.1, like="optax")
SGD = samestep.SGD(lr=0.1, momentum=0.9, like="optax")
BARE = samestep.SGD(lr=0.1, like="optax")
LABELS = {"enc": "a", "head": "s"}
ROUTE = samestep.route((Where(path="enc*"), ADAMW), SGD)
ROUTE_BARE = samestep.route((Where(path="enc*"), ADAMW), BARE)


def adamw() -> Any:
    return optax.adamw(2.0**-6, weight_decay=0.1)


def sgd() -> Any:
    return optax.sgd(0.1, momentum=0.9)


def muon(**given: Any) -> Any:
    given |= {"weight_decay": 0.1, "adam_learning_rate": 2.0**-6, "adam_weight_decay": 0.1}
    return optax.contrib.muon(0.1, **given)


MUON = samestep.Muon(lr=0.1, weight_decay=0.1, like="optax")
NADAM = samestep.NAdam(lr=2.0**-6, betas=(0.9, 0.999), weight_decay=0.1, like="optax")
FREE = samestep.ScheduleFree(
    samestep.AdamW(lr=0.1, betas=(0.0, 0.999), weight_decay=0.1, like="optax"), toward=0.8
)
FREE_SGD = samestep.ScheduleFreeSGD(lr=0.1, like="optax")


def injected(make: Any, **numbers: Any) -> Any:
    return optax.inject_hyperparams(make)(**numbers)


def halved(step: Any) -> Any:
    return 2.0**-6 * (0.5 ** (step // 16))


def several(transformation: Any) -> Any:
    return multi_steps(optax, transformation, 4).gradient_transformation()


CONTAINERS: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "lookahead": (
        lambda: optax.lookahead(sgd(), 7, 0.3),
        samestep.Lookahead(SGD, 7, 0.3),
        None,
    ),
    "inject_hyperparams": (
        lambda: injected(optax.adamw, learning_rate=2.0**-6, weight_decay=0.1),
        samestep.AdamW(lr=0.5, weight_decay=0.3, like="optax"),
        ADAMW,
    ),
    "inject_hyperparams without a count inside": (
        lambda: injected(optax.sgd, learning_rate=0.1, momentum=0.9),
        SGD.replace(lr=0.3),
        SGD,
    ),
    "inject_hyperparams with a schedule": (
        lambda: injected(optax.adamw, learning_rate=halved, weight_decay=0.1),
        ADAMW.replace(lr=halved),
        None,
    ),
    "partition": (lambda: optax.partition({"a": adamw(), "s": sgd()}, LABELS), ROUTE, None),
    "partition by label": (
        lambda: optax.partition({"a": adamw(), "s": sgd()}, LABELS),
        {"a": ADAMW, "s": SGD},
        ROUTE,
    ),
    "partition by label without state": (
        lambda: optax.partition({"a": adamw(), "s": optax.sgd(0.1)}, LABELS),
        {"a": ADAMW, "s": BARE},
        ROUTE_BARE,
    ),
    "partition of injected": (
        lambda: optax.partition(
            {
                "a": injected(optax.adamw, learning_rate=2.0**-6, weight_decay=0.1),
                "s": injected(optax.sgd, learning_rate=0.1, momentum=0.9),
            },
            LABELS,
        ),
        samestep.route((Where(path="enc*"), ADAMW.replace(lr=0.5)), SGD.replace(lr=0.7)),
        ROUTE,
    ),
    "muon and its Adam": (
        lambda: muon(nesterov=False),
        samestep.route((Where(ndim=2), MUON.replace(nesterov=False)), ADAMW),
        None,
    ),
    "muon and its Nadam by label": (
        muon,
        {"muon": MUON, "adam": NADAM},
        samestep.route((Where(ndim=2), MUON), NADAM),
    ),
    "schedule_free": (
        lambda: optax.contrib.schedule_free(optax.adamw(0.1, b1=0.0, weight_decay=0.1), 0.1, 0.8),
        FREE,
        None,
    ),
    "schedule_free of some by label": (
        lambda: optax.partition({"a": adamw(), "s": optax.contrib.schedule_free_sgd(0.1)}, LABELS),
        {"a": ADAMW, "s": FREE_SGD},
        samestep.route((Where(path="enc*"), ADAMW), FREE_SGD),
    ),
    "masked": (
        lambda: optax.chain(
            optax.masked(adamw(), {"enc": True, "head": False}),
            optax.masked(optax.set_to_zero(), {"enc": False, "head": True}),
        ),
        samestep.route((Where(path="enc*"), ADAMW), BARE.replace(lr=0.0)),
        None,
    ),
    "MultiSteps": (lambda: several(adamw()), samestep.Accumulate(ADAMW, every=4), None),
    "apply_if_finite": (lambda: optax.apply_if_finite(adamw(), 3), ADAMW, None),
    "apply_if_finite as a rule": (
        lambda: optax.apply_if_finite(adamw(), 3),
        samestep.SkipNonFinite(ADAMW),
        None,
    ),
    "a named chain": (
        lambda: optax.named_chain(("clip", optax.clip(0.1)), ("adamw", adamw())),
        samestep.ClipValue(ADAMW, max_value=0.1),
        None,
    ),
    "a schedule": (lambda: optax.sgd(halved, momentum=0.9), SGD.replace(lr=halved), None),
    "ours in a chain": (
        lambda: optax.chain(optax.clip(0.1), adapter.bind(ADAMW)),
        samestep.ClipValue(ADAMW, max_value=0.1),
        None,
    ),
    "ours in inject_hyperparams": (
        lambda: injected(adapter.AdamW, lr=2.0**-6, weight_decay=0.1),
        samestep.AdamW(weight_decay=0.3),
        samestep.AdamW(lr=2.0**-6, weight_decay=0.1),
    ),
    "ours in MultiSteps": (
        lambda: several(adapter.bind(ADAMW)),
        samestep.Accumulate(ADAMW, every=4),
        None,
    ),
    "ours with shared state": (
        lambda: optax.chain(optax.identity(), adapter.bind(samestep.Prodigy(d0=1e-3))),
        samestep.Prodigy(d0=1e-3),
        None,
    ),
    "ours beside optax's": (
        lambda: optax.partition({"a": adapter.bind(ADAMW), "s": sgd()}, LABELS),
        ROUTE,
        None,
    ),
    "ours with a route": (lambda: optax.chain(adapter.bind(ROUTE)), ROUTE, None),
}


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own hyperparameters")
@pytest.mark.parametrize("name", CONTAINERS)
def test_the_part_that_is_a_rule_s_is_found_wherever_it_is(name: str, tmp_path: Path) -> None:
    make, rule, ours = CONTAINERS[name]
    goes_on(make(), rule, tmp_path / "x.safetensors", ours=ours)


def test_a_correspondence_that_is_wrong_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    lars = samestep.LARS(lr=0.1, like="optax")
    native = {"AdamW": adamw, "LARS": lambda: optax.lars(0.1)}
    right = states.KEPT
    swapped = {"m": right["AdamW"]["v"], "v": right["AdamW"]["m"]}
    unsigned = {"m": right["LARS"]["m"]._replace(sign=1)}
    for rule, wrong in ((ADAMW, swapped), (lars, unsigned)):
        goes_on(native[rule.name](), rule, path)
        with monkeypatch.context() as patch:
            patch.setitem(states.KEPT, rule.name, wrong)
            with pytest.raises(AssertionError), np.errstate(all="ignore"):
                goes_on(native[rule.name](), rule, path)
    with monkeypatch.context() as patch:
        patch.setattr(counting, "_total", lambda *_: 0)
        with pytest.raises(AssertionError):
            goes_on(adamw(), ADAMW, path)


SCHEDULED: dict[str, tuple[Callable[[], Any], Any, dict[str, Any], float]] = {
    "in a chain": (
        lambda: optax.chain(optax.clip(1.0), optax.adamw(halved, weight_decay=0.1)),
        ADAMW,
        {"enc.w": ["lr"], "head.0": ["lr"]},
        2.0**-6,
    ),
    "injected": (
        lambda: injected(optax.adamw, learning_rate=halved, weight_decay=0.1),
        ADAMW.replace(lr=0.5),
        {"enc.w": ["lr"], "head.0": ["lr"]},
        2.0**-6,
    ),
    "of one label": (
        lambda: optax.partition({"a": adamw(), "s": optax.sgd(halved, momentum=0.9)}, LABELS),
        {"a": ADAMW, "s": SGD.replace(lr=2.0**-6)},
        {"enc.w": [], "head.0": ["lr"]},
        2.0**-6,
    ),
}


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_that_the_rule_has_not_is_said(name: str) -> None:
    make, rule, expected, value = SCHEDULED[name]
    native = Native(make())
    native.run(2)
    saved = adapter.from_optax(rule, native.params, native.state)
    for path, names in expected.items():
        values = saved.parameters[path].rule["values"]
        on_schedules = {n: v for n, v in values.items() if isinstance(v, dict) and "schedule" in v}
        assert [*on_schedules] == names
        assert all(v["value"] == value for v in on_schedules.values())
    fixed = adapter.bind(ROUTE if isinstance(rule, dict) else rule)
    with pytest.warns(UserWarning, match="lr is .* here and 0.015625 by <optax"):
        samestep.restore(fixed, saved, native.params)


def test_an_injected_schedule_is_said_where_a_number_is_injected() -> None:
    native = Native(injected(optax.adamw, learning_rate=halved, weight_decay=0.1))
    native.run(2)
    saved = adapter.from_optax(ADAMW, native.params, native.state)
    adapter.to_optax(saved, native.state, native.params)  # which has the schedule
    fixed = injected(optax.adamw, learning_rate=0.5, weight_decay=0.1).init(native.params)
    with pytest.warns(UserWarning, match="learning_rate as a number; .* 0.015625 by <optax"):
        new = adapter.to_optax(saved, fixed, native.params)
    assert float(new.hyperparams["learning_rate"]) == 2.0**-6


REFUSED: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "twice": (lambda: optax.chain(adamw(), adamw()), ADAMW, r"2 times .*state\[0\]\[0\], state\[1"),
    "not at all": (sgd, ADAMW, r"0 times .*mu of ScaleByAdamState; there is: .*TraceState"),
    "left over": (sgd, BARE, "state\\[0\\] is TraceState, and trace of it is no slot"),
    "no count": (sgd, SGD, r"samestep.jax.from_optax\(rule, params, state, step=...\)"),
    "MultiSteps without its rule": (lambda: several(adamw()), ADAMW, "Accumulate"),
    "the rule without MultiSteps": (adamw, samestep.Accumulate(ADAMW), "MultiStepsState"),
    "another period": (lambda: several(adamw()), samestep.Accumulate(ADAMW), "mini_step is 2"),
    "noise": (lambda: optax.chain(optax.add_noise(0.1, 0.1, 0), adamw()), ADAMW, "AddNoiseState"),
    "a rule without equal": (adamw, samestep.TAdam(), "TAdam has no equal in optax"),
    "a slot without equal": (lambda: optax.nadam(0.1), samestep.NAdam(), "keeps no product"),
    "an average": (adamw, samestep.Average(ADAMW), "Average has no equal"),
    "lr in the momentum": (
        lambda: optax.rmsprop(0.1, momentum=0.9),
        samestep.RMSprop(momentum=0.9),
        "lr_at is 'outside' here and 'inside' in optax",
    ),
    "a late update": (
        lambda: optax.rprop(0.1),
        samestep.Rprop(),
        "applies each update at once, and optax applies the update of the step before",
    ),
    "another point": (
        optax.contrib.schedule_free_sgd,
        samestep.ScheduleFreeSGD(momentum=0.8, like="optax"),
        r"state\.b1 is 0\.9, .* has momentum=0\.8",
    ),
    "weights by the step": (
        optax.contrib.schedule_free_sgd,
        samestep.ScheduleFreeSGD(weight_power=1.0, like="optax"),
        r"weight_power is 1\.0 here and 0\.0 in optax",
    ),
    "a schedule of weights": (
        optax.contrib.schedule_free_sgd,
        BARE,
        "is ScheduleFreeState, and max_lr, weight_sum, z of it",
    ),
    "a limit of d": (
        optax.contrib.prodigy,
        samestep.Prodigy(growth_rate=2.0, like="optax"),
        "keeps no d_max",
    ),
    "a mask": (
        lambda: optax.masked(adamw(), {"enc": True, "head": False}),
        ADAMW,
        "slot m of parameter 'head.0' .* 0 times",
    ),
    "one rule for two labels": (
        lambda: optax.partition({"a": adamw(), "s": sgd()}, LABELS),
        ADAMW,
        "parameter 'head.0' .* 0 times",
    ),
    "labels without state": (
        lambda: optax.partition({"a": optax.sgd(0.1), "s": optax.sgd(0.2)}, LABELS),
        {"a": BARE, "s": BARE},
        "does not tell the labels of enc.b, enc.w, head.0",
    ),
    "other labels": (
        lambda: optax.partition({"a": adamw(), "s": sgd()}, LABELS),
        {"a": ADAMW, "t": SGD},
        "labels a, t; the PartitionState has a, s",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_is_refused_by_name(name: str) -> None:
    make, rule, words = REFUSED[name]
    native = Native(make())
    native.run(2)
    with pytest.raises(CheckpointError, match=words):
        samestep.checkpoint(rule, native.params, native.state)


def test_a_step_that_contradicts_the_state_is_refused() -> None:
    native = Native(adamw())
    native.run(3)
    with pytest.raises(CheckpointError, match=r"step=7 .* counted 3"):
        adapter.from_optax(ADAMW, native.params, native.state, step=7)


def test_a_transformation_of_optax_is_no_rule() -> None:
    native = Native(adamw())
    with pytest.raises(TypeError, match="being a closure; give the rule"):
        samestep.checkpoint(native.transformation, native.params, native.state)


def test_injected_numbers_are_taken_and_given() -> None:
    native = Native(injected(optax.adamw, learning_rate=0.25, weight_decay=0.125, b2=0.75))
    saved = samestep.checkpoint(samestep.AdamW(like="optax"), native.params, native.state)
    values = saved.parameters["enc.w"].rule["values"]
    assert (values["lr"], values["betas"], values["weight_decay"]) == (0.25, [0.9, 0.75], 0.125)
    other = injected(optax.adamw, learning_rate=0.5, weight_decay=0.5, b2=0.5).init(native.params)
    hyperparams = adapter.to_optax(saved, other, native.params).hyperparams
    assert float(hyperparams["learning_rate"]) == 0.25 and float(hyperparams["b2"]) == 0.75
    assert float(other.hyperparams["b2"]) == 0.5  # what was given is as it was


def test_values_that_a_state_cannot_hold_are_refused() -> None:
    native = Native(adamw())
    native.run(2)
    saved = samestep.checkpoint(ADAMW, native.params, native.state)
    narrow = optax.adamw(0.1, mu_dtype="float32").init(native.params)
    with pytest.raises(CheckpointError, match=r"slot m of parameter 'enc.b' is float64 .* float32"):
        adapter.to_optax(saved, narrow, native.params)


def test_signs_that_optax_cannot_keep_are_refused() -> None:
    native = Native(optax.rprop(0.1))
    native.run(3)
    rule = samestep.Rprop(lr=0.1, like="optax")
    saved = adapter.from_optax(rule, native.params, native.state, step=3)
    own = saved.parameters["enc.w"]
    flipped = own.slots["prev"].reshaped(-own.slots["prev"].bits)
    own.slots["prev"] = flipped
    with pytest.raises(CheckpointError, match="other signs than last"):
        adapter.to_optax(saved, native.fresh(), native.params)


def test_weights_that_optax_has_once_are_refused_where_there_are_several() -> None:
    rule = samestep.route((Where(path="enc*"), FREE_SGD), FREE_SGD.replace(lr=0.2))
    params = plain(tree(0))
    params, state = rule.update(plain(tree(1)), params, rule.init(params))
    native = Native(optax.contrib.schedule_free_sgd(0.1))
    with pytest.raises(
        CheckpointError, match=r"weight_sum is one number .* several .*: 0\.01\d*, 0\.04"
    ):
        adapter.to_optax(samestep.checkpoint(rule, params, state), native.state, native.params)
