"""Element rules on DTensors: every process steps its own piece, and exchanges nothing."""

from __future__ import annotations

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import collectives
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.ranks import started
from samestep.conformance.harness.settings import typical
from samestep.conformance.harness.torch_training import gradient

ranks = started("torch", 2)
four = started("torch", 4)

SHAPES = {
    "rows": (7, 5),
    "square": (8, 8),
    "columns": (3, 8),
    "conv": (4, 3, 2, 2),
    "bias": (5,),
    "one": (1,),
    "none": (),
}
STEPS = 12


def placements(way):
    """The shape of a mesh, and the placement of a parameter on it."""
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415

    one = {
        "rows": lambda shape: [Shard(0)],
        "columns": lambda shape: [Shard(min(1, len(shape) - 1))],
        "replicated": lambda shape: [Replicate()],
        "hybrid": lambda shape: [Replicate(), Shard(0)],
        "two axes": lambda shape: [Shard(0), Shard(min(1, len(shape) - 1))],
        "one axis": lambda shape: [Shard(0), Shard(0)],
        "mixed": lambda shape: [Shard(0)] if len(shape) == 2 else None,
    }[way]

    def placed(shape):
        found = one(shape)
        return found if found is None or shape else [Replicate()] * len(found)

    return placed


def mesh_of(way, world):
    shape = (world,) if way in ("rows", "columns", "replicated", "mixed") else (2, world // 2)
    return torch.distributed.init_device_mesh("cpu", shape, mesh_dim_names=("a", "b")[: len(shape)])


def spread(tensor, mesh, placed):
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415

    tensor = tensor.detach().clone()  # a replica would be the same memory
    return tensor if placed is None else distribute_tensor(tensor, mesh, placed)


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def parameters(dtype, shapes):
    noise = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(shape, generator=noise, dtype=torch.float64).to(dtype)
        for name, shape in shapes.items()
    }


def both(rule, way, world, dtype, execution, shapes, steps):
    """Whole tensors and DTensors with the same gradients, after some steps.

    Returns parameters and optimizer of either, and the collectives of each step of DTensors.
    """
    mesh, placed = mesh_of(way, world), placements(way)
    plain = {n: torch.nn.Parameter(v) for n, v in parameters(dtype, shapes).items()}
    own = {n: torch.nn.Parameter(spread(v, mesh, placed(v.shape))) for n, v in plain.items()}
    alone = adapter.bind(rule, plain.items(), execution=execution)
    optimizer = adapter.bind(rule, own.items(), execution=execution)
    counted = []
    for step in range(steps):
        for place, name in enumerate(plain):
            plain[name].grad = gradient(step, place, plain[name])
            own[name].grad = spread(plain[name].grad, mesh, placed(plain[name].shape))
        alone.step()
        with collectives.counted() as found:
            optimizer.step()
        counted.append(collectives.names(found))
    return (plain, alone), (own, optimizer), counted


def stepped_apart(rank, rule, way, world, dtype, execution, shapes=SHAPES):
    """Steps of DTensors next to those of whole tensors with the same gradients: equal bits."""
    mesh, placed = mesh_of(way, world), placements(way)
    runs = both(rule, way, world, dtype, execution, shapes, STEPS)
    (plain, alone), (own, optimizer), counted = runs
    assert not any(counted), (rule.name, counted)
    for name, param in own.items():
        assert torch.equal(whole(param.detach()), plain[name].detach()), (rule.name, name)
        state, wanted = optimizer.state[param], alone.state[plain[name]]
        assert state.keys() == wanted.keys()
        for slot, value in state.items():
            assert torch.equal(whole(value), wanted[slot]), (rule.name, name, slot)
            if slot != "step" and placed(plain[name].shape) is not None and value.ndim:
                assert value.placements == param.placements and value.device_mesh == mesh
    return optimizer._resolved


def each_way(rank, name, ways, world, dtypes, executions):
    rule = typical(getattr(samestep, name))
    for way in ways:
        for dtype in dtypes:
            for execution in executions if dtype is torch.float32 else executions[:1]:
                stepped_apart(rank, rule, way, world, dtype, execution)


def is_element(rule):
    return rule.needs == "element"


DTYPES = [torch.float32, torch.bfloat16, torch.float64]
EXECUTIONS = ["packed", "reference"]
TWO, FOUR = ["rows", "columns", "replicated", "mixed"], ["hybrid", "two axes", "one axis"]


def test_a_step_of_pieces_has_the_bits_of_the_whole(ranks):
    ranks.run(each_way, "AdamW", ["rows"], 2, [torch.float32], ["auto"])


@pytest.mark.sharded
@pytest.mark.parametrize("name", each_rule(is_element))
def test_element_rules_step_pieces(ranks, name):
    """Rows, columns, replicas and plain tensors in one model; some pieces are empty."""
    ranks.run(each_way, name, TWO, 2, DTYPES, EXECUTIONS)


@pytest.mark.sharded
@pytest.mark.parametrize("name", each_rule(is_element))
def test_element_rules_step_pieces_of_meshes_of_two_dimensions(four, name):
    """Replicas of shards, shards along two axes, and shards of shards of one axis."""
    four.run(each_way, name, FOUR, 4, DTYPES, EXECUTIONS)


@pytest.mark.sharded
@pytest.mark.parametrize("name", each_rule(is_element, most=1))
def test_compiled_kernels_step_pieces(ranks, name):
    ranks.run(each_way, name, ["rows", "mixed"], 2, [torch.float32], ["compiled"])


def refused_in_words(rank, world):
    """Gradients and states that are not placed as their parameter, on every rank."""
    from torch.distributed.tensor import DTensor, Replicate, Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (world,))
    other = torch.distributed.init_device_mesh("cpu", (1, world))
    values = torch.arange(24.0).reshape(8, 3)

    def made(**kept):
        param = torch.nn.Parameter(spread(values, mesh, [Shard(0)]))
        return param, samestep.torch.AdamW([("w", param)], lr=0.1, **kept)

    for step in (0, 1):
        for grad, words in (
            (values, "its gradient a plain tensor of shape (8, 3)"),
            (spread(values, other, [Replicate(), Shard(0)]), "they must be on one mesh"),
        ):
            param, optimizer = made()
            param.grad = spread(values, mesh, [Shard(0)])
            if step:
                optimizer.step()
            before = whole(param.detach()).clone()
            param.grad = grad
            with pytest.raises((TypeError, ValueError)) as refusal:
                optimizer.step()
            assert "AdamW: parameter 'w'" in str(refusal.value) and words in str(refusal.value)
            assert torch.equal(whole(param.detach()), before)
    plain = torch.nn.Parameter(values.clone())
    alone = samestep.torch.AdamW([("w", plain)], lr=0.1)
    plain.grad = spread(values, mesh, [Shard(0)]).to_local().new_ones(8, 3)
    alone.step()
    param, optimizer = made()
    with pytest.raises(ValueError, match=r"slot m that is a plain tensor .*set_optimizer_state"):
        optimizer.load_state_dict(alone.state_dict())
    optimizer.init_state()
    saved = optimizer.state_dict()
    assert isinstance(saved["state"][0]["m"], DTensor)
    saved["state"][0]["m"] = spread(values, mesh, [Replicate()])
    with pytest.raises(ValueError, match=r"slot m that is a DTensor placed \(Replicate\(\),\)"):
        optimizer.load_state_dict(saved)


def redistributed(rank, world):
    """Gradients that are still to be added up, or are placed otherwise."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (world,))
    values = torch.arange(24.0).reshape(8, 3)
    plain, param = (
        torch.nn.Parameter(spread(values, mesh, placed)) for placed in (None, [Shard(0)])
    )
    alone, optimizer = (samestep.torch.AdamW([p], lr=0.1) for p in (plain, param))
    for step in range(6):
        plain.grad = gradient(step, 0, plain)
        if step % 3 == 0:
            share = plain.grad / world  # exact
            param.grad = DTensor.from_local(share, mesh, [Partial()])
        else:
            param.grad = spread(plain.grad, mesh, [Replicate() if step % 3 == 1 else Shard(1)])
        alone.step()
        optimizer.step()
        assert torch.equal(whole(param.detach()), plain.detach())


@pytest.mark.sharded
def test_what_is_not_placed_as_its_parameter_is_refused_on_every_rank(ranks):
    ranks.run(refused_in_words, 2)


@pytest.mark.sharded
def test_gradients_are_placed_as_their_parameters(ranks):
    ranks.run(redistributed, 2)
