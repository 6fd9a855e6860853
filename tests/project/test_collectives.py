"""Collectives and their bytes, counted where the numbers are known."""

from __future__ import annotations

import pytest

from samestep.conformance.harness import collectives
from samestep.conformance.harness.ranks import started

pytestmark = pytest.mark.sharded
torch_ranks = started("torch", 4)
jax_ranks = started("jax", 2, JAX_NUM_CPU_DEVICES="2")
BYTES = 4


def everything(rank):
    """Each of torch's collectives on this many numbers, by what was counted."""
    import torch  # noqa: PLC0415
    import torch.distributed as dist  # noqa: PLC0415
    import torch.distributed._functional_collectives as functional  # noqa: PLC0415
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: PLC0415

    world = dist.get_world_size()
    mesh = dist.init_device_mesh("cpu", (world,))
    piece, whole = torch.ones(6), torch.ones(6 * world)
    sharded = distribute_tensor(whole, mesh, [Shard(0)])
    uneven = [1 + each for each in range(world)]
    do = {
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_gather": lambda: dist.all_gather_into_tensor(whole, piece),
        "gathered list": lambda: dist.all_gather([piece.clone() for _ in range(world)], piece),
        "functional all_reduce": lambda: functional.all_reduce(whole, "sum", mesh).sum(),
        "broadcast": lambda: dist.broadcast(piece, 0),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(piece, whole),
        "even all_to_all": lambda: dist.all_to_all_single(torch.empty_like(whole), whole),
        "uneven all_to_all": lambda: dist.all_to_all_single(
            torch.empty(world * uneven[rank]), whole[:10], [uneven[rank]] * world, uneven
        ),
        "element": lambda: sharded * 2 + sharded,
        "sum": lambda: (sharded * sharded).sum().full_tensor(),
        "full": lambda: sharded.redistribute(placements=[Replicate()]).to_local().sum(),
    }
    counts = {}
    for name, act in do.items():
        with collectives.counted() as found:
            act()
        counts[name] = [(each.name, each.world, each.sent) for each in found]
    return counts


def test_collectives_of_torch_and_their_bytes(torch_ranks):
    for rank, found in enumerate(torch_ranks.run(everything)):
        gathered = [("all_gather", 4, 6 * 3 * BYTES)]
        assert found == {
            "all_reduce": [("all_reduce", 4, 2 * 24 * 3 / 4 * BYTES)],
            "all_gather": gathered,
            "gathered list": gathered,
            "functional all_reduce": [("all_reduce", 4, 2 * 24 * 3 / 4 * BYTES)],
            "broadcast": [("broadcast", 4, 6 * BYTES)],
            "reduce_scatter": [("reduce_scatter", 4, 24 * 3 / 4 * BYTES)],
            "even all_to_all": [("all_to_all", 4, 18 * BYTES)],
            "uneven all_to_all": [("all_to_all", 4, pytest.approx((10 - 1 - rank) * BYTES))],
            "element": [],
            "sum": [("all_reduce", 4, 2 * 1 * 3 / 4 * BYTES)],
            "full": gathered,
        }


def programs(rank):
    """What XLA compiles for a sum, a gather and for neither."""
    import jax  # noqa: PLC0415

    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = (jax.sharding.NamedSharding(mesh, jax.P(*axes)) for axes in ("x", ""))
    array = jax.ShapeDtypeStruct((8, 4), jax.numpy.float32, sharding=rows)
    do = {
        "element": jax.jit(lambda x: x * 2 + x),
        "sum": jax.jit(lambda x: (x * x).sum()),
        "full": jax.jit(lambda x: x * 2, out_shardings=whole),
    }
    return {
        name: [tuple(each) for each in collectives.compiled(f.lower(array).compile())]
        for name, f in do.items()
    }


def test_collectives_of_xla_and_their_bytes(jax_ranks):
    found = jax_ranks.run(programs)
    assert found[0] == found[1]
    assert found[0] == {
        "element": [],
        "sum": [("all_reduce", 4, 2 * 1 * 3 / 4 * BYTES)],
        "full": [("all_gather", 4, 32 * 3 / 4 * BYTES)],
    }
