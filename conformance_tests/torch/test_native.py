"""The state of torch.optim's own optimizers, from and to ours: the next steps are the same.

The states themselves are compared in ``checkpoint/test_foreign_states``. Gradients here are missing
for some parameters at some steps, and groups have rates of their own.
"""

from __future__ import annotations

import copy
import io
import math
import re
from contextlib import contextmanager

import numpy
import pytest

import samestep
from samestep.checkpoints import CheckpointError
from samestep.checkpoints.description import made
from samestep.conformance.rules.test_dialects import FURTHEST

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")
libraries = pytest.importorskip("samestep.torch.libraries")

SHAPES = {"w": (4, 3), "b": (3,), "conv": (3, 2, 2, 2), "scale": (), "late": (2, 3)}
BEFORE, AFTER = 30, 10
RECTIFIED = 1e-10
"""RAdam's rho, which torch finds by cancellation; see the peers."""
FIRST = [
    pytest.param(case, id=case.label)
    for case in FURTHEST
    if case.like == "torch" and "inner" not in case.values
    if case.peer.rule != "Muon"  # which takes matrices only
]


@contextmanager
def default(dtype):
    """torch's step counts, and NAdam's product, are in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def parameters(dtype, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return {
        name: torch.nn.Parameter(
            torch.randn(shape, generator=noise, dtype=torch.float64).to(getattr(torch, dtype))
        )
        for name, shape in SHAPES.items()
    }


def clone(params):
    return {name: torch.nn.Parameter(param.detach().clone()) for name, param in params.items()}


def groups(params, lr):
    """Two groups, of which one has a rate of its own."""
    several = [("w", "late", "scale"), ("conv", "b")]
    return [
        {"params": [(n, params[n]) for n in some], "lr": lr * factor}
        for some, factor in zip(several, (1.0, 0.3), strict=True)
    ]


def native(name, params, values):
    rate = values.get("lr", 0.02)
    rest = {key: value for key, value in values.items() if key != "lr"}
    return getattr(torch.optim, name)(groups(params, rate), lr=rate, **rest)


def of(case, params, **changed):
    """The optimizer of a case, with groups."""
    hypers = {**case.rule.hypers, **changed}
    return case.peer.make(groups(params, hypers["lr"]), hypers)


def gradients(params, step, missing=True):
    """``scale`` has none at every third step, ``late`` none before the thirty-third."""
    for at, (name, param) in enumerate(params.items()):
        noise = torch.Generator().manual_seed(7919 * step + at)
        exponent = torch.randint(-3, 2, param.shape, generator=noise)
        kept = torch.rand(param.shape, generator=noise) > 0.1
        normal = torch.randn(param.shape, generator=noise, dtype=torch.float64)
        param.grad = (normal * 10.0**exponent * kept).to(param.dtype)
        if missing and ((name == "scale" and step % 3 == 1) or (name == "late" and step < 33)):
            param.grad = None


def train(optimizer, params, steps, missing=True):
    for step in steps:
        gradients(params, step, missing)
        optimizer.step()


def bound(checkpoint, params):
    """Our optimizer of the rule that the checkpoint is of, with rates that are not its own."""
    rule = made(next(iter(checkpoint.parameters.values())).rule)
    return adapter.bind(rule, groups(params, 0.123))


def close(one, other, size, tolerance, what):
    one, other = numpy.float64(one), numpy.float64(other)
    size = numpy.fmax(size, numpy.abs(other))
    worst = numpy.max(numpy.abs(one - other) / numpy.where(size == 0, 1.0, size), initial=0.0)
    fits = one.shape == other.shape and bool(worst <= tolerance)
    assert fits, f"{what} differs by {worst:.3g}, allowed is {tolerance:.3g}"


def same_steps(one, params, other, params2, tolerance, steps=range(BEFORE, BEFORE + AFTER)):
    """Both take the same steps, and have the same state, counts and rates thereafter."""
    moved = dict.fromkeys(params, 0.0)
    for step in steps:
        before = {name: param.detach().clone() for name, param in params.items()}
        gradients(params, step)
        gradients(params2, step)
        one.step()
        other.step()
        for name, param in params.items():
            now = param.detach().double().numpy()
            change = numpy.abs(now - before[name].double().numpy())
            moved[name] = numpy.fmax(moved[name], change)
            theirs = params2[name].detach().double().numpy()
            close(theirs, now, moved[name], tolerance, f"{name} at step {step}")
    same_states(samestep.checkpoint(one), samestep.checkpoint(other), tolerance)


def same_states(one, other, tolerance):
    assert one.parameters.keys() == other.parameters.keys()
    for name, own in one.parameters.items():
        there = other.parameters[name]
        numbers = own.rule["values"]["lr"], there.rule["values"]["lr"]
        assert numbers[0] == numbers[1], name
        assert own.step == there.step or own.rule["name"] == "SGD", name  # torch's counts none
        assert (own.slots is None) == (there.slots is None) or not (own.slots or there.slots)
        for (slot, part), (_, part2) in zip(own.tensors(), there.tensors(), strict=True):
            values = part.values()
            size = numpy.max(numpy.abs(values), initial=0.0)
            close(part2.values(), values, size, 4 * tolerance, f"{slot} of {name}")


@pytest.mark.parametrize("case", FIRST)
def test_a_native_optimizer_comes_back_to_the_last_bit(case) -> None:
    params = parameters("float32")
    theirs = of(case, params)
    train(theirs, params, range(BEFORE))
    own = parameters("float32", seed=1)
    again = of(case, own, lr=0.0077)
    samestep.restore(again, samestep.checkpoint(theirs, params), own)
    expected, found = theirs.state_dict(), again.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for key, state in expected["state"].items():
        kept = {n: v for n, v in state.items() if v is not None}
        assert found["state"][key].keys() == kept.keys()
        for slot, value in kept.items():
            assert found["state"][key][slot].dtype == value.dtype
            assert torch.equal(found["state"][key][slot], value), (key, slot)
    assert all(torch.equal(own[name], params[name]) for name in params)


def three_forms(theirs, params):
    """The state dict keyed by place, with names beside that, and keyed by name."""
    plain = copy.deepcopy(theirs.state_dict())
    names = [n for group in plain["param_groups"] for n in group["param_names"]]
    bare = [{k: v for k, v in g.items() if k != "param_names"} for g in plain["param_groups"]]
    keyed = [{**g, "params": [names[i] for i in g["params"]]} for g in bare]
    state = {names[key]: value for key, value in plain["state"].items()}
    yield "names", plain, None
    yield "model", {**plain, "param_groups": bare}, {n: params[n] for n in names}
    yield "keys", {"state": state, "param_groups": keyed}, params


@pytest.mark.parametrize("case", FIRST)
def test_a_state_dict_says_what_its_optimizer_does(case) -> None:
    params = parameters("float32")
    theirs = of(case, params)
    train(theirs, params, range(BEFORE + 5))
    expected = samestep.checkpoint(theirs, params)
    for form, state_dict, given in three_forms(theirs, params):
        found = adapter.from_state_dict(type(theirs).__name__, state_dict, given)
        assert found.parameters.keys() == expected.parameters.keys(), form
        for path, own in expected.parameters.items():
            there = found.parameters[path]
            assert (own.rule, own.step, own.shape, own.dtype) == (
                *(there.rule, there.step, there.shape, there.dtype),
            )
            for (_, one), (_, other) in zip(own.tensors(), there.tensors(), strict=True):
                assert numpy.array_equal(one.bits, other.bits)
            assert (there.value is None) == (given is None)


@pytest.mark.parametrize("case", FIRST)
def test_a_state_dict_is_filled_and_loaded(case) -> None:
    params = parameters("float32")
    theirs = of(case, params)
    train(theirs, params, range(BEFORE + 5))
    taken = samestep.checkpoint(theirs)
    own = clone(params)
    again = of(case, own, lr=0.0077)
    empty = again.state_dict()
    kept = copy.deepcopy(empty)
    filled = adapter.into_state_dict(type(theirs), empty, taken, own)
    assert repr(empty) == repr(kept)
    file = io.BytesIO()
    torch.save(filled, file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    steps = range(BEFORE + 5, BEFORE + 15)
    same_steps(theirs, params, again, own, 0.0 if case.peer.rule != "NAdam" else 1e-6, steps)


@pytest.mark.parametrize("case", FIRST)
def test_ours_and_theirs_count_the_steps_of_each_parameter(case) -> None:
    """With groups that have rates of their own, and parameters without a gradient at some steps."""
    tolerance = RECTIFIED if case.peer.rule == "RAdam" else 1e-12
    with default("float64"):
        params = parameters("float64")
        theirs = of(case, params)
        train(theirs, params, range(BEFORE))
        taken = samestep.checkpoint(theirs, params)
        own, back, two = clone(params), clone(params), clone(params)
        ours, again = bound(taken, own), of(case, back, lr=0.0077)
        samestep.restore(ours, taken)
        train(again, back, range(3), missing=False)  # what is there already must be gone
        samestep.restore(again, samestep.checkpoint(ours, own), back)
        same_steps(theirs, params, ours, own, tolerance)
        once = of(case, two)
        samestep.restore(once, taken)
        same_steps(once, two, again, back, tolerance)


def test_the_state_dict_of_distributed_checkpoints_is_read() -> None:
    distributed = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    theirs = torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)
    train(theirs, dict(model.named_parameters()), range(5), missing=False)
    state_dict = distributed.get_optimizer_state_dict(model, theirs)
    found = adapter.from_state_dict(torch.optim.AdamW, state_dict)
    same_states(samestep.checkpoint(theirs, model), found, 0.0)
    assert [*found.parameters] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert found.step == 5


def test_parameters_are_called_by_their_names_or_those_of_the_model_or_their_places() -> None:
    model = torch.nn.Linear(3, 2)
    nameless = torch.optim.SGD(model.parameters(), lr=0.1)
    named = torch.optim.SGD([("a", model.weight), ("b", model.bias)], lr=0.1)
    assert [*samestep.checkpoint(nameless).parameters] == ["0", "1"]
    assert [*samestep.checkpoint(nameless, model).parameters] == ["weight", "bias"]
    assert [*samestep.checkpoint(named, model).parameters] == ["a", "b"]
    with pytest.raises(CheckpointError, match=r"not among the 2 given"):
        samestep.checkpoint(nameless, torch.nn.Linear(3, 2))


@pytest.mark.parametrize("how", ["foreach", "fused", "capturable", "tensor", "bfloat16", "complex"])
def test_a_native_optimizer_that_steps_in_another_way_goes_on(how) -> None:
    dtype = {"bfloat16": "bfloat16", "complex": "float32"}.get(how, "float32")
    params = parameters(dtype)
    if how == "complex":
        values = {n: torch.complex(p.detach(), p.detach() / 3) for n, p in params.items()}
        params = {name: torch.nn.Parameter(value) for name, value in values.items()}
    options = {how: True} if how in ("foreach", "fused") else {}
    options |= {"lr": torch.tensor(0.01)} if how == "tensor" else {"lr": 0.01}

    def made_of(params):
        return torch.optim.Adam(params.items(), amsgrad=True, **options)

    def advance(optimizer, params, steps):
        for step in steps:
            for at, param in enumerate(params.values()):
                noise = torch.Generator().manual_seed(31 * step + at)
                param.grad = torch.randn(param.shape, generator=noise, dtype=param.dtype)
            optimizer.step()

    theirs = made_of(params)
    advance(theirs, params, range(9))
    own = clone(params)
    again = made_of(own)
    if how == "capturable":
        again.param_groups[0]["capturable"] = True
    rate = again.param_groups[0]["lr"]
    samestep.restore(again, samestep.checkpoint(theirs))
    assert again.param_groups[0]["lr"] is rate or how != "tensor"
    state = again.state[own["w"]]
    assert state["step"].dtype == torch.float32 and state["step"] == 9
    assert state["exp_avg"].dtype == own["w"].dtype
    if how == "capturable":
        return  # a step would need a GPU
    advance(theirs, params, range(9, 14))
    advance(again, own, range(9, 14))
    assert all(torch.equal(own[name], params[name]) for name in params)


def test_amsgrad_by_its_own_name_goes_to_adam() -> None:
    with default("float64"):
        params = parameters("float64")
        ours = adapter.AMSGrad(groups(params, 0.02), weight_decay=0.1)
        train(ours, params, range(BEFORE))
        own = clone(params)
        theirs = native("Adam", own, {"amsgrad": True})
        samestep.restore(theirs, samestep.checkpoint(ours))
        assert theirs.param_groups[1]["lr"] == 0.3 * 0.02
        for step in range(BEFORE, BEFORE + AFTER):
            train(ours, params, [step])
            train(theirs, own, [step])
            for name in params:
                close(own[name].detach(), params[name].detach(), 0.1, 1e-12, name)


def test_a_tensor_of_a_number_is_written_into_unless_its_groups_get_several() -> None:
    params = parameters("float32")
    saving = native("Adam", params, {"lr": 0.5, "betas": (0.8, 0.95)})
    train(saving, params, range(3))
    own, rate = parameters("float32"), torch.tensor(0.25)
    alone = torch.optim.Adam([{**group, "lr": rate} for group in groups(own, 0.1)])
    samestep.restore(alone, samestep.checkpoint(saving))
    assert [float(group["lr"]) for group in alone.param_groups] == [0.5, torch.tensor(0.3 * 0.5)]
    assert float(rate) == 0.25
    betas = torch.tensor(0.9), torch.tensor(0.99)
    options = {"lr": rate, "betas": betas, "foreach": False, "capturable": True}
    graph = torch.optim.Adam([*own.items()], **options)
    saving = torch.optim.Adam([*params.items()], lr=0.5, betas=(0.8, 0.95))
    samestep.restore(graph, samestep.checkpoint(saving))
    assert graph.param_groups[0]["lr"] is rate and float(rate) == 0.5
    assert torch.stack(betas).equal(torch.tensor([0.8, 0.95]))
    assert [*map(id, graph.param_groups[0]["betas"])] == [*map(id, betas)]


def test_an_optimizer_before_its_first_step_gives_and_takes_its_beginning() -> None:
    for name, values in (("Adagrad", {"initial_accumulator_value": 0.3}), ("Adam", {})):
        params = parameters("float64")
        taken = samestep.checkpoint(native(name, params, values))
        assert taken.step == 0
        own = clone(params)
        theirs = native(name, own, values)
        train(theirs, own, range(3), missing=False)
        samestep.restore(theirs, taken)
        again = clone(own)
        fresh = native(name, again, values)
        same_steps(fresh, again, theirs, own, 0.0)


REFUSED = {
    "ASGD": (torch.optim.ASGD, "averaged SGD"),
    "LBFGS": (torch.optim.LBFGS, "history"),
    "SparseAdam": (torch.optim.SparseAdam, "rows"),
    "a class of one's own": (
        type("Mine", (torch.optim.AdamW,), {}),
        "no optimizer of",
    ),
    "eps 0 in Adadelta": (lambda p: torch.optim.Adadelta(p, eps=0.0), "eps must be > 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_carried_is_refused_by_name(what) -> None:
    make, why = REFUSED[what]
    optimizer = make([torch.nn.Parameter(torch.ones(3, 2))])
    with pytest.raises(CheckpointError, match=re.escape(why)):
        samestep.checkpoint(optimizer)
    empty = samestep.Checkpoint({})
    if what != "eps 0 in Adadelta":
        with pytest.raises(CheckpointError, match=type(optimizer).__name__):
            samestep.restore(optimizer, empty)


WRONG = {
    "another rule": (lambda: samestep.AdEMAMix(lr=0.01), "AdEMAMix"),
    "a decay that it has not": (lambda: samestep.AdamW(decay="absolute"), "decay"),
    "no correction": (lambda: samestep.AdamW(like="mlx"), "bias_correction"),
    "a number that it has not": (lambda: samestep.AdamW(eps_root=1e-6), "has no eps_root"),
    "a slot more": (lambda: samestep.AdamW(amsgrad=True), "amsgrad"),
    "state in another dtype": (lambda: samestep.AdamW(state_dtype="float64"), "parameter's dtype"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_checkpoint_that_does_not_fit_changes_nothing(what) -> None:
    rule, why = WRONG[what]
    params = parameters("float32")
    ours = adapter.bind(rule(), groups(params, 0.02))
    train(ours, params, range(3))
    own = parameters("float32", seed=1)
    theirs = native("AdamW", own, {})
    train(theirs, own, range(2))
    before = copy.deepcopy((theirs.state_dict(), own))
    with pytest.raises(CheckpointError, match=why):
        samestep.restore(theirs, samestep.checkpoint(ours, params), own)
    assert repr(before) == repr((theirs.state_dict(), own))


def test_a_damaged_file_changes_nothing(tmp_path) -> None:
    params = parameters("float32")
    theirs = native("AdamW", params, {})
    train(theirs, params, range(3))
    path = tmp_path / "x"
    samestep.save(path, theirs, params)
    own = parameters("float32", seed=1)
    again = native("AdamW", own, {})
    train(again, own, range(2))
    before = repr((again.state_dict(), own))
    good = path.read_bytes()
    arrays = len(good) - 2 * 4 * sum(math.prod(shape) for shape in SHAPES.values())
    for at in range(arrays, len(good), 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 64]) + good[at + 1 :])
        with pytest.raises(CheckpointError, match="changed since"):
            samestep.load(path, again, own)
        assert repr((again.state_dict(), own)) == before


def test_a_state_dict_that_is_none_is_refused() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    empty = optimizer.state_dict()
    with pytest.raises(CheckpointError, match="'0' has no state"):
        adapter.from_state_dict("AdamW", empty)
    assert samestep.checkpoint(optimizer).step == 0
    assert adapter.from_state_dict("AdamW", empty, model).step == 0
    with pytest.raises(CheckpointError, match="must have state and param_groups"):
        adapter.from_state_dict("AdamW", {"weight": model.weight})
    with pytest.raises(ValueError, match="torch, optimi, heavyball"):
        adapter.from_state_dict("AdamW", empty, dialect="optax")
    with pytest.raises(CheckpointError, match=r"torch\.optim\.Adan"):
        adapter.from_state_dict("Adan", empty)
    train(optimizer, dict(model.named_parameters()), range(2), missing=False)
    for key in ("exp_avg", "exp_avg_sq"):
        damaged = copy.deepcopy(optimizer.state_dict())
        del damaged["state"][0][key]
        with pytest.raises(CheckpointError, match=f"no {key}"):
            adapter.from_state_dict("AdamW", damaged)


def test_a_state_of_another_class_or_library_is_refused() -> None:
    momentum = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"params": [0]}]}
    adam = {"state": {0: {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}}}
    plain, signed = {"params": [0], "lr": 0.1}, {"params": [0], "lr": 0.1, "decouple_lr": False}
    cases = [
        ("SGD", "torch", {**adam, "param_groups": [plain]}, "has exp_avg, exp_avg_sq, which"),
        ("AdamW", "torch", {**adam, "param_groups": [plain]}, "nothing counts those of '0'"),
        ("AdamW", "torch", {**adam, "param_groups": [signed]}, 'which optimi writes.*="optimi"'),
        ("SGD", "optimi", {**adam, "param_groups": [signed]}, "has exp_avg_sq, which optimi.SGD"),
        ("SGD", "heavyball", momentum, "has momentum_buffer; heavyball has a piece 0"),
    ]
    for name, dialect, state_dict, text in cases:
        with pytest.raises(CheckpointError, match=text):
            adapter.from_state_dict(name, state_dict, dialect=dialect)


# Libraries that keep averages divided by the weight that they have gathered, written out here in
# their own way: with a decay that changes from step to step.


def debiased(decay, step):
    return (decay**step - decay) / (decay**step - 1)


def adam_without_bias(params, state, step, lr, betas, eps, decay, floor=False):
    """AdamW as torch-optimi has it; with ``floor`` as heavyball does, which bounds the root."""
    first, second = (debiased(beta, step) for beta in betas)
    for name, param in params.items():
        own = state.setdefault(name, [torch.zeros_like(param), torch.zeros_like(param)])
        own[0] = first * own[0] + (1 - first) * param.grad
        own[1] = second * own[1] + (1 - second) * param.grad**2
        root = own[1].sqrt().clamp(min=eps) if floor else own[1].sqrt() + eps
        with torch.no_grad():
            param.mul_(1 - lr * decay).sub_(lr * own[0] / root)


def dict_of(dialect, params, state, step, lr, betas, eps, decay):
    kept = {at: state[name] for at, name in enumerate(params) if name in state}
    group = {"lr": lr, "eps": eps, "weight_decay": decay, "params": [*range(len(params))]}
    if dialect == "optimi":
        entries = {
            at: {"exp_avg": m, "exp_avg_sq": v, "kahan_comp": None} for at, (m, v) in kept.items()
        }
        group |= {"beta1": betas[0], "beta2": betas[1], "decouple_wd": True, "decouple_lr": False}
        group |= {"max_lr": None, "kahan_sum": None, "step": torch.tensor(step, dtype=torch.int32)}
        return {"state": entries, "param_groups": [group]}
    names = ("update_by_adam_exp_avg_0", "update_by_adam_exp_avg_sq_0")
    entries = {
        at: {0: {**dict(zip(names, own, strict=True)), "is_initialized": {0}}}
        for at, own in kept.items()
    }
    group |= {"betas": betas, "warmup_steps": 0, "caution": False, "step": None}
    return {"state": entries, "param_groups": [{**group, "step_count": torch.tensor(step)}]}


def averages(dialect, entry):
    if dialect == "optimi":
        return [entry["exp_avg"], entry["exp_avg_sq"]]
    return [entry[0]["update_by_adam_exp_avg_0"], entry[0]["update_by_adam_exp_avg_sq_0"]]


@pytest.mark.parametrize("dialect", ["optimi", "heavyball"])
def test_averages_without_bias_are_converted_and_back(dialect) -> None:
    # In float64 for optimi; heavyball keeps float32, and bounds the root in place of eps added.
    dtype = torch.float64 if dialect == "optimi" else torch.float32
    numbers = {"lr": 0.02, "betas": (0.8, 0.95), "decay": 0.1, "eps": 1e-6}
    numbers["eps"] = 1e-6 if dialect == "optimi" else 1e-12
    tolerance = 1e-12 if dialect == "optimi" else 1e-5
    params = {
        name: torch.nn.Parameter(param.detach().to(dtype))
        for name, param in parameters("float64").items()
    }
    state: dict = {}

    def advance(params, state, steps):
        for step in steps:
            gradients(params, step, missing=False)
            for param in params.values():  # never so small that the bound is reached
                param.grad += 1e-3 * (param.grad == 0)
            adam_without_bias(params, state, step + 1, **numbers, floor=dialect == "heavyball")

    advance(params, state, range(BEFORE))
    raw = dict_of(dialect, params, state, BEFORE, **numbers)
    taken = adapter.from_state_dict("AdamW", raw, params, dialect=dialect)
    own = clone(params)
    ours = adapter.bind(made(taken.parameters["w"].rule), own.items())
    samestep.restore(ours, taken, own)
    assert ours.param_groups[0]["lr"] == 0.02 and taken.step == BEFORE
    for step in range(BEFORE, BEFORE + AFTER):
        advance(params, state, [step])
        for name, param in own.items():
            param.grad = params[name].grad.clone()
        ours.step()
        for name, param in params.items():
            close(own[name].detach(), param.detach(), 0.1, tolerance, f"{name} at {step}")
    blank = dict_of(dialect, own, {}, 0, **{**numbers, "lr": 0.5, "betas": (0.5, 0.6)})
    back = adapter.into_state_dict(
        "AdamW", blank, samestep.checkpoint(ours, own), own, dialect=dialect
    )
    assert back["param_groups"][0]["lr"] == 0.02
    count = "step" if dialect == "optimi" else "step_count"
    assert back["param_groups"][0][count] == BEFORE + AFTER
    for at, name in enumerate(params):
        for one, other in zip(averages(dialect, back["state"][at]), state[name], strict=True):
            close(one, other, float(other.abs().max()), 10 * tolerance, name)
    assert not math.isclose(debiased(0.8, 3), 0.8)
