"""Names of parameters: what wrappers of a model add to them is no part of a path."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import samestep
import samestep.torch as adapter
from samestep import Where
from samestep.conformance.harness.torch_training import assert_equal, everything, train
from samestep.names import counterparts, unwrapped


class Net(torch.nn.Module):
    """An embedding, a layer in an attribute called module, and one in an attribute called model."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(4, 3)
        self.module = torch.nn.Linear(3, 3)
        self.model = torch.nn.Linear(3, 2, bias=False)

    def forward(self, x):
        return self.model(self.module(self.embed(x)))


def inner_compiled(model):
    model.module = torch.compile(model.module)
    return model


def inner_checkpointed(model):
    model.module = checkpoint_wrapper(model.module)
    return model


WRAPPED = {
    "torch.compile": torch.compile,
    "DataParallel": torch.nn.DataParallel,
    "both": lambda model: torch.nn.DataParallel(torch.compile(model)),
    "both, turned": lambda model: torch.compile(torch.nn.DataParallel(model)),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "compiled inside": inner_compiled,
    "checkpointed inside": inner_checkpointed,
}
NAMES = ["embed.weight", "module.weight", "module.bias", "model.weight"]
RULE = samestep.route(
    (Where(min_ndim=2) & ~Where(path="embed*") & ~Where(path="model.*"), samestep.Muon(lr=0.1)),
    (Where(path="module.*"), samestep.SGD(lr=0.5, momentum=0.9)),
    samestep.AdamW(lr=0.1),
)


def net():
    torch.manual_seed(0)
    return Net()


@pytest.mark.filterwarnings("ignore:the model and the checkpoint do not both have n_averaged")
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_a_wrapper_adds_to_a_name_is_no_part_of_a_path(wrapper):
    """Neither in a predicate nor in the table, a state dict or a checkpoint, in any direction."""
    plain, wrapped = net(), WRAPPED[wrapper](net())
    raw = [name for name, _ in wrapped.named_parameters()]
    assert raw != NAMES and unwrapped(raw) == NAMES
    assert RULE.table(wrapped.named_parameters()) == RULE.table(plain.named_parameters())
    one, other = (adapter.bind(RULE, model.named_parameters()) for model in (plain, wrapped))
    for optimizer, model in ((one, plain), (other, wrapped)):
        train(optimizer, [*model.parameters()], range(3))
    expected = everything(one, [*plain.parameters()])
    assert_equal(everything(other, [*wrapped.parameters()]), expected)
    old = copy.deepcopy(other.state_dict())
    for group in old["param_groups"]:  # as names were saved once
        group["param_names"] = [raw[NAMES.index(name)] for name in group["param_names"]]
    for state, into in ((other.state_dict(), plain), (one.state_dict(), wrapped), (old, plain)):
        loaded = adapter.bind(RULE, into.named_parameters())
        loaded.load_state_dict(state)
        assert_equal(everything(loaded, [*into.parameters()]), expected)
    saved = samestep.checkpoint(other, wrapped)
    assert {*saved.parameters} == {*NAMES}
    old = replace(
        saved, parameters={n: saved.parameters[s] for n, s in zip(raw, NAMES, strict=True)}
    )
    for checkpoint in (saved, old):
        for into in (net(), WRAPPED[wrapper](net())):
            restored = adapter.bind(RULE, into.named_parameters())
            samestep.restore(restored, checkpoint, into)
            assert_equal(everything(restored, [*into.parameters()]), expected)


@pytest.mark.parametrize("wrapper", [torch.compile, torch.nn.DataParallel])
def test_keys_of_torch_s_checkpoints_may_have_what_wrappers_add(wrapper):
    """They are in the order of the optimizer that loads, and ``param_names`` are not."""
    one, other = wrapper(net()), wrapper(net())
    saved, loaded = (
        adapter.AdamW([*model.named_parameters()][::order], lr=0.1)
        for model, order in ((one, 1), (other, -1))
    )
    train(saved, [*one.parameters()], range(3))
    state = get_optimizer_state_dict(one, saved)
    set_optimizer_state_dict(other, loaded, state)
    loaded_state, saved_state = (
        {name: optimizer.state[param]["m"] for name, param in model.named_parameters()}
        for model, optimizer in ((other, loaded), (one, saved))
    )
    assert_equal(loaded_state, saved_state)


def test_torch_s_own_optimizer_of_a_wrapped_model_has_the_same_paths():
    plain, wrapped = net(), torch.compile(net())
    theirs = torch.optim.AdamW(wrapped.named_parameters(), lr=0.1)
    train(theirs, [*wrapped.parameters()], range(3))
    ours = adapter.AdamW(plain.named_parameters(), lr=0.1)
    samestep.restore(ours, samestep.checkpoint(theirs, wrapped), plain)
    samestep.restore(ours, adapter.from_state_dict("AdamW", theirs.state_dict(), wrapped), plain)
    assert_equal(dict(enumerate(plain.parameters())), dict(enumerate(wrapped.parameters())))


def test_a_name_that_is_the_user_s_stays():
    """An attribute called module, next to others; and only what stands between two dots."""
    assert unwrapped(["module.w", "head.w"]) == ["module.w", "head.w"]
    assert unwrapped(["module.module.w", "module.head.w"]) == ["module.w", "head.w"]
    assert unwrapped(["model.w", "my_orig_mod.w"]) == ["model.w", "my_orig_mod.w"]
    assert unwrapped(["_fsdp_wrapped_module.a._fsdp_wrapped_module.w"]) == ["a.w"]
    assert unwrapped(["a.module.w", "a.module.b", "a.head.w"]) == [
        "a.module.w",
        "a.module.b",
        "a.head.w",
    ]
    assert unwrapped(["a.module", "a.module.w"]) == ["a.module", "a.module.w"]
    assert unwrapped(["_forward_module.model.w"]) == ["model.w"] and unwrapped([]) == []


def test_a_wrapper_of_a_part_is_no_part_of_a_path():
    assert unwrapped(["encoder.module.w", "encoder.module.b", "w"]) == [
        "encoder.w",
        "encoder.b",
        "w",
    ]
    assert unwrapped(["model._orig_mod.module.w"]) == ["model.w"]
    assert unwrapped(["model.module._orig_mod.w", "w"]) == ["model.w", "w"]
    groups = [
        {"params": [("encoder.module.w", torch.ones(2))]},
        {"params": [("encoder.head.w", torch.ones(2))]},
        {"params": [("a._orig_mod.module.w", torch.ones(2))]},
    ]
    optimizer = adapter.AdamW(groups)
    optimizer.add_param_group({"params": [("a.module.b", torch.ones(2))]})
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [["encoder.module.w"], ["encoder.head.w"], ["a.w"], ["a.b"]]


@pytest.mark.parametrize("head", [Where(path="head*"), lambda p: p.path.startswith("head")])
def test_a_name_that_ddp_hides_from_a_predicate_is_warned_of(head):
    """DDP around one part of what an optimizer has, when it is made and when a group is added."""
    rule = samestep.SGD(lr=1.0, groups=[(head, {"lr": 0.1})])
    plain, wrapped = [("head.b", torch.ones(2))], [("module.head.w", torch.ones(2))]
    words = r"group 0, .*, does not fit 'module.head.w' and would fit 'head.w'.*ddp\.module"
    with pytest.warns(UserWarning, match=words) as caught:
        adapter.bind(rule, plain + wrapped)
    assert len(caught) == 1 and caught[0].filename == __file__
    optimizer = adapter.bind(rule, plain)
    with pytest.warns(UserWarning, match=words):
        optimizer.add_param_group({"params": wrapped})
    table = {"head.w": 0, "module.w": 1, "other": 2}
    for known in (lambda p: table[p.path] == 1, Where(path="module.*"), Where(path="*.w")):
        rule = samestep.SGD(lr=1.0, groups=[(known, {"lr": 0.1})])
        adapter.bind(rule, [("module.w", torch.ones(2)), ("other", torch.ones(2))])


@pytest.mark.parametrize("saves", [True, False])
def test_frozen_parameters_beside_a_module_of_the_user_s_change_no_name(saves):
    """Alone, its names look as if they were those of DDP; files of both kinds go into both."""

    def of(model, every):
        model.requires_grad_(False).module.requires_grad_(True)
        named = model.named_parameters()
        return [pair for pair in named if every or pair[1].requires_grad]

    one, other = net(), net()
    # of a model in which all are to be trained, and of what the optimizer has of it
    begun, loading = (adapter.AdamW(of(m, e)) for m, e in ((one, saves), (other, not saves)))
    train(begun, [*one.module.parameters()], range(3))
    saved = samestep.checkpoint(begun, one)
    assert ("weight" in saved.parameters) is not saves
    samestep.restore(loading, saved, other)
    for mine, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(loading.state[theirs]["m"], begun.state[mine]["m"])
        assert torch.equal(mine, theirs)


def test_names_are_counterparts_where_no_second_one_is_alike():
    assert counterparts(["w", "b"], ["module.w", "module.module.b", "head.w"]) == {
        "w": "module.w",
        "b": "module.module.b",
    }
    assert counterparts(["w"], ["module.w", "a._orig_mod.w", "module.module.w"]) == {}
    assert counterparts(["w", "module.w"], ["w", "module.module.w"]) == {
        "module.w": "module.module.w"
    }


def test_a_predicate_that_chooses_nothing_is_warned_of_when_the_optimizer_is_made():
    with pytest.warns(UserWarning, match=r"mask, Where\(path='w'\), fits none of the 2") as caught:
        optimizer = adapter.AdamW(
            [("a", torch.ones(2)), ("b", torch.ones(2))], mask=Where(path="w")
        )
        optimizer.add_param_group({"params": [("c", torch.ones(2))]})
        train(optimizer, optimizer.param_groups[0]["params"], range(3))
    assert len(caught) == 1 and caught[0].filename == __file__
