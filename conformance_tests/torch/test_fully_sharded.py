"""FSDP2 as people use it: wrapped late, in mixed precision, clipped, scaled, offloaded, resumed."""

from __future__ import annotations

import copy

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import collectives
from samestep.conformance.harness.ranks import started

from .test_pieces import whole

pytestmark = pytest.mark.sharded
ranks = started("torch", 2)

RULES = {
    "AdamW": samestep.AdamW(lr=0.02),
    "LAMB": samestep.LAMB(lr=0.02),
    "Muon": samestep.route(
        (samestep.Where(min_ndim=2), samestep.Muon(lr=0.02)), samestep.AdamW(lr=0.02)
    ),
    "Prodigy": samestep.Prodigy(),
    "Skip": samestep.SkipNonFinite(samestep.ClipGlobalNorm(samestep.Adafactor(), max_norm=0.5)),
}
DATA = torch.Generator().manual_seed(5)
BATCH = torch.randn(8, 6, generator=DATA)


def net(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def sharded(model, **options):
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    return fully_shard(model, mesh=mesh, **options)


def stepped(model, optimizer, steps, clip=None, scaler=None, batch=BATCH):
    for step in range(steps):
        optimizer.zero_grad()
        for part in batch.chunk(2):  # gradients are accumulated
            loss = model(part * (1 + step)).square().mean()
            (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(optimizer)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step() if scaler is None else scaler.step(optimizer)
        if scaler is not None:
            scaler.update()


def assert_same(model, wanted, worst=2e-6):
    for (name, param), other in zip(model.named_parameters(), wanted.parameters(), strict=True):
        found = whole(param.detach()).float()
        assert (found - other.detach().float()).abs().max() <= worst, name


def clipped(rank, name):
    """Clipping by torch over accumulated gradients; every rank has the batch."""
    alone, model = net(), sharded(net())
    one = adapter.bind(RULES[name], alone.named_parameters())
    optimizer = adapter.bind(RULES[name], model.named_parameters())
    for each, own in ((alone, one), (model, optimizer)):
        stepped(each, own, 6, clip=0.1)
    assert_same(model, alone)


@pytest.mark.parametrize("name", RULES)
def test_clipped_and_accumulated_gradients(ranks, name):
    ranks.run(clipped, name)


def mixed(rank, name):
    """A scaler, in whose second step a gradient of one rank is infinite: nobody moves."""
    model = sharded(net())
    optimizer = adapter.bind(RULES[name], model.named_parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    stepped(model, optimizer, 1, scaler=scaler)
    before = [whole(param.detach()).clone() for param in model.parameters()]
    scale = scaler.get_scale()
    optimizer.zero_grad()
    scaler.scale(model(BATCH).square().mean()).backward()
    if rank == 1:
        next(model.parameters()).grad.to_local().fill_(float("inf"))
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == scale / 2
    after = [whole(param.detach()) for param in model.parameters()]
    assert all(map(torch.equal, before, after)), name
    stepped(model, optimizer, 1, scaler=scaler)
    assert not torch.equal(whole(next(model.parameters()).detach()), before[0])


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Muon"])
def test_a_scaler_stops_all_ranks(ranks, name):
    ranks.run(mixed, name)


def not_a_number(rank):
    model = sharded(net())
    optimizer = adapter.bind(RULES["Skip"], model.named_parameters())
    stepped(model, optimizer, 1)
    before = [whole(param.detach()).clone() for param in model.parameters()]
    model(BATCH).square().mean().backward()
    if rank == 0:
        next(model.parameters()).grad.to_local().fill_(float("nan"))
    optimizer.step()
    assert all(map(torch.equal, before, (whole(p.detach()) for p in model.parameters())))
    return float(optimizer.param_groups[0]["skipped"])


def test_nan_on_one_rank_stops_all(ranks):
    assert ranks.run(not_a_number) == [1.0, 1.0]


def policies(rank):
    """Low precision in the model, and parameters that are kept on the host."""
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy  # noqa: PLC0415

    low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for options in ({"mp_policy": low}, {"offload_policy": CPUOffloadPolicy(pin_memory=False)}):
        model = sharded(net(), **options)
        optimizer = adapter.bind(RULES["AdamW"], model.named_parameters())
        alone = net()
        one = adapter.bind(RULES["AdamW"], alone.named_parameters())
        for _ in range(4):
            optimizer.zero_grad()
            model(BATCH).float().square().mean().backward()
            for param, own in zip(alone.parameters(), model.parameters(), strict=True):
                param.grad = whole(own.grad).clone()
            one.step()
            with collectives.counted() as found:
                optimizer.step()
            assert found == []
        assert all(p.dtype is torch.float32 for p in model.parameters())
        assert_same(model, alone, worst=0)


def test_policies_of_fsdp(ranks):
    ranks.run(policies)


def late(rank):
    """A model that is sharded after its optimizer was made."""
    model = net()
    optimizer = adapter.bind(RULES["LAMB"], model.named_parameters())
    sharded(model)
    alone = net()
    one = adapter.bind(RULES["LAMB"], alone.named_parameters())
    own = [param for _, param in model.named_parameters()]
    optimizer.param_groups[0]["params"] = own  # as accelerate does
    for each, mine in ((alone, one), (model, optimizer)):
        stepped(each, mine, 4)
    assert_same(model, alone)
    replaced = adapter.AdamW(net().parameters())  # of a model that an engine has made anew
    with pytest.warns(UserWarning, match="AdamW: no parameter has a gradient.* make the optimizer"):
        replaced.step()
    stale = net()
    left = adapter.bind(RULES["LAMB"], stale.named_parameters())
    stepped(stale, left, 2)
    sharded(stale)
    left.param_groups[0]["params"] = [*stale.parameters()]
    stepped(stale, left, 1)  # state begins anew, as of any new parameter
    return True


def test_a_model_that_is_sharded_after_its_optimizer_was_made(ranks):
    ranks.run(late)


def resumed(rank, name, way):
    """States from torch's functions, of which each rank loads its part, into another run."""
    from torch.distributed.checkpoint import state_dict as functions  # noqa: PLC0415

    options = functions.StateDictOptions(
        full_state_dict=way == "full", flatten_optimizer_state_dict=way == "flattened"
    )
    model = sharded(net())
    optimizer = adapter.bind(RULES[name], model.named_parameters())
    optimizer.init_state()
    stepped(model, optimizer, 3)
    saved = copy.deepcopy(functions.get_state_dict(model, optimizer, options=options))
    other = sharded(net(1))
    again = adapter.bind(RULES[name], other.named_parameters())
    again.init_state()
    functions.set_state_dict(
        other,
        again,
        model_state_dict=saved[0],
        optim_state_dict=saved[1],
        options=options,
    )
    for each, own in ((model, optimizer), (other, again)):
        stepped(each, own, 3)
    for param, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(whole(param.detach()), whole(same.detach())), name
        for slot, value in optimizer.state[param].items():
            assert torch.equal(whole(value), whole(again.state[same][slot])), (name, slot)
    return sorted(map(str, optimizer.state_dict()["state"][0]))


def missed(rank, way):
    """Parameters that have missed calls, also withheld ones, in one of two runs only."""
    from torch.distributed.checkpoint import state_dict as functions  # noqa: PLC0415

    options = functions.StateDictOptions(
        full_state_dict=way == "full", flatten_optimizer_state_dict=way == "flattened"
    )
    rule, runs = samestep.SkipNonFinite(samestep.AdamW(lr=0.02)), []
    for seed, lacks in ((0, 2), (1, 0)):
        model = sharded(net(seed))
        optimizer = adapter.bind(rule, model.named_parameters())
        for step in range(4):
            optimizer.zero_grad()
            (model(BATCH).square().mean() * (torch.nan if step == 2 else 1)).backward()
            if step % 2 == 0:
                model[lacks].weight.grad = None
            optimizer.step()
        runs.append((model, optimizer))
    (model, optimizer), (other, again) = runs
    entry = "missed_skipped"
    assert {float(optimizer.state[param][entry]) for param in model.parameters()} == {0.0, 1.0}
    saved = copy.deepcopy(functions.get_state_dict(model, optimizer, options=options))
    functions.set_state_dict(
        other, again, model_state_dict=saved[0], optim_state_dict=saved[1], options=options
    )
    for param, same in zip(model.parameters(), other.parameters(), strict=True):
        assert again.state[same][entry] == optimizer.state[param][entry]
    for each, own in runs:
        stepped(each, own, 2)
    for param, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(whole(param.detach()), whole(same.detach()))


@pytest.mark.parametrize("way", ["sharded", "full", "flattened"])
def test_calls_that_parameters_have_missed_go_through_the_functions_of_torch(ranks, way):
    ranks.run(missed, way)


@pytest.mark.parametrize("way", ["sharded", "full", "flattened"])
@pytest.mark.parametrize("name", ["AdamW", "Prodigy", "Skip"])
def test_states_go_through_the_functions_of_torch(ranks, name, way):
    found = ranks.run(resumed, name, way)
    assert found[0] == found[1]


def evaluated_between(rank):
    """Forwards without a backward, after which FSDP2 keeps the root gathered."""
    rule, losses = samestep.ScheduleFreeAdamW(lr=0.1), []
    for model in (net(), sharded(net())):
        optimizer, found = adapter.bind(rule, model.named_parameters()), []
        for _ in range(2):
            stepped(model, optimizer, 2)
            for mode in (optimizer.eval, optimizer.train, lambda: None):
                with torch.no_grad():
                    found.append(model(BATCH).square().mean().item())
                mode()
        losses.append(found)
    assert len({*losses[0]}) > 3
    torch.testing.assert_close(*map(torch.tensor, losses))


def test_a_forward_sees_the_mode_after_a_forward_alone(ranks):
    ranks.run(evaluated_between)


def of_another_mode(rank, way, mode):
    """A state of evaluation for an optimizer that trains, or the other way round."""
    from torch.distributed.checkpoint import state_dict as functions  # noqa: PLC0415

    options = functions.StateDictOptions(
        full_state_dict=way == "full", flatten_optimizer_state_dict=way == "flattened"
    )
    models = [sharded(net(seed)) for seed in (0, 1)]
    rule = samestep.ScheduleFreeAdamW(lr=0.1)
    run, other = (adapter.bind(rule, model.named_parameters()) for model in models)
    for model, own in zip(models, (run, other), strict=True):
        stepped(model, own, 2)
    (run if mode == "evaluation" else other).eval()
    saved = copy.deepcopy(functions.get_state_dict(models[0], run, options=options))
    functions.set_state_dict(
        models[1], other, model_state_dict=saved[0], optim_state_dict=saved[1], options=options
    )
    for own in (run, other):
        assert own.param_groups[0]["point"] == mode
        own.train()
    for model, own in zip(models, (run, other), strict=True):
        stepped(model, own, 2)
    for param, same in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(whole(param.detach()), whole(same.detach()))


@pytest.mark.parametrize(
    ("way", "mode"), [("full", "evaluation"), ("full", "training"), ("flattened", "training")]
)
def test_a_state_brings_its_mode(ranks, way, mode):
    ranks.run(of_another_mode, way, mode)


def made_late(rank):
    """An optimizer of the gathered parameters of a root, and one that came when nobody looked."""
    model = torch.nn.Sequential(sharded(net()), torch.nn.Linear(3, 2))
    sharded(model)
    with torch.no_grad():
        model(BATCH)
    gathered = [*model.named_parameters()]
    with pytest.raises(
        ValueError, match=r"AdamW: parameter '1.weight' is the gathered copy .*resh"
    ):
        adapter.AdamW(gathered)
    optimizer = adapter.AdamW([*model[0].parameters()])
    optimizer.param_groups[0]["params"] = [param for _, param in gathered]
    model(BATCH).square().mean().backward()
    with pytest.raises(ValueError, match=r"'4' has no memory; it may be the gathered copy"):
        optimizer.step()
    optimizer = adapter.AdamW(model.parameters())
    before = whole(model[1].weight.detach()).clone()
    stepped(model, optimizer, 1)
    assert not torch.equal(whole(model[1].weight.detach()), before)


def test_an_optimizer_of_gathered_parameters_is_refused(ranks):
    ranks.run(made_late)
