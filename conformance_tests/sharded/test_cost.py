"""What is said of the bytes of a step on many devices is what is counted on a few."""

from __future__ import annotations

import math
import re

import pytest

import samestep
from samestep.benchmarks import communication
from samestep.conformance.harness import collectives, memory
from samestep.conformance.harness.checkout import ROOT
from samestep.conformance.harness.ranks import started

ranks = started("torch", 2, 4)
SHAPES = [(16, 8), (32, 8), (8, 24), (16, 16), (8, 8), (64, 4), (32, 32), (8, 40)]
RULES = {
    "AdamW": samestep.AdamW(lr=0.01),
    "LAMB": samestep.LAMB(lr=0.01),
    "Muon": samestep.Muon(lr=0.01),
}


def stepped(rule, shapes, dtype="float32", **options):
    """An optimizer of DTensors that has taken a step, and has the gradients of another."""
    import torch  # noqa: PLC0415
    from torch.distributed.tensor import Shard, distribute_tensor  # noqa: PLC0415

    import samestep.torch  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    random = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=random).to(getattr(torch, dtype)) for shape in shapes]
    params = [torch.nn.Parameter(distribute_tensor(v, mesh, [Shard(0)])) for v in values]
    optimizer = samestep.torch.bind(rule, params, **options)
    for param in params:
        param.grad = param.detach() * 0.1
    optimizer.step()
    return optimizer


def counted(rank, rule, dtype="float32"):
    """The collectives of a step, after one that made the state."""
    optimizer = stepped(rule, SHAPES, dtype)
    with collectives.counted() as found:
        optimizer.step()
    return [tuple(each) for each in found]


@pytest.mark.sharded
@pytest.mark.parametrize("rule", RULES)
def test_a_step_sends_what_the_formula_says(ranks, rule):
    world, elements = ranks.world, sum(map(math.prod, SHAPES))
    found = ranks.run(counted, RULES[rule])
    in_all = sum(sent for each in found for _, _, sent in each)
    in_all -= world * communication.first(world) if rule != "AdamW" else 0
    names = [[name for name, _, _ in each] for each in found]
    if rule == "AdamW":
        assert names == [[]] * world
    elif rule == "LAMB":
        assert [len(each) for each in names] == [1] * world
        assert in_all == pytest.approx(world * communication.summed(2 * len(SHAPES), world))
    elif names[0] == ["all_gather"]:  # cheaper, of two ranks
        assert in_all == pytest.approx(world * communication.gathered(elements, world))
    else:
        assert names == [["all_to_all"] * 2] * world
        assert in_all == pytest.approx(world * communication.owned(elements, world))
        busiest = communication.busiest(SHAPES, world)
        assert max(
            sum(sent for _, _, sent in each) for each in found
        ) <= busiest + communication.first(world)


@pytest.mark.sharded
@pytest.mark.parametrize("rule", ["LAMB", "Muon"])
def test_numbers_are_sent_in_the_dtype_that_a_rule_computes_in(ranks, rule):
    def sent(dtype):
        found = ranks.run(counted, RULES[rule], dtype)
        return [[sent for _, _, sent in each] for each in found]

    single = sent("float32")
    assert sent("bfloat16") == single
    assert sent("float64") == [[2 * size for size in each] for each in single]


def worked(rank, rule):
    """Operations of products in a step of many matrices of several sizes."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    optimizer = stepped(rule, [(64, 64), (32, 64), (64, 32), (32, 32)] * 4)
    with FlopCounterMode(display=False) as found:
        optimizer.step()
    return found.get_total_flops()


@pytest.mark.sharded
def test_newton_schulz_is_divided_among_the_ranks(ranks):
    if ranks.world == 4:
        shares = ranks.run(worked, RULES["Muon"])
        whole = 4 * sum(map(communication.iterations, [(64, 64), (32, 64), (64, 32), (32, 32)]))
        assert sum(shares) == whole
        assert max(shares) <= 1.2 * whole / 4


def most(rank, limit):
    """The most elements that a step holds in addition, with this many of a bucket for a rank."""
    from samestep import owners  # noqa: PLC0415

    usual, owners.LIMIT = owners.LIMIT, limit
    try:
        optimizer = stepped(RULES["Muon"], [(64, 64)] * 32, execution="reference")
        known = [*optimizer.param_groups[0]["params"]]
        known += [param.grad for param in known]
        known += [state["m"] for state in optimizer.state.values()]
        with memory.held([tensor.to_local() for tensor in known]) as found:
            optimizer.step()
    finally:
        owners.LIMIT = usual
    return found["most"] / 4


@pytest.mark.sharded
def test_a_step_holds_one_bucket(ranks):
    """Of 32 matrices a bucket has one for each rank; an iteration holds six."""
    matrix = 64 * 64
    few, all_at_once = (max(ranks.run(most, limit)) for limit in (matrix, 32 * matrix))
    assert few <= 14 * matrix
    assert all_at_once > 3 * few


def test_the_page_has_the_table_of_the_formulas():
    text = (ROOT / "docs" / "pages" / "sharding.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- cost -->\n(.*?)<!-- /cost -->", text, re.S)
    assert shown[1].rstrip() == communication.table()


def test_models_have_the_sizes_of_their_names():
    sizes = {name: sum(map(math.prod, m.every)) for name, m in communication.MODELS.items()}
    assert sizes == {"7 B": 6_738_415_616, "70 B": 68_976_648_192}
    assert {name: len(m.hidden) for name, m in communication.MODELS.items()} == {
        "7 B": 224,
        "70 B": 560,
    }
