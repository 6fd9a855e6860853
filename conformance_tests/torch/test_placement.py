"""Rules that see more than an element, on DTensors: the step of whole parameters."""

from __future__ import annotations

import pytest
import torch

import samestep
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.ranks import started
from samestep.conformance.harness.settings import typical

from .test_pieces import (
    FOUR,
    SHAPES,
    TWO,
    both,
    is_element,
)
from .test_pieces import whole as full

ranks = started("torch", 2)
four = started("torch", 4)

STEPS = 20
WITHIN = {torch.float64: 1e-14, torch.float32: 1e-6}
EXACT = ("Muon", "NAdam")
"""Rules without a sum over what is cut: equal bits, but for products of stacks."""


def named(shapes, rule):
    return {name: shape for name, shape in shapes.items() if len(shape) >= rule.min_ndim}


def summed_apart(rank, rule, way, world, dtype, execution="packed", shapes=SHAPES):
    """Steps of DTensors next to those of whole tensors; what this rank has of the state."""
    runs = both(rule, way, world, dtype, execution, named(shapes, rule), STEPS)
    (plain, alone), (own, optimizer), (*_, counted) = runs
    exact = rule.name in EXACT and len({*shapes.values()}) == len(shapes)
    for name, param in plain.items():
        pairs = {"the parameter": (own[name].detach(), param.detach())}
        pairs |= {s: (v, alone.state[param][s]) for s, v in optimizer.state[own[name]].items()}
        for slot, (value, wanted) in pairs.items():
            value, worst = full(value), WITHIN[dtype] * wanted.abs().max().clamp(min=1e-30)  # noqa: PLW2901
            if exact:
                assert torch.equal(value, wanted), (rule.name, way, name, slot)
            assert (value - wanted).abs().max() <= worst, (rule.name, way, name, slot, dtype)
    shared = {name: optimizer.param_groups[0][name] for name in rule.shared()}
    for name, value in shared.items():
        assert type(value) is torch.Tensor
        assert torch.isclose(value, alone.param_groups[0][name], rtol=WITHIN[dtype], atol=0)
    return counted, {name: value.item() for name, value in shared.items()}


def each_way(rank, name, ways, world, dtypes, execution="packed"):
    rule, found = typical(getattr(samestep, name)), []
    for way in ways:
        for dtype in dtypes:
            found.append(summed_apart(rank, rule, way, world, dtype, execution))
    return found


def agreed(results, most):
    """Every rank has the same shared state and collectives, and at most so many of these."""
    assert all(found == results[0] for found in results)
    for counted, _ in results[0]:
        assert sum(counted.values()) <= most, counted


MOST = {"AdaMuon": 2, "Adafactor": 3, "AdamP": 2, "Muon": 2, "NorMuon": 4, "Scout": 2}
"""Collectives of a step. NorMuon's mean squares have a shape of their own, and take one for each
axis of the mesh."""


UNEVEN = {
    "LAMB": {"a": (257, 255), "b": (257, 255), "c": (7, 5)},
    "Muon": {f"{at}{shape[0]}": shape for at in "abc" for shape in ((3, 16), (4, 12))},
    "Adafactor": {f"{at}{shape[0]}": shape for at in "abc" for shape in ((3, 16), (4, 12))},
}
"""Parameters of one shape, which are stacked; a piece is small, or has nothing, on some ranks."""


def stacked_apart(rank, name, world):
    rule = typical(getattr(samestep, name))
    return [
        summed_apart(rank, rule, way, world, torch.float64, shapes=UNEVEN[name])
        for way in (TWO if world == 2 else FOUR)
    ]


def sees_more(rule):
    return not is_element(rule)


def test_a_norm_is_that_of_the_whole_parameter(ranks):
    agreed(ranks.run(each_way, "LAMB", ["mixed"], 2, [torch.float32], "auto"), 1)


@pytest.mark.sharded
@pytest.mark.parametrize("name", each_rule(sees_more))
def test_sums_are_over_the_pieces_of_all_processes(ranks, name):
    """One collective a phase; on the rows, the columns, copies, and next to plain tensors."""
    agreed(ranks.run(each_way, name, TWO, 2, [torch.float32]), MOST.get(name, 1))


@pytest.mark.sharded
@pytest.mark.parametrize("name", each_rule(sees_more))
def test_sums_count_copies_once(four, name):
    agreed(four.run(each_way, name, FOUR, 4, [torch.float64]), MOST.get(name, 1))


@pytest.mark.sharded
@pytest.mark.parametrize("name", UNEVEN)
def test_all_processes_stack_the_same_parameters(ranks, four, name):
    for group in (ranks, four):
        agreed(group.run(stacked_apart, name, group.world), MOST.get(name, 1))


@pytest.mark.sharded
def test_a_first_state_does_not_depend_on_what_has_run_before(ranks):
    """DTensor's cache of operations once doubled the first state of later rules of a process."""
    agreed(ranks.run(one_after_another), 1)


def one_after_another(rank):
    names = ("Prodigy", "NAdam", "TAdam", "Adafactor", "Prodigy", "NAdam", "TAdam")
    return [each_way(rank, name, ["columns", "mixed"], 2, [torch.float64])[0] for name in names][:1]
