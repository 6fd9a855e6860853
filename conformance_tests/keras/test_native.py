"""The state of Keras 3's own optimizers, from and to ours: the next steps are the same.

Keras runs on JAX here. The states themselves are compared in ``checkpoint/test_foreign_states``.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy
import pytest

import samestep
from samestep.checkpoints import CheckpointError
from samestep.checkpoints.description import made
from samestep.keras.natives import KERAS

jax = pytest.importorskip("jax")
if "keras" not in sys.modules:  # the backend must be chosen before the first import
    os.environ["KERAS_BACKEND"] = "jax"
keras = pytest.importorskip("keras")
if keras.backend.backend() != "jax":
    pytest.skip(f"Keras runs on {keras.backend.backend()}", allow_module_level=True)

SHAPES = {"dense.kernel": (4, 3), "dense.bias": (3,), "conv.kernel": (2, 2, 3, 2), "scale": ()}
BEFORE, AFTER = 30, 10
LARGE = {"learning_rate": 0.01, "epsilon": 1e-2, "weight_decay": 0.1}


@contextmanager
def double(dtype):
    """The learning rate is in Keras's default dtype, the state in that of its variable."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        with jax.enable_x64(dtype == "float64"):
            yield
    finally:
        keras.config.set_floatx(before)


def variables(dtype, seed=0):
    noise = numpy.random.default_rng(seed)
    found = {}
    for path, shape in SHAPES.items():
        value = noise.normal(size=shape).astype(dtype)
        found[path] = keras.Variable(value, dtype=dtype, name=path.replace(".", "_"))
    return found


def gradients(step, dtype):
    noise = numpy.random.default_rng(step)
    found = {}
    for path, shape in SHAPES.items():
        scale = 10.0 ** noise.integers(-3, 2, shape)
        kept = noise.random(shape) > 0.1
        found[path] = numpy.asarray(noise.normal(size=shape) * scale * kept, dtype)
    return found


def native(name, params, values):
    optimizer = getattr(keras.optimizers, name)(**values)
    optimizer.build([*params.values()])
    return optimizer


def train(optimizer, params, steps, dtype):
    for step in steps:
        optimizer.apply([jax.numpy.asarray(g) for g in gradients(step, dtype).values()])


def arrays(params):
    return {path: numpy.asarray(variable.value) for path, variable in params.items()}


def close(one, other, size, tolerance, what):
    one, other = numpy.float64(one), numpy.float64(other)
    size = numpy.fmax(size, numpy.abs(other))
    worst = numpy.max(numpy.abs(one - other) / numpy.where(size == 0, 1.0, size), initial=0.0)
    fits = one.shape == other.shape and bool(worst <= tolerance)
    assert fits, f"{what} differs by {worst:.3g}, allowed is {tolerance:.3g}"


def same_steps(theirs, params, rule, own, state, dtype, tolerance):
    """Keras and the rule in NumPy take the same steps, and have the same state thereafter."""
    moved = dict.fromkeys(own, 0.0)
    for step in range(BEFORE, BEFORE + AFTER):
        before = arrays(params)
        train(theirs, params, [step], dtype)
        own, state = rule.update(gradients(step, dtype), own, state)
        for path, now in arrays(params).items():
            moved[path] = numpy.fmax(moved[path], numpy.abs(now - before[path]))
            close(own[path], now, moved[path], tolerance, f"{path} at step {step}")
    one = samestep.checkpoint(theirs, params)
    other = samestep.checkpoint(rule, own, state)
    for path, kept in one.parameters.items():
        assert kept.step == other.parameters[path].step
        pairs = zip(kept.tensors(), other.parameters[path].tensors(), strict=True)
        for (slot, part), (slot2, part2) in pairs:
            assert slot == slot2
            size = numpy.max(numpy.abs(part.values()), initial=0.0)
            close(part2.values(), part.values(), size, 4 * tolerance, f"{slot} of {path}")


def rule_of(checkpoint):
    """The rule of all parameters, which Muon has two of."""
    *routes, (_, last) = (
        (samestep.Where(path=path), made(own.rule)) for path, own in checkpoint.parameters.items()
    )
    return last if all(rule == last for _, rule in routes) else samestep.route(*routes, last)


def test_a_momentum_with_the_sign_of_keras_is_seen(monkeypatch) -> None:
    plain = replace(KERAS["SGD"], slots={"m": "momentums"})
    with double("float64"):
        params = variables("float64")
        theirs = native("SGD", params, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1})
        train(theirs, params, range(BEFORE), "float64")
        monkeypatch.setitem(KERAS, "SGD", plain)
        taken = samestep.checkpoint(theirs, params)
        rule = rule_of(taken)
        own, state = samestep.restore(rule, taken, arrays(params))
        with pytest.raises(AssertionError, match="differs"):
            same_steps(theirs, params, rule, own, state, "float64", 1e-12)


def flags():
    """Every switch of every optimizer, at its other value."""
    for name in KERAS:
        for option, parameter in inspect.signature(
            getattr(keras.optimizers, name)
        ).parameters.items():
            if isinstance(parameter.default, bool) and option != "use_ema":
                marks = () if name == "Adafactor" else pytest.mark.thorough
                switched = {option: not parameter.default}
                yield pytest.param(name, switched, id=f"{name}-{option}", marks=marks)


@pytest.mark.parametrize(("name", "switched"), [*flags()])
def test_a_switch_is_carried_as_what_it_does(name, switched) -> None:
    """At a large rate, so that a bound on the step is reached."""
    momentum = {"momentum": 0.9} if name == "SGD" else {}
    with double("float64"):
        params = variables("float64")
        theirs = native(name, params, {"learning_rate": 0.5, **momentum, **switched})
        train(theirs, params, range(BEFORE), "float64")
        taken = samestep.checkpoint(theirs, params)
        rule = rule_of(taken)
        own, state = samestep.restore(rule, taken, arrays(params))
        same_steps(theirs, params, rule, own, state, "float64", 2e-6)


def test_parameters_that_muon_leaves_to_adamw_are_adamw_s() -> None:
    values = {"learning_rate": 0.5, "weight_decay": 0.1, "adam_weight_decay": 0.2}
    values |= {"adam_lr_ratio": 0.1, "adam_beta_2": 0.9, "exclude_layers": ["conv"]}
    with double("float64"):
        params, others = variables("float64"), variables("float64", seed=1)
        theirs = native("Muon", params, values)
        train(theirs, params, range(BEFORE), "float64")
        taken = samestep.checkpoint(theirs, params)
        found = {path: own.rule["name"] for path, own in taken.parameters.items()}
        assert found == dict.fromkeys(SHAPES, "AdamW") | {"dense.kernel": "Muon"}
        rule = rule_of(taken)
        own, state = samestep.restore(rule, taken, arrays(params))
        again = native("Muon", others, values | {"learning_rate": 0.3})
        samestep.restore(again, samestep.checkpoint(rule, own, state), others)
        same_steps(theirs, params, rule, own, state, "float64", 2e-6)
        train(again, others, range(BEFORE, BEFORE + AFTER), "float64")
        for path, now in arrays(params).items():
            close(arrays(others)[path], now, 0.1, 1e-12, path)


def test_adafactor_without_its_bound_is_no_optimizer_of_keras() -> None:
    params = variables("float32")
    theirs = native("Adafactor", params, {"relative_step": False})
    rule = samestep.Adafactor(like="keras", relative_step=False)
    own = samestep.checkpoint(rule, arrays(params), rule.init(arrays(params)))
    with pytest.raises(CheckpointError, match="relative_step is True here and False there"):
        samestep.restore(theirs, own, params)


def test_a_model_gives_names_and_values_and_bfloat16_stays() -> None:
    layers = [keras.layers.Input((3,)), keras.layers.Dense(2, name="dense", dtype="bfloat16")]
    model = keras.Sequential(layers, name="net")
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    grads = [jax.numpy.ones(v.shape, "bfloat16") for v in model.trainable_variables]
    optimizer.apply(grads)
    taken = samestep.checkpoint(optimizer, model)
    assert all(path.endswith(("dense.kernel", "dense.bias")) for path in taken.parameters)
    own = next(iter(taken.parameters.values()))
    assert (own.dtype, own.slots["m"].dtype, own.step) == ("bfloat16", "bfloat16", 1)
    assert numpy.all(own.slots["m"].values() == numpy.float64(jax.numpy.bfloat16(0.1)))
    assert own.value.dtype == "bfloat16"
    optimizer.apply(grads)
    samestep.restore(optimizer, taken, model)
    assert int(optimizer.iterations.value) == 1
    held = samestep.checkpoint(optimizer, model)
    for path, kept in taken.parameters.items():
        there = held.parameters[path]
        assert numpy.array_equal(kept.slots["m"].bits, there.slots["m"].bits)
        assert numpy.array_equal(kept.value.bits, there.value.bits)


def test_frozen_layers_and_moving_averages_of_a_model_are_carried() -> None:
    def network():
        layers = [keras.layers.Dense(2, name="first"), keras.layers.BatchNormalization(name="norm")]
        layers[0].trainable = False
        model = keras.Sequential([keras.layers.Input((3,)), *layers], name="net")
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    model, optimizer = network()
    for at, weight in enumerate(model.weights):
        weight.assign(numpy.full(weight.shape, at + 1.5))
    optimizer.apply([jax.numpy.ones(v.shape) for v in model.trainable_variables])
    other, loading = network()
    samestep.restore(loading, samestep.checkpoint(optimizer, model), other)
    for one, same in zip(model.weights, other.weights, strict=True):
        assert numpy.array_equal(one.value, same.value), one.path


def test_a_schedule_of_the_checkpoint_is_said_where_keras_has_a_number() -> None:
    params = variables("float32")
    rule = samestep.AdamW(like="keras", lr=samestep.schedules.CosineDecay(0.5, 30))
    own = arrays(params)
    _, state = rule.update(gradients(0, "float32"), own, rule.init(own))
    with pytest.warns(UserWarning, match="lr is a number here and 0.5 by CosineDecay"):
        samestep.restore(native("AdamW", params, {}), samestep.checkpoint(rule, own, state), params)


def test_a_parameter_that_has_not_begun_has_no_count_of_its_own_in_keras() -> None:
    params = variables("float32")
    rule = samestep.AdamW(like="keras", lr=0.1)
    own = arrays(params)
    _, state = rule.update(gradients(0, "float32"), own, rule.init(own))
    saved = samestep.checkpoint(rule, own, state)
    late = replace(saved.parameters["scale"], step=0, slots=None)
    saved = replace(saved, parameters={**saved.parameters, "scale": late})
    with pytest.raises(CheckpointError, match="no state of scale after 1 steps"):
        samestep.restore(native("AdamW", params, {}), saved, params)


def test_use_ema_is_the_average_around_the_rule() -> None:
    values = {"use_ema": True, "ema_momentum": 0.9, **LARGE}
    with double("float64"):
        params = variables("float64")
        theirs = native("AdamW", params, values)
        train(theirs, params, range(BEFORE), "float64")
        taken = samestep.checkpoint(theirs, params)
        rule = rule_of(taken)
        assert rule.name == "Average" and rule.average_decay == 0.9
        own, state = samestep.restore(rule, taken, arrays(params))
        same_steps(theirs, params, rule, own, state, "float64", 1e-12)
        again = variables("float64", seed=1)
        other = native("AdamW", again, values)
        samestep.restore(other, taken, again)
        assert other.variables[0] == BEFORE
        for one, two in zip(
            other._model_variables_moving_average, taken.parameters.values(), strict=True
        ):
            assert numpy.array_equal(numpy.asarray(one.value), two.slots["average"].bits)


def test_the_average_of_the_first_step_is_the_parameter_in_both() -> None:
    with double("float64"):
        params = variables("float64")
        theirs = native("Adam", params, {"use_ema": True, "ema_momentum": 0.9})
        rule = rule_of(samestep.checkpoint(theirs, params))
        own, state = arrays(params), rule.init(arrays(params))
        for step in range(3):
            train(theirs, params, [step], "float64")
            own, state = rule.update(gradients(step, "float64"), own, state)
        for path, at in zip(params, theirs._model_variables_moving_average, strict=True):
            close(state.slots["average"][path], numpy.asarray(at.value), 0.1, 1e-12, path)


def test_variables_without_decay_have_none() -> None:
    params = variables("float32")
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([*params.values()])
    found = samestep.checkpoint(optimizer, params).parameters
    decays = {path: own.rule["values"]["weight_decay"] for path, own in found.items()}
    assert decays == {path: 0.0 if "bias" in path else 0.1 for path in SHAPES}


def test_a_learning_rate_that_is_a_schedule_is_its_number_now_and_stays_a_schedule() -> None:
    params = variables("float32")
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    theirs = native("Adam", params, {"learning_rate": schedule})
    train(theirs, params, range(2), "float32")
    taken = samestep.checkpoint(theirs, params)
    described = next(iter(taken.parameters.values())).rule["values"]["lr"]
    assert described == {"schedule": repr(schedule), "value": 0.125}
    samestep.restore(theirs, taken, params)
    assert theirs._learning_rate is schedule
    plain = native("Adam", variables("float32"), {})
    with pytest.warns(UserWarning, match=r"lr is a number here and 0.125 by <.*ExponentialDecay"):
        samestep.restore(plain, taken, dict(zip(SHAPES, plain._trainable_variables, strict=True)))
    assert float(plain.learning_rate) == 0.125


def test_hyperparameters_that_are_others_now_are_told() -> None:
    params = variables("float32")
    theirs = native("Adam", params, {"beta_1": 0.8})
    train(theirs, params, range(2), "float32")
    taken = samestep.checkpoint(theirs, params)
    other = native("Adam", params, {})
    with pytest.warns(UserWarning, match=r"betas is \(0\.9, 0\.999\) here and \(0\.8, 0\.999\)"):
        samestep.restore(other, taken, params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samestep.restore(theirs, taken, params)


def optimizers():
    """What is refused, and words of the reason."""
    of = keras.optimizers
    yield of.Ftrl(), "FTRL"
    yield of.Muon(rms_rate=0.1), "rms_rate is 0.1"
    yield of.ScheduleFreeAdamW(weight_decay=0.1), "it decays the point of the gradient and not"
    yield of.LossScaleOptimizer(of.Adam()), "inner_optimizer"
    yield of.Adam(clipnorm=1.0), "clipnorm=1.0"
    yield of.Adam(gradient_accumulation_steps=4), "gradient_accumulation_steps=4"
    yield of.Adam(use_ema=True, ema_overwrite_frequency=3), "ema_overwrite_frequency=3"


def test_what_cannot_be_carried_is_refused_by_name() -> None:
    for optimizer, why in optimizers():
        params = variables("float32")
        optimizer.build([*params.values()])
        with pytest.raises(CheckpointError, match=re.escape(why)) as caught:
            samestep.checkpoint(optimizer, params)
        assert type(optimizer).__name__ in str(caught.value)
    with pytest.raises(CheckpointError, match=r"call its build\(model.trainable_variables\)"):
        samestep.checkpoint(keras.optimizers.Adam())


def test_a_loss_scale_is_nothing_of_the_state() -> None:
    params, scaled = variables("float32"), variables("float32")
    plain = native("Adam", params, {})
    theirs = native("Adam", scaled, {"loss_scale_factor": 1024.0})
    for step in range(3):
        train(plain, params, [step], "float32")
        given = [jax.numpy.asarray(g * 1024) for g in gradients(step, "float32").values()]
        theirs.apply(given)
    one, other = samestep.checkpoint(plain, params), samestep.checkpoint(theirs, scaled)
    for path, own in one.parameters.items():
        assert own.rule == other.parameters[path].rule
        for (_, part), (_, part2) in zip(
            own.tensors(), other.parameters[path].tensors(), strict=True
        ):
            assert numpy.array_equal(part.bits, part2.bits)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (samestep.AdEMAMix(), "AdEMAMix"),
        (samestep.Adam(), "decay|eps_at"),
        (samestep.Adam(like="keras", eps_root=1e-6), "has no eps_root"),
        (samestep.Adam(like="keras", amsgrad=True), "amsgrad"),
        (samestep.Average(samestep.Adam(like="keras")), "Average"),
    ],
    ids=lambda item: item.name if hasattr(item, "name") else "",
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(rule, why) -> None:
    params = variables("float32")
    theirs = native("Adam", params, {})
    train(theirs, params, range(2), "float32")
    before = [numpy.asarray(v.value) for v in theirs.variables], arrays(params)
    own = {path: array + 1 for path, array in arrays(params).items()}
    own, state = rule.update(gradients(0, "float32"), own, rule.init(own))
    with pytest.raises(CheckpointError, match=why):
        samestep.restore(theirs, samestep.checkpoint(rule, own, state), params)
    after = [numpy.asarray(v.value) for v in theirs.variables], arrays(params)
    assert all(map(numpy.array_equal, before[0], after[0]))
    assert all(numpy.array_equal(before[1][path], after[1][path]) for path in SHAPES)


def test_a_damaged_file_changes_nothing(tmp_path) -> None:
    params = variables("float32")
    theirs = native("Adam", params, {})
    train(theirs, params, range(3), "float32")
    path = tmp_path / "x"
    samestep.save(path, theirs, params)
    again = variables("float32", seed=1)
    other = native("Adam", again, {})
    train(other, again, range(2), "float32")
    before = [numpy.asarray(v.value) for v in (*other.variables, *again.values())]
    good = path.read_bytes()
    arrays = len(good) - 3 * 4 * sum(int(numpy.prod(shape)) for shape in SHAPES.values())
    for at in range(arrays, len(good), 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 64]) + good[at + 1 :])
        with pytest.raises(CheckpointError, match="changed since"):
            samestep.load(path, other, again)
        after = [numpy.asarray(v.value) for v in (*other.variables, *again.values())]
        assert all(map(numpy.array_equal, before, after))


def test_parameters_at_different_steps_are_refused() -> None:
    params = variables("float32")
    theirs = native("Adam", params, {})
    train(theirs, params, range(2), "float32")
    taken = samestep.checkpoint(theirs, params)
    first = next(iter(taken.parameters))
    uneven = {**taken.parameters, first: replace(taken.parameters[first], step=1)}
    with pytest.raises(CheckpointError, match="different numbers of steps"):
        samestep.restore(theirs, replace(taken, parameters=uneven), params)
