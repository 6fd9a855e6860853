"""The MLX optimizers as MLX's own tools use them: modules, compiled steps, files, MultiOptimizer.

The expected values are those of the rule stepped on NumPy arrays, within ``ULP`` float32 ULP per
step of the largest value in the array, or those of an optimizer that must be the same
to the last bit.
"""

from functools import partial

import numpy as np
import pytest

import samestep
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.parametrized import each_rule

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
optimizers = pytest.importorskip("mlx.optimizers")
adapter = pytest.importorskip("samestep.mlx")
utils = pytest.importorskip("mlx.utils")
from samestep.conformance.harness.mlx_trees import assert_equal, flat  # noqa: E402

RULES = each_rule()
ULP = 3
MATRIX = 30  # the Newton-Schulz iteration amplifies what rounding leaves in small singular values


def native(rule, **options):
    """The class of the rule's name, with the rule's values."""
    return made(adapter, rule, **options)


def arrays(rule, seed, dtype=mx.float32):
    """A tree with a list and a dict in it; gradients come from other seeds."""
    rng, extra = np.random.default_rng(seed), (2, 2)[: rule.min_ndim]

    def array(*shape):
        values = rng.standard_normal((*shape, *extra)) * 10.0 ** rng.integers(-2, 1)
        return mx.array(values.astype(np.float32)).astype(dtype)

    return {"layers": [{"w": array(3)}, {"w": array(2, 3), "b": array(2)}], "scale": array()}


def train(optimizer, rule, params, steps, only=None):
    for t in steps:
        grads = arrays(rule, 100 + t)
        grads = grads if only is None else only(grads)
        params = {**params, **optimizer.apply_gradients(grads, params)}
    return params


def numpy(tree):
    return utils.tree_map(lambda x: np.array(x.astype(mx.float32)), tree)


def assert_close(rule, actual, expected, start, steps=1):
    actual, expected, start = flat(actual), flat(expected), flat(start)
    ulp = MATRIX if rule.needs == "matrix" else ULP
    for path, value in expected.items():
        a, b, p = (
            np.array(x.astype(mx.float32) if isinstance(x, mx.array) else x, np.float64)
            for x in (actual[path], value, start[path])
        )
        scale = max(np.abs(p).max(), np.abs(b).max())
        assert np.abs(a - b).max() <= ulp * steps * 2.0**-23 * scale, path


class Net(nn.Module):
    """Two matrices; a scalar loss that every element takes part in."""

    def __init__(self, rule, seed=0):
        super().__init__()
        self.layers = [
            {"w": arrays(rule, seed + i)["layers"][1]["w"].reshape(-1, 2)} for i in range(2)
        ]

    def __call__(self, x):
        return sum((mx.sin(x * layer["w"]) ** 2).sum() for layer in self.layers)


def loss(model, x):
    return model(x)


@pytest.mark.parametrize("execution", ["reference", "compiled"])
@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_computes_what_the_rule_does_and_changes_nothing_it_is_given(name, execution):
    rule = build(name)
    optimizer, params = native(rule, execution=execution), arrays(rule, 0)
    assert isinstance(optimizer, optimizers.Optimizer)
    start = expected = numpy(params)
    state = rule.init(expected)
    for t in range(6):
        grads = arrays(rule, 100 + t)
        kept = numpy((grads, params))
        new = optimizer.apply_gradients(grads, params)
        assert all(
            (a == b).all()
            for a, b in zip(flat(kept).values(), flat(numpy((grads, params))).values(), strict=True)
        )
        expected, state = rule.update(kept[0], expected, state)
        assert_close(rule, new, expected, start, t + 1)
        assert optimizer.state["step"].item() == t + 1
        params = new
    for slot in rule.slots():
        for path in ("layers.0.w", "layers.1.b"):
            found = flat(optimizer.state).items()
            mine = [v for k, v in found if k.startswith(f"{path}.{slot}")]
            assert mine and all(v.dtype == mx.float32 for v in mine)


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", RULES)
def test_narrow_parameters_are_rounded_once_from_float32(name, narrow):
    rule, dtype = build(name, state_dtype="float32"), getattr(mx, narrow)
    params = arrays(rule, 0, dtype)
    wide = utils.tree_map(lambda x: x.astype(mx.float32), params)
    optimizer, other = native(rule), native(rule)
    new = optimizer.apply_gradients(arrays(rule, 1, dtype), params)
    grads = utils.tree_map(lambda x: x.astype(dtype).astype(mx.float32), arrays(rule, 1))
    expected = other.apply_gradients(grads, wide)
    assert_equal(new, utils.tree_map(lambda x: x.astype(dtype), expected))
    assert not any(v.dtype == dtype for v in flat(optimizer.state).values())


@pytest.mark.parametrize("name", RULES)
def test_a_model_is_updated_in_place_and_frozen_layers_are_not(name):
    rule = build(name)
    model, x = Net(rule), mx.array(0.7)
    model.layers[0] = {"w": model.layers[0]["w"]}
    frozen = nn.Linear(2, 2)
    model.frozen = frozen
    frozen.freeze()
    before = numpy(model.parameters())
    optimizer = native(rule)
    _, grads = nn.value_and_grad(model, loss)(model, x)
    assert "frozen" not in grads or not utils.tree_flatten(grads["frozen"])
    optimizer.update(model, grads)
    trainable = {"layers": before["layers"]}
    expected, _ = rule.update({"layers": numpy(grads["layers"])}, trainable, rule.init(trainable))
    assert_close(rule, {"layers": model.layers}, expected, trainable)
    assert (np.array(frozen.weight) == before["frozen"]["weight"]).all()
    assert not utils.tree_flatten(optimizer.state.get("frozen", {}))


@pytest.mark.parametrize("name", RULES)
def test_state_starts_at_the_parameters_whether_or_not_init_is_called(name):
    rule = build(name)
    params = arrays(rule, 0)
    lazy, ahead = native(rule), native(rule)
    ahead.init(params)
    first = utils.tree_map(lambda x: x, ahead.state)
    expected = rule.init(numpy(params))
    for slot in rule.slots():
        for path, value in flat(expected.slots[slot]).items():
            head, *part = path.rsplit(".", 1) if f"{path}.{slot}" not in flat(first) else (path,)
            mine = flat(first)[".".join([head, slot, *part])]
            assert (np.array(mine) == value).all() and mine.dtype == mx.float32
    a, b = train(lazy, rule, params, range(4)), train(ahead, rule, params, range(4))
    assert_equal(a, b)
    assert_equal(lazy.state, ahead.state)


@pytest.mark.parametrize("name", RULES)
def test_parameters_without_gradient_keep_their_value_and_their_state(name):
    rule = build(name)
    params = arrays(rule, 0)
    optimizer, alone = native(rule), native(rule)
    part = {"layers": [{}, {"b": params["layers"][1]["b"]}]}

    def only(grads):
        return {"layers": [{}, {"b": grads["layers"][1]["b"]}]}

    for t in range(3):
        new = optimizer.apply_gradients(only(arrays(rule, 100 + t)), params)
        assert list(flat(new)) == ["layers.1.b"]
        params["layers"][1]["b"] = new["layers"][1]["b"]
        part = alone.apply_gradients(only(arrays(rule, 100 + t)), part)
        assert_equal(new, part)
    before = flat(optimizer.state)
    optimizer.init(params)
    assert_equal({k: flat(optimizer.state)[k] for k in before}, before)
    grads = arrays(rule, 103)
    del grads["layers"][1]["b"]
    optimizer.apply_gradients(grads, params)
    for path, value in before.items():
        if path.startswith("layers.1.b"):
            assert mx.array_equal(flat(optimizer.state)[path], value).item()


@pytest.mark.parametrize("lr", [None, 0.1, 0.3])
@pytest.mark.parametrize("name", RULES)
def test_a_saved_and_loaded_optimizer_continues_bit_for_bit(name, lr, tmp_path):
    rule = build(name) if lr is None else build(name, lr=lr)
    optimizer = native(rule)
    params = train(optimizer, rule, arrays(rule, 0), range(3))
    mx.save_safetensors(str(tmp_path / "state.safetensors"), flat(optimizer.state))
    loaded = native(rule)
    loaded.state = utils.tree_unflatten(list(mx.load(str(tmp_path / "state.safetensors")).items()))
    a, b = train(optimizer, rule, params, range(3, 9)), train(loaded, rule, params, range(3, 9))
    assert_equal(a, b)
    assert_equal(loaded.state, optimizer.state)


def test_a_loaded_learning_rate_is_kept_beside_float64_parameters():
    optimizer, params = adapter.SGD(lr=1e-3), {"w": mx.array([1.0]).astype(mx.float64)}
    optimizer.state = {"step": mx.array(0, mx.uint64), "learning_rate": mx.array(0.5)}
    new = optimizer.apply_gradients({"w": mx.array([1.0]).astype(mx.float64)}, params)
    assert new["w"].item() == 0.5 and optimizer.learning_rate.item() == 0.5


def test_a_loaded_learning_rate_is_the_exact_one():
    for lr in np.linspace(0.1, 0.9, 400):
        rule = samestep.AdamW(lr=float(lr), weight_decay=0.7)
        a, b = native(rule), native(rule)
        params = {"w": mx.array([1.0, 3.0])}
        a.init(params)
        b.state = utils.tree_unflatten(list(flat(a.state).items()))
        grads = {"w": mx.array([0.0, 0.0])}
        assert_equal(a.apply_gradients(grads, params), b.apply_gradients(grads, params))


@pytest.mark.parametrize("name", RULES)
def test_setting_the_learning_rate_is_building_with_it(name):
    rule = build(name)
    a, b = native(rule), native(rule.replace(lr=0.3))
    assert a.learning_rate.item() == np.float32(rule.hypers["lr"])
    a.learning_rate = 0.3
    assert a.learning_rate.item() == np.float32(0.3) and a.lr == 0.3
    c = native(rule)
    c.lr = 0.3
    results = [train(o, rule, arrays(rule, 0), range(3)) for o in (a, b, c)]
    assert_equal(results[0], results[1])
    assert_equal(results[2], results[1])


SCHEDULES = {
    "cosine": optimizers.cosine_decay(0.5, 5),
    "step": optimizers.step_decay(0.5, 0.5, 2),
    "joined": optimizers.join_schedules(
        [optimizers.linear_schedule(0.125, 0.5, 2), optimizers.step_decay(0.5, 0.25, 1)], [2]
    ),
    "python": lambda step: 0.5 / (1 + step),
}


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", RULES)
def test_a_schedule_is_called_with_the_steps_taken_so_far(name, kind):
    rule, schedule = build(name), SCHEDULES[kind]
    scheduled, manual = native(rule.replace(lr=schedule)), native(rule)
    params = same = arrays(rule, 0)
    steps_inside = getattr(rule, "steps_inside", lambda step: step)
    rates = [float(schedule(steps_inside(t))) for t in range(5)]
    assert scheduled.learning_rate.item() == np.float32(rates[0]) and len(set(rates)) > 1
    for t, rate in enumerate(rates):
        manual.learning_rate = rate
        params, same = train(scheduled, rule, params, [t]), train(manual, rule, same, [t])
        assert_equal(params, same)


@pytest.mark.parametrize("kind", [None, "cosine", "joined"])
@pytest.mark.parametrize("name", RULES)
def test_a_compiled_training_step_is_the_eager_one_and_is_traced_once(name, kind):
    rule, traces = build(name, lr=0.1 if kind is None else SCHEDULES[kind]), []
    models, built = [Net(rule), Net(rule)], [native(rule), native(rule)]
    built[0].init(models[0].trainable_parameters())
    state, start = [models[0].state, built[0].state], numpy(models[0].parameters())

    @partial(mx.compile, inputs=state, outputs=state)
    def compiled(grads):
        traces.append(1)
        built[0].update(models[0], grads)

    for t in range(20):
        if kind is None and t in (8, 15):
            for optimizer in built:
                optimizer.learning_rate = 0.5 / t
        grads = {"layers": Net(rule, 100 + t).parameters()["layers"]}
        compiled(grads)
        built[1].update(models[1], grads)
        mx.eval(state)
    assert len(traces) <= 2 and built[0].state["step"].item() == 20
    assert built[0].learning_rate.item() == pytest.approx(built[1].learning_rate.item(), rel=1e-6)
    assert_close(rule, models[0].parameters(), models[1].parameters(), start, 20)


@pytest.mark.parametrize("name", RULES)
def test_a_compiled_kernel_is_traced_once_whatever_the_numbers(name, monkeypatch):
    rule, traces = build(name), []
    advance = samestep.step.advance

    def counted(xp, rule, grad, *rest):
        traces.append(grad.shape)
        return advance(xp, rule, grad, *rest)

    monkeypatch.setattr(samestep.step, "advance", counted)
    optimizer, params = native(rule, execution="compiled"), arrays(rule, 0)
    for t in range(6):
        optimizer.learning_rate = 0.1 / (t + 1)
        if "betas" in rule.hypers:
            optimizer.betas = tuple(beta - 0.01 * t for beta in optimizer.betas)
        params = train(optimizer, rule, params, [t])
        mx.eval(params, optimizer.state)
        if t == 1:
            first = len(traces)
    assert 0 < first == len(traces) <= 2 * len(set(traces))


@pytest.mark.parametrize("name", RULES)
def test_a_multi_optimizer_gives_each_its_own_part(name):
    rule = build(name)
    params, grads = arrays(rule, 0), arrays(rule, 1)
    both = optimizers.MultiOptimizer([native(rule), adapter.SGD(lr=0.5)], [lambda p, _: "w" in p])
    grads, norm = optimizers.clip_grad_norm(grads, 0.25)
    assert norm.item() > 0.25
    for _ in range(2):
        new = both.apply_gradients(grads, params)
        params, old = new, params
    alone = native(rule)
    own = {"layers": [{"w": layer["w"]} for layer in arrays(rule, 0)["layers"]]}
    for _ in range(2):
        own = alone.apply_gradients({"layers": [{"w": g["w"]} for g in grads["layers"]]}, own)
    assert_equal([layer["w"] for layer in new["layers"]], [layer["w"] for layer in own["layers"]])
    assert_equal(new["scale"], old["scale"] - 0.5 * grads["scale"])


def test_hyperparameters_are_attributes():
    a, b = adapter.AdamW(), adapter.AdamW(betas=(0.5, 0.75), weight_decay=0.5)
    assert (a.betas, a.eps) == ((0.9, 0.999), 1e-8)
    a.betas, a.weight_decay = (0.5, 0.75), 0.5
    params, grads = {"w": mx.array([1.0, -2.0])}, {"w": mx.array([0.5, 0.25])}
    assert_equal(a.apply_gradients(grads, params), b.apply_gradients(grads, params))
    for name, value in [("betas", (0.5, 1.5)), ("lr", -1.0), ("learning_rate", -1.0)]:
        with pytest.raises(ValueError, match="AdamW"):
            setattr(a, name, value)
    assert a.betas == (0.5, 0.75) and a.lr == 1e-3
    with pytest.raises(AttributeError, match="momentum"):
        _ = a.momentum


def spoil(kind, optimizer, grads):
    """Make the last gradient or its state one that does not fit."""
    state = optimizer.state["layers"][1]["b"]
    slot = next(iter(state), None)
    if kind == "shape":
        grads["layers"][1]["b"] = grads["layers"][1]["b"][None]
    elif kind == "integer":
        grads["layers"][1]["b"] = grads["layers"][1]["b"].astype(mx.int32)
    elif kind == "slot":
        state["other"] = mx.zeros(2)
    elif isinstance(state[slot], tuple):
        state[slot] = (state[slot][0][None],)
    else:
        state[slot] = mx.concatenate([state[slot], state[slot]])


@pytest.mark.parametrize("kind", ["shape", "integer", "slot"])
@pytest.mark.parametrize("name", RULES)
def test_what_does_not_fit_is_refused_by_path_and_changes_nothing(name, kind):
    refuses(name, kind)


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.slots()))
def test_state_that_does_not_fit_is_refused_by_path_and_changes_nothing(name):
    refuses(name, "state shape")


def refuses(name, kind):
    rule = build(name)
    optimizer, grads = native(rule), arrays(rule, 103)
    params = train(optimizer, rule, arrays(rule, 0), range(2))
    spoil(kind, optimizer, grads)
    before = flat(optimizer.state)
    with pytest.raises((TypeError, ValueError), match=rf"{rule.name}.*layers\.1\.b"):
        optimizer.apply_gradients(grads, params)
    assert_equal(optimizer.state, before)


def test_one_array_under_two_paths_has_two_states():
    w = mx.ones(2)
    optimizer = adapter.Adagrad(groups=[(lambda p: p.path == "b", {"initial_v": 2.0})])
    optimizer.init({"a": w, "b": w, "c": [w]})
    state = optimizer.state
    assert [state[p]["v"].tolist() for p in "ab"] == [[0.0, 0.0], [2.0, 2.0]]
    assert state["c"][0]["v"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("grads", "error", "message"),
    [
        ({"v": mx.ones(2)}, ValueError, "AdamW: there is a gradient for 'v' and no such parameter"),
        ({"w": {"x": mx.ones(2)}}, ValueError, "AdamW: there is a gradient for 'w.x' and no such"),
        (mx.ones(2), ValueError, "AdamW: there is a gradient for 'a single array' and no such"),
        ({"w": None}, TypeError, "AdamW: the gradient of parameter 'w' is NoneType; it must be an"),
        ({"w": np.ones(2)}, TypeError, "AdamW: the gradient of parameter 'w' is ndarray; it must"),
    ],
)
def test_gradients_that_do_not_fit_are_refused_by_path(grads, error, message):
    optimizer = adapter.AdamW()
    with pytest.raises(error, match=message):
        optimizer.apply_gradients(grads, {"w": mx.ones(2)})
    assert optimizer.state["step"].item() == 0 and "w" not in optimizer.state


def test_parameters_that_are_no_arrays_are_refused_by_path():
    with pytest.raises(
        TypeError, match=r"AdamW: parameter 'a\.0' is ndarray; it must be an mlx.core"
    ):
        adapter.AdamW().init({"a": [np.ones(2)]})


@pytest.mark.parametrize("name", ["like", "mask", "groups"])
def test_what_is_for_the_constructor_is_not_set_later(name):
    optimizer = adapter.AdamW()
    with pytest.raises(AttributeError, match=f"AdamW: {name} is fixed when an optimizer is made"):
        setattr(optimizer, name, None)


@pytest.mark.parametrize("name", RULES)
def test_a_tree_without_parameters_is_stepped(name):
    rule = build(name)
    optimizer = native(rule)
    optimizer.init({})
    assert optimizer.apply_gradients({}, {}) == {} and optimizer.state["step"].item() == 1
    train(optimizer, rule, arrays(rule, 0), [1])
    assert optimizer.state["step"].item() == 2


@pytest.mark.parametrize("value", [-1.0, float("nan"), True])
def test_an_array_for_a_number_is_held_to_the_range(value):
    with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be "):
        adapter.AdamW(lr=mx.array(value))
    optimizer = adapter.AdamW()
    with pytest.raises(ValueError, match=r"AdamW\(lr=.*\): lr must be "):
        optimizer.learning_rate = mx.array(value)
