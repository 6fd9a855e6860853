"""The engines of PyTorch, each around the same model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy
import torch
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
    fully_shard,
)
from torch.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.nn.parallel import DistributedDataParallel

import samestep.torch
from samestep.rule import Rule

from .given import SHAPES, STEPS, Arrays, entered, gradients, parameters

__all__ = ["COMPILED", "ENGINES", "Given", "alone", "trained"]

Made = tuple[Any, Any]
"""The model and its optimizer."""
Make = Callable[[Rule, "Given"], Made]
ENGINES: dict[str, tuple[tuple[int, ...], Make]] = {}
"""The numbers of ranks, and the model and optimizer of a rule, by the name of the engine."""
engine = entered(ENGINES)
COMPILED = 'FSDP2 (`fully_shard`), `execution="compiled"`'
"""The name of the engine that is compared with one process that compiles, too."""
FEW = ("even", "again", "vector")
"""Its parameters, since each shape may be compiled."""


class Given(torch.nn.Module):
    """Parameters whose gradients are given."""

    def __init__(self, values: Arrays) -> None:
        super().__init__()
        for name, value in values.items():
            setattr(self, name, torch.nn.Parameter(torch.tensor(value)))

    def forward(self, grads: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A loss with these gradients."""
        total: Any = 0
        for name, grad in grads.items():
            param = getattr(self, name)
            if isinstance(param, DTensor):
                given: Any = distribute_tensor(grad, param.device_mesh, param.placements)
                total = total + (given * param).sum().full_tensor()
            else:
                total = total + (grad * param).sum()
        found: torch.Tensor = total
        return found


def named(model: Any) -> list[tuple[str, Any]]:
    """Parameters under the names of the model, without those of an engine."""
    return [(name.rpartition(".")[2], param) for name, param in model.named_parameters()]


def bound(rule: Rule, model: Any, **options: Any) -> torch.optim.Optimizer:
    """Our optimizer of the model's parameters."""
    return samestep.torch.bind(rule, named(model), **options)


def everybody() -> ProcessGroup:
    """The group of all ranks."""
    group = torch.distributed.group.WORLD
    assert group is not None
    return group


@engine("DistributedDataParallel", 2)
def ddp(rule: Rule, model: Given) -> Made:
    return DistributedDataParallel(model), bound(rule, model)


@engine("DistributedDataParallel, `share_work=`", 2, 4)
def ddp_shared(rule: Rule, model: Given) -> Made:
    return DistributedDataParallel(model), bound(rule, model, share_work=everybody())


@engine("FSDP2 (`fully_shard`)", 2, 4)
def fsdp2(rule: Rule, model: Given) -> Made:
    sharded = fully_shard(
        model, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    )
    return sharded, bound(rule, sharded)


@engine(COMPILED, 2)
def fsdp2_compiled(rule: Rule, model: Given) -> Made:
    sharded = fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return sharded, bound(rule, sharded, execution="compiled")


@engine("FSDP2 on a mesh of two dimensions (HSDP)", 4)
def hsdp(rule: Rule, model: Given) -> Made:
    sharded = fully_shard(
        model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards"))
    )
    return sharded, bound(rule, sharded)


def parted(name: str, module: torch.nn.Module, mesh: Any) -> None:
    """As tensor parallelism does: some by rows, some by columns, vectors replicated or not."""
    ways = {"even": Shard(1), "wide": Shard(1), "one": Replicate(), "vector": Replicate()}
    for own, param in list(module.named_parameters(recurse=False)):
        made = distribute_tensor(param.detach(), mesh, [ways.get(own, Shard(0))])
        module.register_parameter(own, torch.nn.Parameter(made))


@engine("tensor parallelism (DTensor)", 2, 4)
def tensor_parallel(rule: Rule, model: Given) -> Made:
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    distribute_module(model, mesh, parted)
    return model, bound(rule, model)


@engine("FSDP2 and tensor parallelism", 4)
def both(rule: Rule, model: Given) -> Made:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    distribute_module(model, mesh["tensor"], parted)
    sharded = fully_shard(model, mesh=mesh["data"])
    return sharded, bound(rule, sharded)


@engine("FSDP1 (`FullyShardedDataParallel`)", 2)
def fsdp1(rule: Rule, model: Given) -> Made:
    sharded = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    return sharded, bound(rule, sharded)


@engine("FSDP1, flat", 2)
def fsdp1_flat(rule: Rule, model: Given) -> Made:
    sharded = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    return sharded, bound(rule, sharded)


@engine("FSDP1, flat, `reduce_over=`", 2)
def fsdp1_reduced(rule: Rule, model: Given) -> Made:
    sharded = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    return sharded, bound(rule, sharded, reduce_over=everybody())


@engine("`ZeroRedundancyOptimizer`", 2)
def zero(rule: Rule, model: Given) -> Made:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # noqa: PLC0415  (it warns)

    own = getattr(samestep.torch, type(rule).__name__)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=own, **rule.hypers)
    return DistributedDataParallel(model), optimizer


def taken(
    model: torch.nn.Module, optimizer: Any, rule: Rule, dtype: str, names: Iterable[str]
) -> Iterator[None]:
    """All steps, one after another."""
    for step in range(STEPS):
        optimizer.zero_grad()
        given = gradients(rule, dtype, step, names)
        model({name: torch.tensor(value) for name, value in given.items()}).backward()
        optimizer.step()
        yield


def alone(rank: int, rule: Rule, dtype: str, execution: Any) -> list[Arrays]:
    """What one process finds after each step."""
    names: Iterable[str] = FEW if execution == "compiled" else SHAPES
    model = Given(parameters(rule, dtype, names))
    optimizer = bound(rule, model, execution=execution)
    return [read(model, optimizer) for _ in taken(model, optimizer, rule, dtype, names)]


def trained(rank: int, name: str, rule: Rule, dtype: str) -> Arrays | str:
    """What a rank finds, or the words with which it has refused."""
    try:
        names: Iterable[str] = FEW if name == COMPILED else SHAPES
        model, optimizer = ENGINES[name][1](rule, Given(parameters(rule, dtype, names)))
        for _ in taken(model, optimizer, rule, dtype, names):
            pass
    except (ValueError, TypeError) as refusal:
        if type(rule).__name__ not in str(refusal):
            raise
        return str(refusal)
    if isinstance(model, FullyShardedDataParallel):
        flat = any(name == "_flat_param" for name, _ in named(model))
        state = (of_flat if flat else of_slices)(model, optimizer)
        with FullyShardedDataParallel.summon_full_params(model):
            return read(model, None) | state
    if isinstance(optimizer, samestep.torch.RuleOptimizer):
        return read(model, optimizer)
    return read(model, None) | of_all(model, optimizer.optim)


def of_flat(model: FullyShardedDataParallel, optimizer: Any) -> Arrays:
    """The state of parameters that are in one piece with others, which have no names there."""
    full = (StateDictType.FULL_STATE_DICT, FullStateDictConfig(), FullOptimStateDictConfig())
    full[2].rank0_only = False
    with FullyShardedDataParallel.state_dict_type(model, *full):
        found = FullyShardedDataParallel.optim_state_dict(model, optimizer)["state"]
    return {
        f"{slot} of {path.rpartition('.')[2]}": whole(value)
        for path, slots in found.items()
        for slot, value in slots.items()
    }


def of_slices(model: Any, optimizer: Any) -> Arrays:
    """The state of parameters of which each rank has some elements, one after another."""
    said, found = exchanged(read(model, optimizer)), {}
    for name in dict.fromkeys(name for own in said for name in own):
        parts = [own[name] for own in said if name in own]  # one without elements has no state
        shape = SHAPES[name.rpartition(" ")[2]]
        found[name] = numpy.concatenate(parts).reshape(shape) if parts[0].ndim else parts[0]
    return found


def of_all(model: Any, optimizer: Any) -> Arrays:
    """The state of parameters that are each stepped by one rank."""
    return {name: value for own in exchanged(read(model, optimizer)) for name, value in own.items()}


def exchanged(own: Arrays) -> list[Arrays]:
    """The state that every rank has."""
    said: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(said, {n: value for n, value in own.items() if " of " in n})
    return said


def read(model: torch.nn.Module, optimizer: Any) -> Arrays:
    """Parameters, and state where the optimizer is given, whole."""
    found = {}
    for name, param in named(model):
        found[name] = whole(param)
        own = optimizer.state.get(param, {}) if optimizer is not None else {}
        found |= {f"{slot} of {name}": whole(value) for slot, value in own.items()}
    return found


def whole(value: Any) -> numpy.ndarray:
    """All of it, as NumPy has it."""
    value = value.detach()
    return (value.full_tensor() if isinstance(value, DTensor) else value).clone().numpy()
