"""What a checkpoint is of: the optimizer as it is then, and all of the model that was given."""

from __future__ import annotations

import itertools
from zlib import crc32

import numpy
import pytest

import samestep
from samestep.arrays import dtype_name
from samestep.checkpoints.description import made
from samestep.conformance.harness.settings import all_rules, typical
from samestep.wrapper import Wrapper

RULES = {
    "Lookahead": samestep.Lookahead(samestep.AdamW(lr=0.1), sync_period=3),
    "Average": samestep.Average(samestep.AdamW(lr=0.1)),
    "Prodigy": samestep.Prodigy(d0=1e-2),
}


def numpy_steps(rule, params, state, count):
    for i in range(count):
        grads = {n: numpy.cos(p + i).astype(p.dtype) for n, p in params.items()}
        params, state = rule.update(grads, params, state)
    return params, state


def torch_steps(optimizer, tensors, first, count):
    torch = pytest.importorskip("torch")
    for i in range(first, first + count):
        for tensor in tensors:
            tensor.grad = torch.cos(tensor.detach() + i)
        optimizer.step()


@pytest.mark.parametrize(
    ("layout", "shape"), [("io", (4, 3)), ("ioo", (4, 3, 2)), ("oxi", (4, 2, 3))]
)
def test_every_wrapped_rule_loads_its_own_checkpoint_whatever_its_layout(layout, shape):
    """Also a factored rule in a wrapper that shows it the outputs first, which is its layout."""
    params, seen = {"w": numpy.ones(shape)}, set()
    wrappers = [kind for kind in all_rules() if issubclass(kind, Wrapper)]
    factored = [kind for kind in all_rules() if kind.needs == "factored"]
    inner = [kind() for kind in factored if "layout" in kind.fields()]
    for outer, rule in itertools.product(wrappers, inner):
        own = outer(rule, **typical(outer)._values).replace(layout=layout, batch_axes=())
        state = own.init(params)
        taken = samestep.checkpoint(own, params, state)
        restored, _ = samestep.restore(own, taken, params)
        numpy.testing.assert_equal(restored, params)
        again = made(taken.parameters["w"].rule)
        assert again.replace(lr=0.5).hypers == own.replace(lr=0.5).hypers
        seen.add((own.name, rule.name))
    assert ("AdaptiveClip", "CAME") in seen


def test_later_steps_do_not_change_it_in_torch(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    optimizer = samestep.torch.AdamW([("w", tensor)], lr=0.1)
    torch_steps(optimizer, [tensor], 0, 5)
    taken = samestep.checkpoint(optimizer, {"w": tensor})
    then = tensor.detach().clone(), optimizer.state[tensor]["m"].clone()
    torch_steps(optimizer, [tensor], 5, 5)
    assert not torch.equal(tensor, then[0])
    samestep.save(tmp_path / "x", taken)
    for restored in (
        lambda: samestep.restore(optimizer, taken, {"w": tensor}),
        lambda: samestep.load(tmp_path / "x", optimizer, {"w": tensor}),
    ):
        torch_steps(optimizer, [tensor], 0, 1)
        restored()
        assert torch.equal(tensor, then[0])
        assert torch.equal(optimizer.state[tensor]["m"], then[1])
        assert optimizer.steps_taken == 5


def test_writing_into_an_array_does_not_change_it_in_numpy():
    rule, params = samestep.AdamW(), {"w": numpy.ones(3)}
    params, state = numpy_steps(rule, params, rule.init(params), 2)
    taken, before = samestep.checkpoint(rule, params, state), params["w"].copy()
    params["w"] += 5
    restored, _ = samestep.restore(rule, taken, {"w": numpy.zeros(3)})
    numpy.testing.assert_array_equal(restored["w"], before)


@pytest.mark.parametrize("name", RULES)
def test_state_that_has_not_begun_starts_from_the_parameters_in_the_file(name, tmp_path):
    torch = pytest.importorskip("torch")
    rule, start = RULES[name], numpy.array([5.0, -3.0, 0.5])
    tensor = torch.nn.Parameter(torch.tensor(start))
    optimizer = samestep.torch.bind(rule, [("w", tensor)])
    samestep.save(tmp_path / "x", optimizer, {"w": tensor})
    loaded = samestep.load(tmp_path / "x", rule, {"w": numpy.zeros(3)})
    params, state = numpy_steps(rule, *loaded, 7)
    whole, expected = numpy_steps(rule, {"w": start}, rule.init({"w": start}), 7)
    numpy.testing.assert_array_equal(params["w"], whole["w"])
    for slot, tree in expected.slots.items():
        numpy.testing.assert_array_equal(state.slots[slot]["w"], tree["w"])


def network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2)
    )
    model[0].requires_grad_(False)
    return model


def adamw(library, params):
    """AdamW of samestep, or of torch."""
    torch = pytest.importorskip("torch")
    if library == "torch":
        return torch.optim.AdamW(params, lr=0.1)
    return samestep.torch.AdamW(params, lr=0.1, like="torch")


def trained_network(library="samestep"):
    torch = pytest.importorskip("torch")
    model = network()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = adamw(library, trained)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(16, 4) * 3 + 1).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        model[0].weight.mul_(2)
    return model, optimizer


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("loads", ["samestep", "torch"])
@pytest.mark.parametrize("saves", ["samestep", "torch"])
def test_frozen_parameters_and_buffers_of_a_model_are_in_it(saves, loads, whole, tmp_path):
    torch = pytest.importorskip("torch")
    model, optimizer = trained_network(saves)
    samestep.save(tmp_path / "x", optimizer, model)
    other = network()
    held = [(n, p) for n, p in other.named_parameters() if whole or p.requires_grad]
    samestep.load(tmp_path / "x", loading := adamw(loads, held), other)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert {n for n, p in held if loading.state.get(p)} == {
        *optimizer.param_groups[0]["param_names"]
    }


def test_they_are_in_the_checkpoint_of_a_state_dict():
    pytest.importorskip("torch")
    model, _ = trained_network()
    optimizer = adamw("torch", model.named_parameters())
    saved = samestep.torch.from_state_dict("AdamW", optimizer.state_dict(), model)
    assert {*saved.others} == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_values_of_another_model_leave_torch_as_it_is():
    torch = pytest.importorskip("torch")
    saved = samestep.checkpoint(*reversed(trained_network("torch")))
    for change, words in (
        (lambda m: m[1].register_buffer("running_mean", torch.zeros(4)), "1.running_mean.*shape"),
        (lambda m: m[0].double(), "0.weight.*float64"),
    ):
        model = network()
        change(model)
        before = repr(model.state_dict())
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        optimizer = adamw("torch", trained)
        with pytest.raises(samestep.CheckpointError, match=words):
            samestep.restore(optimizer, saved, model)
        assert repr(model.state_dict()) == before
        assert not optimizer.state


def test_they_go_to_mlx_which_has_them_among_its_parameters_and_back(tmp_path):
    torch = pytest.importorskip("torch")
    nn = pytest.importorskip("mlx.nn")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(4, 3), nn.BatchNorm(3), nn.Linear(3, 2)]

    model, optimizer = trained_network()
    names = samestep.Map({"from": "{layer}.{leaf}", "to": "layers.{layer}.{leaf}"})
    inside, _ = names.apply(samestep.checkpoint(optimizer, model))
    assert inside.step == 3
    net, in_mlx = Net(), samestep.mlx.AdamW(lr=0.1)
    with pytest.warns(UserWarning, match="num_batches_tracked"):
        samestep.restore(in_mlx, inside, net)
    for name in ("running_mean", "running_var", "weight"):
        expected = model[1].state_dict()[name].numpy()
        numpy.testing.assert_array_equal(numpy.array(net.layers[1][name]), expected)
    numpy.testing.assert_array_equal(
        numpy.array(net.layers[0]["weight"]), model[0].weight.detach().numpy()
    )
    other = network()
    trained = [(n, p) for n, p in other.named_parameters() if p.requires_grad]
    back = names.inverse().apply(samestep.checkpoint(in_mlx, net)).checkpoint
    with pytest.warns(UserWarning, match="num_batches_tracked"):
        samestep.restore(samestep.torch.AdamW(trained), back, other)
    assert torch.equal(other[1].running_var, model[1].running_var)
    assert torch.equal(other[0].weight, model[0].weight)


def test_a_file_without_values_is_refused_for_a_model(tmp_path):
    torch = pytest.importorskip("torch")
    model, optimizer = trained_network()
    samestep.save(tmp_path / "x", optimizer)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(samestep.CheckpointError, match="only state; restore it without a model"):
        samestep.load(tmp_path / "x", optimizer, model)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    samestep.load(tmp_path / "x", optimizer)


def test_a_good_file_is_not_replaced_by_one_that_fits_nothing(tmp_path):
    rule, params = samestep.AdamW(), {"w": numpy.ones(3)}
    params, state = numpy_steps(rule, params, rule.init(params), 2)
    samestep.save(tmp_path / "x", rule, params, state)
    before = (tmp_path / "x").read_bytes()
    for wrong in ({"other": numpy.ones(3)}, {"w": numpy.ones(4)}):
        with pytest.raises(ValueError, match="slot"):
            samestep.save(tmp_path / "x", rule, wrong, state)
    with pytest.raises(ValueError, match="Adan keeps"):
        samestep.save(tmp_path / "x", samestep.Adan(), params, state)
    assert (tmp_path / "x").read_bytes() == before


def test_a_parameter_that_has_counted_other_steps_keeps_its_count(tmp_path):
    torch = pytest.importorskip("torch")
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = samestep.torch.AdamW([("a", a), ("b", b)])
    torch_steps(optimizer, [a], 0, 4)
    samestep.save(tmp_path / "x", optimizer, {"a": a, "b": b})
    rule = samestep.AdamW()
    _, state = samestep.load(tmp_path / "x", rule, {n: numpy.zeros(2, "float32") for n in "ab"})
    tree = crc32("\n".join("ab").encode())
    assert state.step == 4 and state.shared == {f"step missed by 1 of {tree:08x}": 4}


def test_a_link_to_a_file_stays_one(tmp_path):
    rule, params = samestep.SGD(), {"w": numpy.ones(3)}
    samestep.save(tmp_path / "1", rule, params, rule.init(params))
    (tmp_path / "latest").symlink_to("1")
    samestep.save(tmp_path / "latest", rule, {"w": numpy.zeros(3)}, rule.init(params))
    assert (tmp_path / "latest").is_symlink()
    loaded, _ = samestep.load(tmp_path / "1", rule, params)
    assert not loaded["w"].any()


def test_jax_chooses_the_device_of_what_had_none(tmp_path):
    jax = pytest.importorskip("jax")
    rule, params = samestep.jax.AdamW(), {"w": jax.numpy.ones(3)}
    samestep.save(tmp_path / "x", rule, params, rule.init(params))
    loaded, state = samestep.load(tmp_path / "x", rule, params)
    assert not loaded["w"].committed and not state.slots["m"]["w"].committed
    fixed = jax.device_put(params, jax.devices()[0])
    loaded, _ = samestep.load(tmp_path / "x", rule, fixed)
    assert loaded["w"].committed


def test_what_a_library_cannot_hold_is_said(tmp_path):
    jax = pytest.importorskip("jax")
    rule, params = samestep.AdamW(), {"w": numpy.ones(3)}
    _, state = numpy_steps(rule, params, rule.init(params), 2)
    taken = samestep.checkpoint(rule, params, state)
    with jax.enable_x64(True):
        like = {"w": jax.numpy.ones(3)}
    assert dtype_name(like["w"].dtype) == "float64"
    with (
        pytest.warns(UserWarning, match="not available"),
        pytest.raises(samestep.CheckpointError, match="64-bit mode"),
    ):
        samestep.restore(samestep.jax.bind(rule), taken, like)


@pytest.mark.parametrize("library", ["numpy", "jax", "mlx", "torch"])
def test_what_is_not_given_is_asked_for(library, tmp_path):
    if library == "numpy":
        optimizer, params = samestep.AdamW(), numpy.ones(3)
    elif library == "torch":
        torch = pytest.importorskip("torch")
        module = pytest.importorskip("samestep.torch")
        params = torch.nn.Parameter(torch.ones(3))
        optimizer = module.AdamW([params])
        with pytest.raises(TypeError, match=r"give the model, its named_parameters\(\)"):
            samestep.save(tmp_path / "x", optimizer, [params])
        return
    else:
        pytest.importorskip(library)
        optimizer = pytest.importorskip(f"samestep.{library}").AdamW()
    rule = samestep.AdamW()
    start = {"w": numpy.ones(3, "float32")}
    samestep.save(tmp_path / "x", rule, start, rule.init(start))
    for ask in (
        lambda: samestep.save(tmp_path / "y", optimizer),
        lambda: samestep.load(tmp_path / "x", optimizer),
    ):
        with pytest.raises(TypeError, match=r"AdamW: .*give the"):
            ask()
    assert not (tmp_path / "y").exists()
