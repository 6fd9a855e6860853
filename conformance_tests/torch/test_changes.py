"""What people do to an optimizer between its steps: torch does the same beside ours."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch.distributed.checkpoint import state_dict as distributed

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.torch_executions import close, parameters, train

EXECUTIONS = ["reference", "packed", "compiled"]
SHAPES = [(3, 2), (5,), (3, 2), (40_000,)]
each_execution = pytest.mark.parametrize("execution", EXECUTIONS)


def each_execution_of(name, cases):
    """All cases in all executions; ``compiled`` takes the first case only, but in make thorough."""
    pairs = [
        pytest.param(case, execution, marks=pytest.mark.thorough if place and slow else ())
        for place, case in enumerate(cases)
        for execution in EXECUTIONS
        for slow in [execution == "compiled"]
    ]
    return pytest.mark.parametrize((name, "execution"), pairs)


def pairs(execution, names=None):
    """Ours and torch's AdamW on parameters of the same values, in two groups."""
    for make in (adapter.AdamW, torch.optim.AdamW):
        params = parameters(SHAPES)
        given = [*zip(names, params, strict=True)] if names else params
        groups = [{"params": given[:2]}, {"params": given[2:], "lr": 0.02}]
        own = {"execution": execution} if make is adapter.AdamW else {}
        yield params, make(groups, lr=0.1, weight_decay=0.1, **own)


def alike(execution, change, names=None):
    """Whether both have the same parameters when steps go on after a change."""
    found = []
    for params, optimizer in pairs(execution, names):
        train(optimizer, params, 2)
        own = change(optimizer, params) or params
        train(optimizer, own, 2, first=2)
        found.append([*params, *own])
    return close(*found)


def without_a_group(optimizer, params):
    del optimizer.param_groups[0]


def with_a_parameter_more(optimizer, params):
    group = optimizer.param_groups[0]
    group["params"].append(torch.ones(4))
    if "param_names" in group:
        group["param_names"].append("more")
    return [*params, group["params"][-1]]


def with_a_parameter_less(optimizer, params):
    group = optimizer.param_groups[1]
    del group["params"][0]
    if "param_names" in group:
        del group["param_names"][0]


def with_other_defaults(optimizer, params):
    optimizer.defaults["lr"] = 0.5
    more = torch.ones(4)
    optimizer.add_param_group({"params": [("more", more)] if names_of(optimizer) else [more]})
    return [*params, more]


def names_of(optimizer):
    return optimizer.param_groups[0].get("param_names")


@each_execution_of(
    "changed",
    [
        (change, names)
        for change in (
            without_a_group,
            with_a_parameter_more,
            with_a_parameter_less,
            with_other_defaults,
        )
        for names in (None, "abcd")
    ],
)
def test_groups_may_change(changed, execution):
    assert alike(execution, *changed)


@pytest.mark.parametrize("rule", ["AdamW", "a route"])
def test_a_parameter_without_a_name_among_named_ones_is_refused_in_words(rule):
    route = samestep.route((samestep.Where(ndim=2), samestep.Muon()), samestep.AdamW())
    params = parameters(SHAPES[:2])
    named = [*zip("ab", params, strict=True)] if rule == "AdamW" else params
    optimizer = adapter.bind(samestep.AdamW() if rule == "AdamW" else route, named)
    train(optimizer, params, 1)
    optimizer.param_groups[0]["params"].append(more := torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"a group has . parameters and . .*; change .* together"):
        train(optimizer, [*params, more], 1)


GOING = {
    "states": lambda o, params: o.state.clear(),
    "a state": lambda o, params: o.state.pop(params[0]),
    "slots": lambda o, params: [own.update(m=own["m"].clone()) for own in o.state.values()],
    "groups": lambda o, params: (o.param_groups.clear(), o.state.clear(), params.clear()),
    "gradients": lambda o, params: o.zero_grad(),
}


@each_execution_of("gone", GOING)
def test_nothing_is_kept_that_has_been_let_go(execution, gone):
    params = [*map(torch.nn.Parameter, parameters(SHAPES))]
    optimizer = adapter.AdamW(params, execution=execution)
    train(optimizer, params, 2)
    states = [*optimizer.state.values()]
    watched = {
        "states": [v for own in states for v in own.values()],
        "a state": [*states[0].values()],
        "slots": [own["m"] for own in states],
        "groups": [*params, *(param.grad for param in params)],
        "gradients": [param.grad for param in params],
    }[gone]
    watched = [*map(weakref.ref, watched)]
    del states
    GOING[gone](optimizer, params)
    gc.collect()
    assert [one() for one in watched] == [None] * len(watched)


@each_execution
def test_memory_that_data_has_left_is_not_kept(execution):
    """The arrays of NumPy are alive as long as somebody has their memory."""
    arrays = [torch.ones(40_000).numpy() + place for place in range(3)]
    param = torch.nn.Parameter(torch.from_numpy(arrays[0]))
    optimizer = adapter.AdamW([param], execution=execution)
    optimizer.init_state()
    state = optimizer.state[param]
    state["m"], state["v"] = map(torch.from_numpy, arrays[1:])
    watched = [*map(weakref.ref, arrays)]
    del arrays
    train(optimizer, [param], 2)
    for tensor in (param, state["m"], state["v"]):
        tensor.data = tensor.data.clone()
    gc.collect()
    assert [one() for one in watched] == [None] * 3


@each_execution
def test_memory_of_before_may_be_that_of_now(execution):
    """State that goes elsewhere and comes back may lie where a pack lay, and be no part of it."""
    for size in (7, 9, 11):
        found = []
        for make in (adapter.AdamW, torch.optim.AdamW):
            params = parameters([(3, size)] * 4)
            own = {"execution": execution} if make is adapter.AdamW else {}
            optimizer = make(params, lr=0.1, weight_decay=0.1, **own)
            for step in range(15):
                train(optimizer, params, 1, first=step)
                for value in (v for state in optimizer.state.values() for v in state.values()):
                    kept = value.clone()
                    value.data = value.new_empty(0)
                    value.data = kept
            found.append(params)
        assert close(*found, 2e-5)


@each_execution
def test_memory_of_a_count_may_move(execution):
    params = parameters(SHAPES)
    optimizer = adapter.AdamW(params, execution=execution)
    train(optimizer, params, 2)
    for own in optimizer.state.values():
        own["step"].data = own["step"].data.clone()
    train(optimizer, params, 2)
    assert [int(own["step"]) for own in optimizer.state.values()] == [4] * 4


@each_execution_of("begun", [True, False])
def test_state_in_shared_memory_stays_there(execution, begun):
    """Also the counts, which another process may raise."""
    found = []
    for shared in (False, True):
        params = parameters(SHAPES)
        optimizer = adapter.AdamW(params, lr=0.1, execution=execution)
        optimizer.init_state()
        train(optimizer, params, int(begun))
        kept = [v for own in optimizer.state.values() for v in own.values()]
        for value in kept if shared else ():
            value.share_memory_()
        where = [value.data_ptr() for value in kept]
        train(optimizer, params, 2, first=2)
        if shared:
            assert all(value.is_shared() for value in kept)
            assert [value.data_ptr() for value in kept] == where
        optimizer.state[params[0]]["step"] += 5
        train(optimizer, params, 1, first=4)
        assert int(optimizer.state[params[0]]["step"]) == 8 + begun
        found.append(params)
    assert close(*found)


def test_state_in_shared_memory_that_would_have_to_move_is_refused():
    param = torch.ones(3, 4).t()
    for execution in EXECUTIONS:
        optimizer = adapter.AdamW([param], execution=execution)
        optimizer.init_state()
        optimizer.state[param]["m"].share_memory_()
        if execution == "reference":
            train(optimizer, [param], 1)
        else:
            with pytest.raises(ValueError, match=r"'0' is in shared memory.*execution='reference'"):
                train(optimizer, [param], 1)


@each_execution
def test_a_default_device_has_no_say(execution):
    found = []
    for device in ("cpu", "meta"):
        params = parameters(SHAPES)
        optimizer = adapter.Prodigy(params, execution=execution)
        for step in range(2):
            for param in params:
                param.grad = torch.cos(param + step)
            with torch.device(device):
                optimizer.step()
        with torch.device(device):
            optimizer.load_state_dict(optimizer.state_dict())
        found.append([*params, *(optimizer.state[param]["v"] for param in params)])
    assert close(*found)


def test_every_entry_of_a_state_is_a_tensor():
    """torch.distributed.checkpoint flattens it so; the tuples of before are taken as well."""
    model = torch.nn.Linear(3, 4)
    optimizer = adapter.Adafactor(model.parameters())
    train(optimizer, [*model.parameters()], 2)
    assert [*optimizer.state[model.weight]] == ["step", "v.0", "v.1"]
    options = distributed.StateDictOptions(flatten_optimizer_state_dict=True)
    flat = distributed.get_optimizer_state_dict(model, optimizer, options=options)
    assert torch.equal(flat["state.weight.v.1"], optimizer.state[model.weight]["v.1"])
    kept = optimizer.state[model.weight]
    optimizer.state[model.weight] = {
        "step": kept["step"].clone(),
        "v": (kept["v.0"].clone(), kept["v.1"].clone()),
    }
    train(optimizer, [*model.parameters()], 1)
    assert [*optimizer.state[model.weight]] == ["step", "v.0", "v.1"]
    distributed.set_optimizer_state_dict(model, optimizer, flat, options=options)
    assert torch.equal(flat["state.weight.v.1"], optimizer.state[model.weight]["v.1"])
    assert int(optimizer.state[model.weight]["step"]) == 2


@pytest.mark.parametrize("step", [5, 5.0])
def test_a_count_may_be_a_number(step):
    """As torch has it in old files, and in the state itself."""
    params = parameters(SHAPES[:2])
    optimizer = adapter.AdamW(params)
    train(optimizer, params, 1)
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = step
    optimizer.load_state_dict(saved)
    assert torch.equal(optimizer.state[params[0]]["step"], torch.tensor(5))
    optimizer.state[params[1]]["step"] = step
    train(optimizer, params, 1)
    assert [int(optimizer.state[param]["step"]) for param in params] == [6, 6]


@pytest.mark.parametrize("name", ["fused", "foreach"])
def test_what_torch_calls_fused_is_an_execution(name):
    with pytest.raises(TypeError, match=rf"AdamW\({name}=True\): there is no {name}; execution="):
        adapter.AdamW([torch.ones(2)], **{name: True})


@pytest.mark.parametrize("name", ["rule", "execution", "capturable", "differentiable"])
def test_what_the_constructor_is_given_cannot_be_set_later(name):
    optimizer = adapter.AdamW([torch.ones(2)])
    with pytest.raises(AttributeError, match=f"AdamW: {name} is given to the constructor; make"):
        setattr(optimizer, name, getattr(optimizer, name))
    assert copy.deepcopy(optimizer).execution == "auto"
    if name in ("capturable", "differentiable"):
        with pytest.raises(TypeError, match=f"a parameter group has '{name}'; it is for the whole"):
            optimizer.add_param_group({"params": [torch.ones(1)], name: True})


def test_a_parameter_without_a_shape_is_named():
    lazy = torch.nn.LazyLinear(3)
    route = samestep.route((samestep.Where(ndim=2), samestep.Muon()), samestep.AdamW())
    with pytest.raises(ValueError, match=r"'weight' of a lazy module has no shape.*run the model"):
        adapter.bind(route, lazy.named_parameters())
    known = torch.ones(2)
    optimizer = adapter.AdamW([("known", known), *lazy.named_parameters()])
    with pytest.raises(ValueError, match="'weight' of a lazy module has no shape"):
        optimizer.init_state()
    train(optimizer, [known], 1)
    lazy(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert int(optimizer.state[lazy.weight]["step"]) == 1


def test_an_option_that_came_later_has_its_default():
    """With a note of who wrote the state dict, and without one, as before there were notes."""
    params = parameters(SHAPES[:2])
    optimizer = adapter.AdamW(params)
    train(optimizer, params, 2)
    for note in (True, False):
        saved = optimizer.state_dict()
        for group in saved["param_groups"]:
            del group["amsgrad"]
            group["written_by"]["fields"].remove("amsgrad")
            if not note:
                del group["written_by"]
        loaded = adapter.AdamW(copies := parameters(SHAPES[:2]))
        loaded.load_state_dict(saved)
        assert (
            loaded.param_groups[0]["amsgrad"] is False
            and "written_by" not in (loaded.param_groups[0])
        )
        assert torch.equal(loaded.state[copies[0]]["m"], optimizer.state[params[0]]["m"])
        other = adapter.AdamW(parameters(SHAPES[:2]), amsgrad=True)
        with pytest.raises(ValueError, match="options must be equal"):
            other.load_state_dict(saved)


def test_a_number_that_came_later_stays_the_optimizers():
    params = parameters(SHAPES[:1])
    optimizer = adapter.bind(samestep.Lookahead(samestep.AdamW()), params)
    train(optimizer, params, 2)
    saved, checkpoint = optimizer.state_dict(), samestep.checkpoint(optimizer)
    (group,) = saved["param_groups"]
    for name in ("eps", "sync_rate"):
        del group[name]
        group["written_by"]["fields"].remove(name)
    (state,) = checkpoint.parameters.values()
    del state.rule["values"]["sync_rate"], state.rule["rule"]["values"]["eps"]
    rule = samestep.Lookahead(samestep.AdamW(eps=0.5), sync_rate=0.25)
    for load in (lambda other: other.load_state_dict(saved), lambda o: o.restore(checkpoint)):
        other = adapter.bind(rule, parameters(SHAPES[:1]))
        load(other)
        (group,) = other.param_groups
        assert (group["eps"], group["sync_rate"], other.steps_taken) == (0.5, 0.25, 2)


def test_a_state_dict_of_rules_in_another_order_or_of_a_namesake_is_refused():
    """Their numbers and slots have the same names, so nothing else tells them apart."""
    inner = samestep.Adam(lr=0.1)
    one = samestep.Accumulate(samestep.SkipNonFinite(inner), every=2)
    other = samestep.SkipNonFinite(samestep.Accumulate(inner, every=2))
    written, loading = (adapter.bind(rule, parameters(SHAPES[:1])) for rule in (one, other))
    words = (
        r"that of Accumulate around SkipNonFinite around Adam, the optimizer is SkipNonFinite "
        r"around Accumulate around Adam\. It was written by samestep"
    )
    with pytest.raises(ValueError, match=words):
        loading.load_state_dict(written.state_dict())
    signum, lion = (make(parameters(SHAPES[:1])) for make in (adapter.Signum, adapter.Lion))
    with pytest.raises(ValueError, match="that of Lion, the optimizer is Signum"):
        signum.load_state_dict(lion.state_dict())


def test_a_state_of_other_batch_axes_is_refused():
    """Of a parameter with as many layers as inputs, whose state has the same shapes."""
    params = [("w", torch.ones(3, 3, 4)), ("v", torch.ones(3, 4))]
    first, second, plain = (
        adapter.LAMB(params, groups=[(samestep.Where(path="w"), {"batch_axes": axes})])
        for axes in (0, 1, ())
    )
    first.load_state_dict(first.state_dict())
    words = r"'w' is kept as b\.\. in the state dict, and as {} here"
    for other, here in ((second, r"\.b\."), (plain, "the rule sees it")):
        with pytest.raises(ValueError, match=words.format(here)):
            other.load_state_dict(first.state_dict())


def test_batch_axes_are_compared_by_place_where_a_side_has_no_names():
    """In groups, of which the second begins at another place than 0."""

    def made(names, axes=0):
        params = [torch.ones(shape) for shape in ((5,), (2, 3, 4), (2, 3))]
        given = [*zip(names, params, strict=True)] if names else params
        return adapter.LAMB([{"params": given[:1]}, {"params": given[1:]}], batch_axes=axes)

    made("").load_state_dict(copy.deepcopy(made("")).state_dict())
    for one, other in (("abc", ""), ("", "abc"), ("", "")):
        made(one).load_state_dict(made(other).state_dict())
        with pytest.raises(ValueError, match=r"is kept as b in the state dict, and as the rule"):
            made(one, axes=()).load_state_dict(made(other).state_dict())


def test_a_state_dict_of_another_version_or_rule_says_who_wrote_it(monkeypatch):
    params = parameters(SHAPES[:2])
    optimizer = adapter.AdamW(params)
    train(optimizer, params, 1)
    saved = optimizer.state_dict()
    note = f"samestep {samestep.__version__}"
    damaged = optimizer.state_dict()
    del damaged["param_groups"][0]["lr"]
    with pytest.raises(ValueError, match=rf"has no lr for parameter '0'.*written by {note}"):
        optimizer.load_state_dict(damaged)
    later = optimizer.state_dict()
    later["param_groups"][0]["written_by"]["fields"].append("flux")
    later["param_groups"][0]["flux"] = 3
    with pytest.raises(ValueError, match=rf"there is no flux here.*written by {note}"):
        optimizer.load_state_dict(later)
    torchs = torch.optim.AdamW(params).state_dict()
    with pytest.raises(ValueError, match=r"another optimizer's.*from_state_dict.*torch\.optim"):
        optimizer.load_state_dict(torchs)
    monkeypatch.setattr(samestep.AdamW, "version", 2)
    with pytest.raises(ValueError, match=rf"of version 1 of AdamW, .* version 2.*by {note}"):
        optimizer.load_state_dict(saved)
