"""The ranks that tests run in: what they return, and what is said when one fails or hangs."""

from __future__ import annotations

import os
import time

import pytest

from samestep.conformance.harness.ranks import RankError, started

pytestmark = pytest.mark.sharded
torch_ranks = started("torch", 2, 4)
jax_ranks = started("jax", 2, JAX_NUM_CPU_DEVICES="2")
mlx_ranks = started("mlx", 2)


def summed(rank, value):
    import torch  # noqa: PLC0415

    found = torch.tensor([value])
    torch.distributed.all_reduce(found)
    return found, os.getpid()


def failing(rank):
    if rank == 1:
        raise ValueError("the value is 3")
    return summed(rank, 1.0)


def left_alone(rank):
    import torch  # noqa: PLC0415

    if rank == 1:
        torch.distributed.barrier()


def dying(rank):
    if rank == 0:
        os._exit(3)


def summed_by_jax(rank, value):
    import jax  # noqa: PLC0415

    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("x"))
    local = [value * (2 * rank + at) for at in (0, 1)]
    whole = jax.make_array_from_process_local_data(sharding, jax.numpy.array(local), (4,))
    return float(jax.jit(jax.numpy.sum)(whole)), jax.process_count()


def summed_by_mlx(rank, value):
    import mlx.core as mx  # noqa: PLC0415

    group = mx.distributed.init()
    return float(mx.distributed.all_sum(mx.array(value * rank), group=group)), group.size()


def alone_in_mlx(rank):
    import mlx.core as mx  # noqa: PLC0415

    if rank == 1:
        mx.eval(mx.distributed.all_sum(mx.array(1.0)))


def test_ranks_of_gloo_return_values_and_start_anew_after_a_failure(torch_ranks):
    world = torch_ranks.world
    for value in (1.0, 2.0):
        found = torch_ranks.run(summed, value)
        assert [total.tolist() for total, _ in found] == [[world * value]] * world
    assert [pid for _, pid in torch_ranks.run(summed, 1.0)] == [pid for _, pid in found]
    with pytest.raises(RankError, match=r"(?s)rank 0 .*all_reduce.*rank 1 failed.*value is 3"):
        torch_ranks.run(failing)
    assert not {pid for _, pid in torch_ranks.run(summed, 1.0)} & {pid for _, pid in found}
    begin = time.monotonic()
    with pytest.raises(RankError, match=r"(?s)rank 0 returned.*rank 1 does not .* barrier"):
        torch_ranks.run(left_alone, seconds=1)
    with pytest.raises(RankError, match="rank 0 failed: the process ended"):
        torch_ranks.run(dying)
    assert time.monotonic() - begin < 30


def test_ranks_of_jax_are_processes_of_one_mesh(jax_ranks):
    assert jax_ranks.run(summed_by_jax, 0.5) == [(3.0, 2)] * 2


def test_ranks_of_mlx_are_launched_as_people_launch_them(mlx_ranks):
    for value in (1.0, 2.0):
        assert mlx_ranks.run(summed_by_mlx, value) == [(value, 2)] * 2
    with pytest.raises(RankError, match=r"rank 1 does not return from alone_in_mlx: mx.eval"):
        mlx_ranks.run(alone_in_mlx, seconds=1)
    assert mlx_ranks.run(summed_by_mlx, 2.0) == [(2.0, 2)] * 2
