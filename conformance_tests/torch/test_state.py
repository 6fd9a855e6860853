"""A torch optimizer's state, saved and loaded: exact, by name, hooks honoured, all or nothing."""

from __future__ import annotations

import copy
import io
import re

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.arrays import parts
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_training import assert_equal, everything, train

SHAPES = {"a": (3, 2), "b": (2, 4), "c": (2, 3, 2), "d": (3, 2)}


def parameters(dtype=torch.float32, shapes=None):
    noise = torch.Generator().manual_seed(0)
    return {
        name: torch.nn.Parameter(torch.randn(shape, generator=noise).to(dtype))
        for name, shape in (shapes or SHAPES).items()
    }


def bound(rule, params, names=True):
    return adapter.bind(rule, params.items() if names else params.values())


def clone(params, order=None):
    return {n: torch.nn.Parameter(params[n].detach().clone()) for n in order or params}


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def refuses(optimizer, params, saved, *words):
    """Whether loading is refused with all the words, and everything is as it was."""
    before, groups = everything(optimizer, params), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError) as refusal:
        optimizer.load_state_dict(saved)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert_equal(everything(optimizer, params), before)
    kept = optimizer.state_dict()
    assert kept["state"].keys() == groups["state"].keys()
    assert str(kept["param_groups"]) == str(groups["param_groups"])


def trained(rule=None, steps=3, names=True, **options):
    """Parameters, and an optimizer that has stepped."""
    params = parameters(**options)
    optimizer = bound(rule or samestep.AdamW(), params, names)
    train(optimizer, params, range(steps))
    return params, optimizer


@pytest.mark.parametrize("saved_names", [True, False])
@pytest.mark.parametrize("loaded_names", [True, False])
def test_what_is_loaded_is_what_was_saved(rule_class, saved_names, loaded_names):
    """Dtypes and steps too, and names where one side has them."""
    wraps = issubclass(rule_class, samestep.Wrapper)
    rule = typical(rule_class) if wraps else typical(rule_class, state_dtype="float32")
    params, first = trained(rule, names=saved_names, dtype=torch.bfloat16)
    train(first, {n: p for n, p in params.items() if n != "a"}, [3])  # "a" keeps its gradient
    params["b"].grad = None
    first.step()
    copies = clone(params)
    second = bound(rule.replace(lr=0.7), copies, loaded_names)
    second.load_state_dict(through_a_file(first.state_dict()))
    assert_equal(everything(second, copies), everything(first, params))
    steps = {int(state["step"]) for state in second.state.values()}
    assert steps == {4, 5}
    names = second.param_groups[0].get("param_names")
    assert names == ([*SHAPES] if saved_names or loaded_names else None)
    train(first, params, range(5, 8))
    train(second, copies, range(5, 8))
    assert_equal(everything(second, copies), everything(first, params))


def test_saving_is_deterministic_and_loading_saves_the_same(rule_class):
    params, optimizer = trained(typical(rule_class))
    saved = optimizer.state_dict()
    assert str(saved) == str(optimizer.state_dict())
    loaded = bound(typical(rule_class), copies := clone(params))
    loaded.load_state_dict(saved)
    assert str(loaded.state_dict()) == str(saved)
    before = everything(optimizer, params)
    train(loaded, copies, range(3, 5))  # in memory of its own
    assert_equal(everything(optimizer, params), before)


def test_parameters_in_another_order_are_put_right_by_name(rule_class):
    """Within groups, and where the groups themselves are in another order."""
    rule = typical(rule_class)
    params = parameters()
    first = adapter.bind(rule, groups(params, "ab", "cd"))
    train(first, params, range(3))
    copies = clone(params)
    second = adapter.bind(rule, groups(copies, "dc", "ba", lr=0.5))
    second.load_state_dict(through_a_file(first.state_dict()))
    assert_equal(by_parameter(second, copies), by_parameter(first, params))
    assert [group["param_names"] for group in second.param_groups] == [["d", "c"], ["b", "a"]]
    assert [group["lr"] for group in second.param_groups] == [0.02, 0.01]
    train(first, params, range(3, 6))
    train(second, copies, range(3, 6))
    for name, param in params.items():
        torch.testing.assert_close(copies[name], param, rtol=1e-6, atol=1e-7)


def groups(params, *names, lr=0.01):
    return [
        {"params": [(name, params[name]) for name in own], "lr": lr * (place + 1)}
        for place, own in enumerate(names)
    ]


def by_parameter(optimizer, params):
    return {key: v for key, v in everything(optimizer, params).items() if key[1] != "group"}


@pytest.mark.parametrize("saved_names", [False, True])
def test_without_names_another_order_is_refused_where_shapes_tell(saved_names):
    params, first = trained(names=saved_names)
    other = clone(params, "bacd")
    second = bound(samestep.AdamW(), other, names=False)
    train(second, other, range(1))
    refuses(second, other, first.state_dict(), "AdamW", "'0'", "(3, 2)", "(2, 4)")


def test_another_shape_under_the_same_name_is_refused():
    _, first = trained()
    other = parameters(shapes={**SHAPES, "c": (5, 2)})
    second = bound(samestep.AdamW(), other)
    refuses(second, other, first.state_dict(), "AdamW", "'c'", "(2, 3, 2)", "(5, 2)")


@pytest.mark.parametrize("others", ["abce", "abc", "abcde", "abcd-ab"])
def test_other_names_are_refused(others):
    """One that is unknown, one too few, one too many; groups of other parameters."""
    params, first = trained()
    shapes = {name: SHAPES.get(name, (3, 2)) for name in others if name != "-"}
    own = parameters(shapes=shapes)
    given = [g for g in others.split("-") if g][:1] if "-" not in others else ["ab", "cd"]
    second = adapter.bind(samestep.AdamW(), groups(own, *given))
    train(second, own, range(2))
    missing = "groups" if "-" in others else ", ".join(others)
    refuses(second, own, first.state_dict(), "AdamW", missing)
    assert first.state.keys() == {*params.values()}


def test_names_that_are_not_unique_load_in_the_same_order_only():
    params, first = trained()
    first.param_groups[0]["param_names"] = ["w", "b", "w", "v"]
    copies = clone(params)
    second = bound(samestep.AdamW(), copies)
    second.param_groups[0]["param_names"] = ["w", "b", "w", "v"]
    second.load_state_dict(first.state_dict())
    assert_equal(everything(second, copies), everything(first, params))
    second.param_groups[0]["param_names"] = ["b", "w", "w", "v"]
    refuses(second, copies, first.state_dict(), "AdamW", "b, w, w, v", "different from each other")


def test_a_state_of_another_optimizer_is_refused():
    params, optimizer = trained(samestep.Prodigy())
    _, lion = trained(samestep.Lion())
    own = optimizer.state_dict()
    theirs = torch.optim.AdamW(params.items()).state_dict()
    for saved, word in (
        ({"model": own}, "param_groups"),
        (theirs, "another optimizer's"),
        (lion.state_dict(), "Prodigy"),
    ):
        refuses(optimizer, params, saved, "Prodigy", word)


def test_a_state_that_cannot_be_copied_is_not_half_loaded():
    class Broken(torch.Tensor):
        def clone(self, *args, **kwargs):
            raise RuntimeError("out of memory")

    params, optimizer = trained()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][3]["v"] = torch.zeros(3, 2).as_subclass(Broken)
    saved["param_groups"][0]["lr"] = 0.25
    train(optimizer, params, range(3, 5))
    before = everything(optimizer, params)
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.load_state_dict(saved)
    assert_equal(everything(optimizer, params), before)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_a_state_saved_before_an_option_of_torchs_was_there_is_loaded(rule_class):
    params, optimizer = trained(typical(rule_class))
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["differentiable"]
    loaded = bound(typical(rule_class), clone(params))
    loaded.load_state_dict(saved)
    assert str(loaded.state_dict()["state"]) == str(saved["state"])


@pytest.mark.parametrize("capturable", [False, True])
def test_state_moves_to_the_device_of_its_parameter(capturable):
    """Steps too where they are counted there."""
    params, optimizer = trained(samestep.SM3(momentum=0.9))
    there = {name: torch.nn.Parameter(param.detach().to("meta")) for name, param in params.items()}
    loaded = adapter.bind(optimizer.rule, there.items(), capturable=capturable)
    loaded.load_state_dict(optimizer.state_dict())
    for name, param in there.items():
        for slot, value in loaded.state[param].items():
            own = optimizer.state[params[name]][slot]
            for part, kept in zip(parts(value), parts(own), strict=True):
                here = slot == "step" and not capturable
                assert part.device.type == ("cpu" if here else "meta")
                assert (part.shape, part.dtype) == (kept.shape, kept.dtype)


def test_what_belongs_to_no_parameter_is_kept_as_torch_keeps_it():
    params, optimizer = trained()
    saved = optimizer.state_dict()
    saved["state"]["note"] = {"seen": 3}
    optimizer.load_state_dict(saved)
    assert optimizer.state["note"] == {"seen": 3}
    train(optimizer, params, range(3, 4))
    assert optimizer.state_dict()["state"]["note"] == {"seen": 3}


# What others keep in the state of a parameter.


@pytest.mark.parametrize("step", ["first", "later"])
def test_what_is_no_slot_of_any_rule_goes_along(rule_class, step):
    """Before the first step or after it; in steps, in a copy, in a file and back, as it was."""
    params, plain = trained(typical(rule_class), steps=4)
    copies = parameters()
    optimizer = bound(typical(rule_class), copies)
    train(optimizer, copies, range(0 if step == "first" else 2))
    buffer = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    note = {"seen": [1, (2.5, "a")], "at": [torch.ones(2)]}
    optimizer.state[copies["a"]].update(buffer=buffer, note=note)
    train(optimizer, copies, range(0 if step == "first" else 2, 3))
    assert optimizer.state[copies["a"]]["buffer"] is buffer
    other = bound(typical(rule_class), last := clone(copies))
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    train(other, last, range(3, 4))
    own = other.state[last["a"]]
    assert torch.equal(own["buffer"], buffer) and own["buffer"].dtype == torch.float64
    assert own["buffer"].data_ptr() != buffer.data_ptr() and str(own["note"]) == str(note)
    del own["buffer"], own["note"]
    for key, value in everything(plain, params).items():
        assert torch.equal(everything(other, last)[key], value), key


def test_what_others_keep_of_a_parameter_that_has_not_stepped_is_loaded():
    params = parameters()
    optimizer = bound(samestep.AdamW(), params)
    optimizer.state[params["a"]]["note"] = 3
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[params["a"]] == {"note": 3}


def test_a_slot_of_another_rule_is_not_what_others_keep():
    params, optimizer = trained()
    optimizer.state[params["c"]]["prev"] = torch.zeros(2, 3, 2)
    before = everything(optimizer, params)
    with pytest.raises(ValueError, match="AdamW: the state of 'c' has slots m, prev, v; AdamW"):
        optimizer.step()
    assert_equal(everything(optimizer, params), before)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_state_dict_of_torchs_own_optimizers_is_refused_by_what_it_lacks(name):
    params, optimizer = trained()
    copies = clone(params)
    theirs = getattr(torch.optim, name)(copies.items(), lr=0.1)
    train(theirs, copies, range(2))
    lacks = {"SGD": "amsgrad, betas, bias_correction", "AdamW": "bias_correction"}[name]
    words = ("for parameter 'a'; it is another optimizer's",)
    refuses(optimizer, params, theirs.state_dict(), f"AdamW: the state dict has no {lacks}", *words)


SLOTS = {
    "int64": torch.ones(3, 2, dtype=torch.int64),
    "bool": torch.ones(3, 2, dtype=torch.bool),
    "complex64": torch.ones(3, 2, dtype=torch.complex64),
    "sparse_coo": torch.ones(3, 2).to_sparse(),
    "ndarray": torch.ones(3, 2).numpy(),
    "meta": torch.ones(3, 2, device="meta"),
    "several elements in one place": torch.ones(2).expand(3, 2),
    "NoneType": None,
}
STEPS = [2.5, float("inf"), float("nan"), True, -1, 2j, 1e30]
SHARED = [1e-3, None, torch.ones(2), *map(torch.tensor, [float("nan"), float("inf"), 1, True])]


def state(place, **values):
    """A change of the state of one parameter; ``None`` takes a value away."""

    def change(saved):
        own = {**saved["state"][place], **values}
        own = {name: value for name, value in own.items() if value is not None}
        return {**saved, "state": {**saved["state"], place: own}}

    return change


def group(**values):
    """A change of the first group; ``"absent"`` takes a value away."""

    def change(saved):
        own = {**saved["param_groups"][0], **values}
        return {
            **saved,
            "param_groups": [{name: value for name, value in own.items() if value != "absent"}],
        }

    return change


NOTHING = "so it is in the state dict, of which nothing has been loaded"
DAMAGES = {
    "a slot of another shape": (state(3, v=torch.zeros(7)), "'d'", "slot v", "(7,)", NOTHING),
    "a slot too many": (state(2, prev=torch.zeros(2, 3, 2)), "'c'", "prev", NOTHING),
    "a slot too few": (state(1, v=None), "'b'", NOTHING),
    "no step": (state(1, step=None), "'b'", "step"),
    "a step of two": (state(3, step=torch.tensor([1, 2])), "'d'", "step"),
    "a step below 0": (state(2, step=-1), "'c'", "step -1", NOTHING),
    **{
        f"a step of {step}": (
            state(3, step=torch.tensor(step)),
            "'d' has step",
            "whole number >= 0",
        )
        for step in STEPS
    },
    **{
        kind: (state(3, v=slot), "'d' has a slot v", kind)
        for kind, slot in SLOTS.items()
        if slot is not None
    },
    **{
        f"shared {value!r}": (group(d=value), f"d is {value!r} in the state dict", "finite")
        for value in SHARED
    },
    "nothing shared": (group(numerator="absent"), "numerator"),
    "a bad value": (group(lr=-1.0), "lr=-1.0"),
    **{f"calls {n!r}": (group(calls=n), f"calls is {n!r}", "whole number") for n in (-5, 7.5, "x")},
    "no dict": (lambda saved: 5, "a state dict of an optimizer must be a dict", "5"),
    "no state": (lambda saved: {**saved, "state": None}, "state must be a dict", "None"),
    "a list": (lambda saved: {**saved, "state": []}, "state must be a dict", "[]"),
    "no groups": (
        lambda saved: {**saved, "param_groups": None},
        "param_groups must be a list",
        "None",
    ),
    "no group": (lambda saved: {**saved, "param_groups": [3]}, "group 0 must be a dict", "3"),
    "no params": (group(params="absent"), "params of group 0 must be a list", "None"),
    "twice": (group(params=[0, 0, 2, 3]), "a key of its own, not 0", "[0, 0, 2, 3]"),
    "no key": (group(params=[0, [1], 2, 3]), "a key of its own, not [1]"),
    "no names": (group(param_names=None), "param_names of group 0", "4 names", "None"),
    "few names": (group(param_names=["a"]), "param_names of group 0", "4 names"),
    "no state of one": (
        lambda saved: {**saved, "state": {1: None}},
        "the state of 'b' must be a dict",
        "None",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_loading_is_all_or_nothing(damage):
    """What is wrong is named, also where it comes last, after all else has been read."""
    params, optimizer = trained(samestep.Prodigy())
    change, *words = DAMAGES[damage]
    saved = change(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, params, range(3, 5))
    refuses(optimizer, params, saved, "Prodigy", *words)


def test_shared_state_that_differs_between_groups_is_refused():
    params = [torch.ones(2), torch.ones(3)]
    optimizer = adapter.Prodigy([{"params": [param]} for param in params])
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][1]["d"] = torch.tensor(5.0)
    with pytest.raises(ValueError, match=r"Prodigy: d is .* in a group .* and 5\.0 in another"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("wrong", SLOTS)
def test_a_step_wants_slots_that_can_be_computed_with(wrong):
    params, optimizer = trained()
    optimizer.state[params["d"]]["m"] = SLOTS[wrong]
    before = params["a"].detach().clone()
    with pytest.raises(ValueError, match=f"the state of 'd' has a slot m .*{wrong}"):
        train(optimizer, params, range(5, 6))
    assert torch.equal(params["a"], before)


@pytest.mark.parametrize("wrong", [None, [1], 5])
def test_a_step_wants_a_state_that_is_a_dict(wrong):
    params, optimizer = trained()
    optimizer.state[params["d"]] = wrong
    before = params["a"].detach().clone()
    with pytest.raises(
        TypeError, match=rf"the state of a parameter .* is {re.escape(repr(wrong))}; it must"
    ):
        train(optimizer, params, range(5, 6))
    assert torch.equal(params["a"], before)


def test_a_step_may_be_a_float_as_torch_counts():
    params, optimizer = trained()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][3]["step"] = torch.tensor(2.0)
    optimizer.load_state_dict(saved)
    assert int(optimizer.state[params["d"]]["step"]) == 2


def test_a_route_without_names_takes_parameters_in_the_same_order_only():
    shapes = {"a": (3, 2), "b": (3,), "c": (3, 2), "d": (3,)}
    rule = samestep.route((samestep.Where(ndim=2), samestep.AdamW()), samestep.SGD(momentum=0.9))
    params, first = trained(rule, names=False, shapes=shapes)
    other = clone(params, "abdc")
    second = bound(rule, other, names=False)
    train(second, other, range(1))
    refuses(second, other, first.state_dict(), "the parameters 0, 2 in", "has 0, 3", "same order")
    again = bound(rule, copies := clone(params), names=False)
    again.load_state_dict(first.state_dict())
    assert_equal(everything(again, copies), everything(first, params))


# Hooks.


def test_what_pre_hooks_make_of_a_state_is_what_is_loaded():
    """One changes the names in place, the next returns another dict; the given one stays."""
    params, first = trained(names=True)
    copies = {f"model.{name}": param for name, param in clone(params).items()}
    second = bound(samestep.AdamW(state_dtype="float64"), copies)
    saved = bound_as_float64(first.state_dict())
    given = str(saved)
    refuses(second, copies, saved, "model.a")
    seen = []

    def renames(optimizer, state):
        seen.append("renames")
        assert optimizer is second and state is not saved
        state["param_groups"] = [
            {**group, "param_names": [f"model.{name}" for name in group["param_names"]]}
            for group in state["param_groups"]
        ]

    def doubles(optimizer, state):
        seen.append("doubles")
        states = {
            key: {**own, "m": 2 * own["m"], "step": own["step"] + 1}
            for key, own in state["state"].items()
        }
        return {**state, "state": states}

    second.register_load_state_dict_pre_hook(doubles)
    second.register_load_state_dict_pre_hook(renames, prepend=True)
    second.register_load_state_dict_post_hook(lambda optimizer: seen.append("after"))
    second.load_state_dict(saved)
    assert seen == ["renames", "doubles", "after"]
    assert str(saved) == given
    for name, param in params.items():
        own, theirs = second.state[copies[f"model.{name}"]], first.state[param]
        assert own["m"].dtype == torch.float64 and torch.equal(own["m"], 2 * theirs["m"].double())
        assert torch.equal(own["v"], theirs["v"].double()) and int(own["step"]) == 4
    assert second.param_groups[0]["param_names"] == [*copies]


def bound_as_float64(saved):
    """A state as an optimizer that keeps its state in float64 saves it."""
    saved = copy.deepcopy(saved)
    for own in saved["state"].values():
        own.update(m=own["m"].double(), v=own["v"].double())
    for group in saved["param_groups"]:
        group["state_dtype"] = "float64"
    return saved


def test_a_refusal_comes_before_post_hooks():
    params, optimizer = trained()
    called = []
    optimizer.register_load_state_dict_post_hook(called.append)
    refuses(optimizer, params, {"state": {}, "param_groups": []}, "AdamW")
    assert not called


def test_hooks_of_state_dict_see_the_optimizer_before_and_the_dict_after():
    """A post hook sees the numbers of schedules, and what it returns is what is returned."""
    params = parameters()
    optimizer = adapter.AdamW(params.items(), lr=lambda step: 0.5**step)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda own: calls.append(("before", own is optimizer)))

    def renamed(own, saved):
        calls.append(("after", saved["param_groups"][0]["lr"]))
        return {"optimizer": saved}

    def noted(own, saved):
        calls.append(("first", saved["param_groups"][0]["lr"]))
        saved["note"] = "kept"

    optimizer.register_state_dict_post_hook(renamed)
    optimizer.register_state_dict_post_hook(noted, prepend=True)
    train(optimizer, params, range(3))
    saved = optimizer.state_dict()
    assert calls == [("before", True), ("first", 0.25), ("after", 0.25)]
    assert [*saved] == ["optimizer"] and saved["optimizer"]["note"] == "kept"
    assert callable(optimizer.param_groups[0]["lr"])


def test_a_subclass_may_add_to_its_state_dict():
    class Counting(adapter.AdamW):
        def state_dict(self):
            return {**super().state_dict(), "count": 7}

        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict)
            self.count = state_dict["count"]

    params = parameters()
    optimizer = Counting(params.items())
    train(optimizer, params, range(2))
    copies = clone(params)
    loaded = Counting(copies.items())
    loaded.load_state_dict(optimizer.state_dict())
    assert loaded.count == 7
    assert_equal(everything(loaded, copies), everything(optimizer, params))


def test_a_count_without_a_value_is_refused_by_name():
    """A step on meta, where it cannot be read."""
    param = torch.nn.Parameter(torch.ones(2))
    optimizer, param.grad = adapter.Adam([("w", param)], lr=0.1), torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = saved["state"][0]["step"].to("meta")
    with pytest.raises(ValueError, match=r"state of 'w' has step .*meta.*; it must be"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("execution", ["reference", "packed"])
@pytest.mark.parametrize("other", ["another state", "the parameter"])
def test_a_state_in_memory_that_is_not_its_own_is_refused(execution, other):
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    optimizer = adapter.AdamW(params, lr=0.1, execution=execution)

    def step():
        for param in params:
            param.grad = torch.full((3,), 0.5)
        optimizer.step()

    step()
    before = [param.clone() for param in params]
    if other == "another state":
        optimizer.state[params[0]] = dict(optimizer.state[params[1]])
        words = "AdamW: the slot [mv] of '0' is in the memory of the slot [mv] of '1'; give"
    else:
        optimizer.state[params[2]]["m"] = params[2].data
        words = "AdamW: the slot m of '2' is in the memory of parameter '2'; give it a tensor"
    with pytest.raises(ValueError, match=words):
        step()
    assert all(map(torch.equal, params, before))
    for param in params:
        optimizer.state[param] = {n: v.clone() for n, v in optimizer.state[param].items()}
    step()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.ones(4).as_strided((3, 2), (1, 1)), "several elements in one place"),
        (torch._neg_view(torch.ones(3, 2)), "a view that conjugates or negates"),
    ],
)
def test_a_parameter_that_cannot_be_written_in_place_is_refused(values, words):
    param = torch.nn.Parameter(values)
    param.grad = torch.ones(3, 2)
    with pytest.raises(ValueError, match=words):
        adapter.SGD([param], lr=0.1).step()
