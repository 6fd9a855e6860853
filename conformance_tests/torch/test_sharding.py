"""Parameters that several processes have parts of, saved and loaded by torch and by us."""

from __future__ import annotations

import faulthandler
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

import samestep
from samestep.conformance.harness.interrupted import in_a_new_process
from samestep.conformance.torch import test_resuming as own

pytestmark = own.pytestmark

RULES = ("AdamW", "LAMB", "Prodigy", "Lookahead")


def whole(param):
    return param.detach().full_tensor() if hasattr(param, "full_tensor") else param.detach()


def gathered(run):
    """Parameters and state, whole in every process."""
    found = {name: whole(param) for name, param in own.named(run.model)}
    for name, param in own.named(run.model):
        state = run.optimizer.state.get(param, {}).items()
        found |= {f"{slot} of {name}": whole(value) for slot, value in state}
    return found


def trained_in_parts(folder: Path, rank: int) -> None:
    """What each of two processes does."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415  (not there on every platform)
    from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: PLC0415

    faulthandler.enable()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    mesh, plain_gradient = torch.distributed.init_device_mesh("cpu", (2,)), own.gradient
    own.gradient = lambda step, place, param: distribute_tensor(
        plain_gradient(step, place, whole(param)), param.device_mesh, param.placements
    )
    for name in RULES:

        def made(seed, start=own.TRAININGS[name]):
            run = start(seed)
            model = fully_shard(run.model, mesh=mesh)
            optimizer = own.adapter.bind(run.optimizer.rule, own.named(model))
            optimizer.init_state()
            return replace(run, model=model, optimizer=optimizer, others={})

        run = made(0).train(range(own.HALF))
        assert all(isinstance(param, DTensor) for param in run.model.parameters())
        dcp.save(own.collected("distributed", run), checkpoint_id=f"{folder}/{name}")
        samestep.save(f"{folder}/{name}.safetensors", run.optimizer, run.model)
        other, ours, lost = made(1), made(1), made(1)
        saved = own.collected("distributed", other)
        dcp.load(saved, checkpoint_id=f"{folder}/{name}")
        own.scattered(other, saved)
        samestep.load(f"{folder}/{name}.safetensors", ours.optimizer, ours.model)
        lost.model.load_state_dict(run.model.state_dict())
        every = (run, other, ours, lost)
        ends = [gathered(each.train(range(own.HALF, own.STEPS))) for each in every]
        assert own.differing(ends[0], ends[1]) == [], name
        assert own.differing(ends[0], ends[2]) == [], name
        assert own.differing(ends[0], ends[3]) != [], name
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads do not always survive the end of the interpreter


@pytest.mark.thorough
def test_sharded_parameters_are_saved_by_torch_and_by_us_and_go_on_exactly(tmp_path):
    """FSDP2 in two processes."""
    calls = [f"trained_in_parts(Path({str(tmp_path)!r}), {rank})" for rank in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda call: in_a_new_process(__name__, call), calls))
