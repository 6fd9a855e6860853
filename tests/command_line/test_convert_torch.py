"""``samestep convert`` from and to torch: state dicts, groups and the order of parameters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest

import samestep
from samestep.checkpoints import read
from samestep.checkpoints.contents import arrays
from tests.command_line.state_files import (
    ADAMW,
    SHAPES,
    USAGE,
    close,
    command,
    done,
    gradients,
    needs,
    numbers,
    refused,
    same_bits,
    same_slots,
    saved,
)

torch = pytest.importorskip("torch")
ours = pytest.importorskip("samestep.torch")
pytestmark = pytest.mark.usefixtures("in_own_folder")

TO_TORCH = "convert a b.pt --to torch"
ALIKE = {"query": (3, 3), "key": (3, 3), "norm": (3,), "value": (3, 3), "after": (3,)}
"""Shapes of which several are the same, in an order that is not the alphabet's."""
SORTED = dict(sorted(ALIKE.items()))


def in_order(names=SHAPES):
    """The option that tells in which order torch is to have the parameters."""
    Path("order").write_text("\n".join(names) + "\n")
    return " --order order"


def trainable(values):
    return {name: torch.nn.Parameter(torch.tensor(value)) for name, value in values.items()}


def torch_step(optimizer, params, step):
    for name, grad in gradients(step, {n: tuple(p.shape) for n, p in params.items()}).items():
        params[name].grad = torch.tensor(grad)
    optimizer.step()


def torch_trained(make, steps=10, shapes=SHAPES, named=True, **values):
    """An optimizer that has taken steps, and its parameters."""
    params = trainable(numbers(shapes))
    optimizer = make(params.items() if named else params.values(), **values)
    for step in range(steps):
        torch_step(optimizer, params, step)
    return optimizer, params


def loaded(path="b.pt"):
    return torch.load(path, weights_only=True)


def goes_on(optimizer, there, rule, params, state, steps):
    """Load ``b.pt`` and check that the optimizer's next steps are those of the rule."""
    optimizer.load_state_dict(loaded())
    shapes = {name: tuple(param.shape) for name, param in there.items()}
    for step in steps:
        torch_step(optimizer, there, step)
        before = params
        params, state = rule.update(gradients(step, shapes), params, state)
    for name, param in there.items():
        close(param.detach().numpy(), params[name], before[name])


RULES = {
    "AdamW": ADAMW,
    "AdamW-amsgrad": samestep.AdamW(lr=1e-2, amsgrad=True, maximize=True),
    "Adam": samestep.Adam(lr=1e-2, betas=(0.8, 0.95), weight_decay=0.1, like="torch"),
    "SGD": samestep.SGD(lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1, like="torch"),
    "RMSprop": samestep.RMSprop(lr=1e-2, momentum=0.9, centered=True, like="torch"),
    "Adagrad": samestep.Adagrad(lr=1e-2, weight_decay=0.1, like="torch"),
    "NAdam": samestep.NAdam(lr=1e-2, weight_decay=0.1, like="torch"),
    "Adafactor": samestep.Adafactor(lr=1e-2, weight_decay=0.1, like="torch"),
    "Rprop": samestep.Rprop(lr=1e-2, like="torch"),
}


@pytest.mark.parametrize("name", RULES)
def test_there_and_back_through_torch_is_the_same_to_the_last_bit(name):
    saved("a", RULES[name])
    done(TO_TORCH + in_order())
    assert loaded()["param_groups"][0]["param_names"] == [*SHAPES]
    done("convert b.pt c")
    # torch's SGD does not count its steps
    (same_slots if name == "SGD" else same_bits)("a", "c")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("AdamW", {}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
        ("Adagrad", {}),
    ],
)
def test_what_is_written_for_torch_goes_on_there(name, flags):
    rule = RULES[name]
    params, state = saved("a", rule)
    done(TO_TORCH + in_order())
    there = trainable(params)
    optimizer = getattr(torch.optim, name)(there.items(), lr=1.0, **flags)
    goes_on(optimizer, there, rule, params, state, [10])
    assert optimizer.param_groups[0]["lr"] == 1e-2


def test_groups_of_other_numbers_stay_groups_in_torch():
    saved("a", samestep.AdamW(lr=1e-2, groups=[(lambda p: p.ndim < 2, {"lr": 1e-3})]))
    done(TO_TORCH + in_order())
    first, second = loaded()["param_groups"]
    assert (first["lr"], first["param_names"]) == (1e-2, ["layers.0.weight"])
    assert (second["lr"], len(second["param_names"])) == (1e-3, 3)
    needs("mlx")
    assert "keeps its own lr" in refused("convert a c --to mlx")
    assert not Path("c").exists()


# The order of the parameters


def torch_goes_on(groups, rule, params, state):
    there = trainable(params)
    split = [{"params": [there[name] for name in names]} for names in groups]
    goes_on(torch.optim.AdamW(split, lr=1.0), there, rule, params, state, range(8, 11))


def write_order(form):
    """The order of ``ALIKE`` in a file of each kind that tells it."""
    tensors = {name: torch.zeros(shape) for name, shape in ALIKE.items()}
    if form == "lines":
        Path("order").write_text("\r\n".join(f" {name} " for name in ALIKE))
    elif form == "json":
        Path("order").write_text(json.dumps([*ALIKE]))
    elif form == "model":
        torch.save({"buffer": torch.ones(9)} | tensors, "order")
    elif form == "run":
        torch.save({"epoch": 1, "model": tensors}, "order")
    else:
        named = ((name, torch.nn.Parameter(tensor)) for name, tensor in tensors.items())
        samestep.save("order", ours.SGD(named, lr=0.1))


@pytest.mark.parametrize("form", ["lines", "json", "model", "run", "checkpoint"])
def test_parameters_of_one_shape_get_their_own_state_in_torch(form):
    """A tree of JAX is sorted by names, and torch goes by places."""
    params, state = saved("a", ADAMW, 8, SORTED)
    said = refused(TO_TORCH)
    assert "by its place, not by its name" in said
    assert "--order FILE" in said
    assert "samestep.load(path, torch_optimizer, model)" in said
    assert not Path("b.pt").exists()
    write_order(form)
    text = done(TO_TORCH + " --order order")
    assert "in this order: query, key, norm, value, after\n" in text
    torch_goes_on([[*ALIKE]], ADAMW, params, state)


def test_state_under_another_order_would_be_noticed():
    params, state = saved("a", ADAMW, 8, SORTED)
    done(TO_TORCH + in_order(["value", "key", "norm", "query", "after"]))
    with pytest.raises(AssertionError):
        torch_goes_on([[*ALIKE]], ADAMW, params, state)


def test_groups_are_told_in_the_order_in_which_torch_must_have_them():
    rule = ADAMW.replace(groups=[(lambda p: p.ndim < 2, {"weight_decay": 0.0})])
    params, state = saved("a", rule, 8, SORTED)
    text = done(TO_TORCH + in_order(ALIKE))
    assert "must be made with these 2 groups, in this order" in text
    assert "group 0 (weight_decay=0.1): query, key, value\n" in text
    assert "group 1 (weight_decay=0.0): norm, after\n" in text
    torch_goes_on([["query", "key", "value"], ["norm", "after"]], rule, params, state)


NAMES = [*ALIKE]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (json.dumps(NAMES[1:]), "it does not have query"),
        (json.dumps([*NAMES, "key"]), "it has key more than once"),
        (json.dumps([*NAMES, "keys"]), "it names keys, but the checkpoint has no state for them"),
        (json.dumps({"a": 1}), "this is no list of names"),
        ("[1, 2]", "this is no list of names"),
        ("[1,", "this is neither a JSON list of names nor a text"),
        (dict.fromkeys(NAMES, (2, 9)), "'query' has shape (2, 9) there"),
        ({}, "no model's state dict"),
        (None, "this checkpoint is of layout numpy"),
    ],
)
def test_an_order_that_is_none_of_these_parameters_is_refused(content, text):
    """A dict has the shapes in a model's state dict; ``None`` is for a checkpoint."""
    saved("a", ADAMW, 2, ALIKE)
    if isinstance(content, str):
        Path("order").write_text(content)
    elif content is None:
        saved("order", ADAMW, 2, ALIKE)
    else:
        torch.save({n: torch.zeros(shape) for n, shape in content.items()} or {"epoch": 3}, "order")
    said = refused(TO_TORCH + " --order order")
    assert "--order order: " in said
    assert text in said
    assert not Path("b.pt").exists()


def test_an_order_that_is_missing_or_for_another_library_is_a_usage_mistake():
    saved("a", ADAMW, 2, ALIKE)
    refused(TO_TORCH + " --order missing", code=USAGE)
    refused("convert a b --to mlx" + in_order(ALIKE), code=USAGE)


def test_a_checkpoint_of_torch_keeps_its_order_and_a_map_may_not():
    optimizer, params = torch_trained(torch.optim.AdamW, 8, ALIKE, lr=1e-2)
    samestep.save("a", optimizer)
    assert "in this order: query, key, norm, value, after\n" in done(TO_TORCH)
    other = torch.optim.AdamW(params.values(), lr=1.0)
    other.load_state_dict(loaded())
    for param in params.values():
        assert torch.equal(optimizer.state[param]["exp_avg"], other.state[param]["exp_avg"])
    Path("one.toml").write_text('[[rules]]\nfrom = "key"\nto = "a"\n')
    text = done("convert a c.pt --to torch --map one.toml")
    assert "in this order: query, a, norm, value, after\n" in text
    saved("tree", ADAMW, 2, ALIKE)
    said = refused("convert tree d.pt --to torch --map flax:torch")
    assert "whose layout a map has changed to torch's" in said
    shapes = {"bias": (3,), "kernel": (3, 3)}
    layers = {f"params.{at}.{n}": shape for at in ("fc", "head") for n, shape in shapes.items()}
    saved("flax", ADAMW, 2, layers)
    text = done("convert flax e --map flax:torch")
    assert "still in the order of numpy; --to torch needs --order" in text
    said = refused("convert e f.pt --to torch")
    assert "whose layout a map has changed to torch's" in said
    names = ["fc.weight", "fc.bias", "head.weight", "head.bias"]
    done("convert e f.pt --to torch" + in_order(names))


# State dicts


def test_a_state_of_torch_goes_on_in_jax():
    """Named by their places in torch, and under Flax's names and in its layout in JAX."""
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    mine = pytest.importorskip("samestep.jax").AdamW
    values = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    optimizer, params = torch_trained(torch.optim.AdamW, named=False, **values)
    torch.save(optimizer.state_dict(), "torch.pt")
    flax = ("dense.kernel", "dense.bias", "norm.scale", "scale")
    rules = [f'[[rules]]\nfrom = "{at}"\nto = "{name}"\n' for at, name in enumerate(flax)]
    rules[0] += "transpose = [1, 0]\n"
    Path("map.toml").write_text("strict = true\n" + "".join(rules))
    text = done("convert torch.pt ours --map map.toml")
    assert "0 -> dense.kernel, transpose [1, 0]: 1" in text
    assert "6 parameters" not in text

    def tree(w, b, n, s):
        leaves = {"dense": {"kernel": w.T, "bias": b}, "norm": {"scale": n}, "scale": s}
        return jax.tree.map(jax.numpy.asarray, leaves)

    before = {name: param.detach().numpy().copy() for name, param in params.items()}
    mine = mine(**values)
    there, state = samestep.load("ours", mine, tree(*before.values()))
    grads = tree(*gradients(10).values())
    updates, _ = mine.update(grads, state, there)
    new = optax.apply_updates(there, updates)
    fresh, _ = mine.update(grads, mine.init(there), there)
    torch_step(optimizer, params, 10)
    found = [new["dense"]["kernel"].T, new["dense"]["bias"], new["norm"]["scale"], new["scale"]]
    for (name, param), value in zip(params.items(), found, strict=True):
        close(value, param.detach().numpy(), before[name])
    assert numpy.abs(fresh["norm"]["scale"] - updates["norm"]["scale"]).max() > 1e-4


def test_an_optimizer_among_other_things_is_found():
    optimizer, params = torch_trained(torch.optim.AdamW, lr=1e-2)
    torch.save({"model": params, "optimizer": optimizer.state_dict(), "epoch": 3}, "a")
    torch.save(optimizer.state_dict(), "b")
    text = done("inspect a")
    assert "torch.optim.AdamW in 'optimizer', beside 'model', 'epoch'" in text
    for name in "ab":
        done(f"convert {name} {name}.safetensors")
    same_bits("a.safetensors", "b.safetensors")
    torch.save(params, "c")
    assert "a model's state dict of 4 tensors" in done("inspect c")
    assert "no optimizer state" in refused("convert c d")


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "RAdam", "Adamax", "Adadelta", "Rprop"])
def test_a_state_dict_of_torch_says_by_its_groups_whose_it_is(name):
    more = {"momentum": 0.9} if name == "SGD" else {}
    optimizer, _ = torch_trained(getattr(torch.optim, name), lr=1e-2, **more)
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    torch.save(optimizer.state_dict(), "a")
    assert f"the state dict of torch.optim.{name}" in done("inspect a")
    done("convert a b")
    assert [key for key in arrays(read("b")) if key.endswith("/layers.0.weight")]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("SGD", "'0' has exp_avg, exp_avg_sq, which torch.optim.SGD does not keep (it keeps momen"),
        ("torch.optim.RAdam", None),
        ("optimi.AdamW", "no decouple_lr, and optimi writes it; the state is not that of optimi.A"),
        ("optimi.SGD", "no decouple_lr, and optimi writes it"),
        ("heavyball.AdamW", "is kept in 3 pieces, not in one"),
        ("samestep.SGD", "it is no state of samestep.torch.SGD"),
    ],
)
def test_a_state_is_not_taken_for_that_of_another_class(rule, text):
    optimizer, _ = torch_trained(torch.optim.AdamW, 2, named=False, lr=1e-2)
    torch.save(optimizer.state_dict(), "a.pt")
    if text is None:
        done(f"convert a.pt b --rule {rule}")
    else:
        assert text in refused(f"convert a.pt b --rule {rule}")
        assert not Path("b").exists()


def test_what_no_rule_computes_is_shown_and_refused_by_name():
    optimizer, _ = torch_trained(torch.optim.ASGD, lr=1e-2)
    torch.save(optimizer.state_dict(), "a")
    text = done("inspect a")
    assert "torch.optim.ASGD" in text
    assert "group 0 of 4 parameters: lr=" in text
    assert "averaged SGD" in refused("convert a b")


def test_a_state_dict_of_ours_becomes_a_checkpoint():
    optimizer, _ = torch_trained(ours.Adan, lr=1e-2, weight_decay=0.1)
    torch.save(optimizer.state_dict(), "a.pt")
    samestep.save("wanted", optimizer)
    assert "an optimizer of samestep.torch, Adan" in done("inspect a.pt")
    done("convert a.pt b")
    same_bits("b", "wanted")


def without_record(state_dict):
    """The state dict as versions wrote it that did not say which rule it is of."""
    groups = state_dict["param_groups"]
    bare = [{n: v for n, v in group.items() if n != "written_by"} for group in groups]
    return {**state_dict, "param_groups": bare}


def test_a_state_dict_of_ours_says_which_rule_it_is_of():
    optimizer, _ = torch_trained(ours.AdamW, 1, lr=1e-2, weight_decay=0.2)
    torch.save(optimizer.state_dict(), "a")
    samestep.save("wanted", optimizer)
    text = done("inspect a")
    assert "an optimizer of samestep.torch, AdamW" in text
    assert "written_by" not in text
    done("convert a b")
    same_bits("b", "wanted")


def test_slots_of_several_arrays_do_not_hide_the_rule():
    optimizer, _ = torch_trained(ours.Adafactor, 1, momentum=0.9)
    torch.save(without_record(optimizer.state_dict()), "a")
    samestep.save("wanted", optimizer)
    done("convert a b")
    same_bits("b", "wanted")


def test_what_a_state_dict_of_ours_may_be_of_is_said_likeliest_first():
    optimizer, _ = torch_trained(ours.AdamW, 1, lr=1e-2, weight_decay=0.2)
    torch.save(without_record(optimizer.state_dict()), "a")
    said = refused("convert a b")
    assert "those of the rules AdamW, Adam; say which it is: --rule samestep.AdamW" in said
    for name in ("AdamW", "Adam"):
        done(f"convert a {name} --rule samestep.{name}")


@pytest.mark.parametrize("written", [dict, without_record])
@pytest.mark.parametrize("wrap", [samestep.ClipGlobalNorm, samestep.Lookahead, samestep.Cautious])
def test_a_state_dict_of_wrapped_rules_is_to_be_saved_by_its_optimizer(wrap, written):
    rule = wrap(samestep.AdamW(lr=1e-2))
    optimizer, _ = torch_trained(lambda named: ours.bind(rule, named), 1)
    torch.save(written(optimizer.state_dict()), "a")
    said = refused("convert a b")
    assert "load it into the optimizer that it is of" in said
    assert "samestep.save(path, optimizer)" in said
    assert "--rule" not in said


@pytest.mark.parametrize(
    "content",
    [
        {"state": {}, "param_groups": []},
        {"state": [], "param_groups": [{"params": [0]}]},
        {"state": {0: 3}, "param_groups": [{"params": [0]}]},
        {"state": {}, "param_groups": [{"params": 0}]},
        {"state": {}, "param_groups": [{"params": [0]}]},
        {"state": {0: {"a": 1}}, "param_groups": [{"params": [0, 1], "lr": "x"}]},
        [1, 2],
    ],
    ids=str,
)
def test_what_is_not_quite_a_state_dict_is_no_traceback(content):
    torch.save(content, "a")
    done("inspect a")
    for rule in ("", " --rule AdamW", " --rule samestep.AdamW"):
        refused("convert a b" + rule)
    assert not Path("b").exists()


@pytest.mark.parametrize("end", [0.1, 0.5, 0.99])
def test_files_that_have_been_cut_off_are_no_traceback(end):
    saved("ours", ADAMW)
    torch.save({"w": torch.ones(50)}, "torch")
    for name in ("ours", "torch"):
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: int(len(whole) * end)])
        result = command(f"inspect {name}")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert result.exit_code == 1 or "damaged" in result.output
        refused(f"convert {name} b")
    assert not Path("b").exists()
