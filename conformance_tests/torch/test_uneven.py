"""Rows that two engines have cut one after the other, unevenly: who has which, in steps and files.

FSDP2 cuts what tensor parallelism has cut before. Of seven rows the last process of the first two
thirds has none, and the last of the others one, which torch itself takes for the other way round.
"""

from __future__ import annotations

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.checkpoints import read
from samestep.conformance.harness.ranks import started
from samestep.conformance.harness.torch_training import gradient
from samestep.torch.placement import cuts_of

six = started("torch", 6)
ROWS, DATA, TENSOR = 7, 3, 2


def weight():
    return torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))


def stepped(optimizer, param, place, steps):
    for step in steps:
        param.grad = place(gradient(step, 0, weight()))
        optimizer.step()


def in_six(rank, name, folder):
    """Steps of the pieces; a file of them; and steps after a file of one process."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415
    from torch.distributed.tensor import DTensor  # noqa: PLC0415
    from torch.distributed.tensor.parallel import (  # noqa: PLC0415
        ColwiseParallel,
        parallelize_module,
    )

    mesh = torch.distributed.init_device_mesh(
        "cpu", (DATA, TENSOR), mesh_dim_names=("data", "tensor")
    )
    model = torch.nn.Sequential(torch.nn.Linear(4, ROWS, bias=False))
    model[0].weight.data.copy_(weight())
    parallelize_module(model, mesh["tensor"], {"0": ColwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    param = model[0].weight

    def own(whole):
        parts = whole.chunk(TENSOR)[rank % TENSOR].chunk(DATA)
        return parts[rank // TENSOR] if rank // TENSOR < len(parts) else whole[:0]

    def placed(whole):
        shape = {"shape": whole.shape, "stride": whole.stride()}
        mesh, placements = param.device_mesh, param.placements
        return DTensor.from_local(own(whole), mesh, placements, run_check=False, **shape)

    assert torch.equal(param.to_local(), own(weight()))
    optimizer = adapter.bind(getattr(samestep, name)(lr=0.1), [("0.weight", param)])
    stepped(optimizer, param, placed, range(3))
    samestep.save(folder / "six", optimizer, model)
    samestep.load(folder / "one", optimizer, model)
    wanted = torch.from_numpy(read(folder / "one").parameters["0.weight"].value.values()).float()
    assert torch.equal(param.to_local(), own(wanted))
    stepped(optimizer, param, placed, range(3, 5))
    samestep.save(folder / "end", optimizer, model)


@pytest.mark.sharded
@pytest.mark.parametrize("name", ["LAMB", "Muon"])
def test_steps_and_files_have_the_same_pieces(six, name, tmp_path):
    path, param = "0.weight", torch.nn.Parameter(weight())
    optimizer = adapter.bind(getattr(samestep, name)(lr=0.1), [(path, param)])
    stepped(optimizer, param, lambda whole: whole, range(3))
    samestep.save(tmp_path / "one", optimizer, [(path, param)])
    six.run(in_six, name, tmp_path, seconds=60)
    for file in ("six", "end"):
        found = torch.from_numpy(read(tmp_path / file).parameters[path].value.values()).float()
        torch.testing.assert_close(found, param.detach(), rtol=1e-5, atol=1e-6)
        assert name == "LAMB" or torch.equal(found, param.detach())
        stepped(optimizer, param, lambda whole: whole, range(3, 5))


def test_a_piece_with_gaps_is_refused():
    from torch.distributed.tensor.placement_types import _StridedShard  # noqa: PLC0415

    with pytest.raises(ValueError, match=r"w is a DTensor placed .* where the piece of a process"):
        cuts_of("w", (8, 4), [_StridedShard(0, split_factor=2)], (2,))
