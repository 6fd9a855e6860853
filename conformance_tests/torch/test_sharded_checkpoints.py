"""Checkpoints of runs whose parameters are DTensors: one file, for any mesh, device and framework.

Gradients are given, so that an element rule has the same bits on every mesh; so has its file.
"""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy
import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.checkpoints import boxes, file, read, stored, write
from samestep.conformance.harness.ranks import RankError, Ranks, started
from samestep.conformance.harness.torch_training import gradient
from samestep.parity.backend import backends
from samestep.torch import checkpoint, sharded

pytestmark = pytest.mark.sharded

HALF, STEPS = 3, 6
RULES = {
    "AdamW": samestep.AdamW(),
    "NAdam": samestep.NAdam(),
    "Lookahead": samestep.Lookahead(samestep.AdamW(), sync_period=2),
    "torch.optim": torch.optim.AdamW,
}
"""Of element rules, which have the same bits on every mesh."""
EACH = [
    "AdamW",
    "torch.optim",
    *(pytest.param(rule, marks=pytest.mark.thorough) for rule in ("NAdam", "Lookahead")),
]
MESHES = {2: ("fully_shard", "columns"), 4: ("fully_shard", "replicated", "two axes", "parallel")}

gloo = started("torch", 2, 4)


class Net(torch.nn.Module):
    """Layers and single parameters, and a buffer."""

    def __init__(self, seed):
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        self.embed = torch.nn.Embedding(5, 3)
        self.fc = torch.nn.Linear(4, 8)
        self.out = torch.nn.Linear(8, 3, bias=False)
        self.scale = torch.nn.Parameter(torch.zeros(1))
        self.conv = torch.nn.Parameter(torch.zeros(2, 3, 2))
        self.frozen = torch.nn.Parameter(torch.zeros(5, 2), requires_grad=False)
        self.register_buffer("mean", torch.zeros(3))
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                tensor.copy_(torch.randn(tensor.shape, generator=noise))


def placed(model, kind):
    """The model on a mesh of all ranks."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415  (in the ranks only)
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: PLC0415
    from torch.distributed.tensor.parallel import (  # noqa: PLC0415
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    world = torch.distributed.get_world_size()
    names = ("dp", "tp")
    square = (2, 2) if world == 4 else (1, 2)
    if kind == "fully_shard":
        return fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (world,)))
    mesh = torch.distributed.init_device_mesh("cpu", square, mesh_dim_names=names)
    if kind == "replicated":
        return fully_shard(model, mesh=mesh)
    if kind == "parallel":  # fc.weight is cut twice along one axis, out.weight along two
        plan = {"fc": ColwiseParallel(), "out": RowwiseParallel()}
        parallelize_module(model, mesh["tp"], plan)
        return fully_shard(model, mesh=mesh["dp"])
    for module in model.modules():
        for name, param in [*module.named_parameters(recurse=False)]:
            axes = {0: Shard(0), 1: Shard(1)} if param.ndim > 1 else {0: Replicate(), 1: Shard(0)}
            own = [Replicate() if kind == "columns" else axes[0], axes[1]]
            whole = distribute_tensor(param.detach(), mesh, own)
            module.register_parameter(name, torch.nn.Parameter(whole, param.requires_grad))
    return model


def whole(tensor):
    return tensor.detach().full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()


class Run:
    """A model and its optimizer."""

    def __init__(self, kind, rule, seed):
        self.model = Net(seed) if kind is None else placed(Net(seed), kind)
        if isinstance(rule, samestep.Rule):
            self.optimizer = adapter.bind(rule, self.trained())
        else:
            self.optimizer = rule(self.trained())

    def trained(self):
        """The parameters that are not frozen, by name."""
        return [(n, param) for n, param in self.model.named_parameters() if param.requires_grad]

    def train(self, steps):
        for step in steps:
            for place, (_, param) in enumerate(self.trained()):
                param.grad = gradient(step, place, whole(param))
                if hasattr(param, "device_mesh"):
                    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415

                    param.grad = distribute_tensor(param.grad, param.device_mesh, param.placements)
            self.optimizer.step()
        return self

    def everything(self):
        """Values, state and buffers, whole."""
        found = {name: whole(value) for name, value in self.model.state_dict().items()}
        for name, param in self.model.named_parameters():
            state = self.optimizer.state.get(param, {})
            found |= {f"{slot} of {name}": whole(value) for slot, value in state.items()}
        return {name: value.clone() for name, value in found.items()}


def differing(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def saved_and_loaded(rank, kind, rule, folder):
    """Saves a run, loads the file of one device, and goes on."""
    run = Run(kind, RULES[rule], 0).train(range(HALF))
    half = run.everything()
    samestep.save(folder / "sharded", run.optimizer, run.model)
    samestep.save(folder / "set", run.optimizer, run.model, max_shard_bytes=500)
    assert differing(run.everything(), half) == []
    if isinstance(RULES[rule], samestep.Rule):
        in_memory = samestep.checkpoint(run.optimizer, run.model)
        run.train(range(HALF, STEPS))
        samestep.restore(run.optimizer, in_memory, run.model)
        assert differing(run.everything(), half) == []
        samestep.save(folder / "memory", in_memory)
    other = Run(kind, RULES[rule], 1)
    before = {name: (p.device_mesh, p.placements) for name, p in other.model.named_parameters()}
    samestep.load(folder / "one", other.optimizer, other.model)
    assert differing(other.everything(), half) == []
    for name, param in other.model.named_parameters():
        assert (param.device_mesh, param.placements) == before[name]
        for value in other.optimizer.state.get(param, {}).values():
            assert (
                value.ndim == 0
                or value.placements == param.placements
                or value.shape != param.shape
            )
    return other.train(range(HALF, STEPS)).everything()


@pytest.mark.parametrize("rule", EACH)
def test_a_sharded_run_writes_the_file_of_one_device_and_reads_it(gloo, rule, tmp_path):
    """To the last byte, and it goes on with the bits of one device."""
    one = Run(None, RULES[rule], 0).train(range(HALF))
    samestep.save(tmp_path / "one", one.optimizer, one.model)
    end = one.train(range(HALF, STEPS)).everything()
    kinds = MESHES[gloo.world]
    for kind in kinds if isinstance(RULES[rule], samestep.Rule) else kinds[-1:]:
        for found in gloo.run(saved_and_loaded, kind, rule, tmp_path):
            assert differing(found, end) == []
        written = (tmp_path / "one").read_bytes()
        assert (tmp_path / "sharded").read_bytes() == written
        if (tmp_path / "memory").exists():
            assert (tmp_path / "memory").read_bytes() == written
        samestep.checkpoints.write(tmp_path / "again", samestep.checkpoints.read(tmp_path / "set"))
        assert (tmp_path / "again").read_bytes() == written


def carried_on(rank, kind, rule, folder, source, target, steps):
    run = Run(kind, rule, 1)
    samestep.load(folder / source, run.optimizer, run.model)
    run.train(steps)
    samestep.save(folder / target, run.optimizer, run.model)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    with Ranks("torch", 2, folder / "2") as two, Ranks("torch", 4, folder / "4") as four:
        yield two, four


MATRICES = samestep.Where(min_ndim=2, max_ndim=2)
SUMS = [
    samestep.AdamW(),
    samestep.LAMB(),
    samestep.Prodigy(),
    samestep.SM3(),
    samestep.route((MATRICES, samestep.Adafactor()), samestep.AdamW()),
    samestep.route((MATRICES, samestep.Muon()), samestep.AdamW()),
    samestep.SkipNonFinite(samestep.NAdam()),
]


@pytest.mark.parametrize(
    "kind", ["parallel", pytest.param("fully_shard", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("rule", SUMS, ids=str)
def test_a_run_goes_from_two_ranks_to_one_and_to_four(meshes, rule, kind, tmp_path):
    """Elements and whole matrices keep their bits; sums may be added in another order."""
    two, four = meshes
    run = Run(None, rule, 0)
    samestep.save(tmp_path / "0", run.train([0]).optimizer, run.model)
    two.run(carried_on, "fully_shard", rule, tmp_path, "0", "2", range(1, 4))
    alone = Run(None, rule, 2)
    samestep.load(tmp_path / "2", alone.optimizer, alone.model)
    samestep.save(tmp_path / "1", alone.train(range(4, 6)).optimizer, alone.model)
    four.run(carried_on, kind, rule, tmp_path, "1", "4", range(6, 8))
    end = Run(None, rule, 3)
    samestep.load(tmp_path / "4", end.optimizer, end.model)
    expected, found = run.train(range(1, 8)).everything(), end.everything()
    exact = {branch.needs for branch in rule.branches} <= {"element", "matrix"}
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
        assert not exact or torch.equal(found[name], value)


# Failures: every rank is told, nothing is changed, nobody waits.


def told(act):
    """The error of an act, in words."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def failing(rank, folder):
    """What each rank is told when the second does or has something else."""
    from torch.distributed.tensor import Shard, distribute_tensor  # noqa: PLC0415

    run, other = (Run("fully_shard", RULES["AdamW"], seed).train(range(HALF)) for seed in (0, 1))
    samestep.save(folder / "good", run.optimizer, run.model)
    written, before = (folder / "good").read_bytes(), other.everything()
    good, late = folder / "good", Run("fully_shard", RULES["AdamW"], 0)
    last = late.train(range(HALF)).optimizer
    for group in last.param_groups:
        group["lr"] = 0.5 if rank == 1 else 0.001
    mesh = torch.distributed.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    turned = distribute_tensor(torch.ones(4, 4), mesh, [Shard(int(rank == 1))])
    apart = adapter.AdamW([("w", turned)])
    apart.init_state()
    longer = adapter.AdamW([("w", distribute_tensor(torch.ones(6, 4), mesh, [Shard(0)]))])
    samestep.save(folder / "w", adapter.AdamW([("w", torch.ones(4, 4))]))
    own = adapter.bind(RULES["AdamW" if rank != 1 else "NAdam"], other.trained())
    said = [
        told(lambda: samestep.save(folder / f"file{rank}", run.optimizer, run.model)),
        told(lambda: samestep.save(good, last, late.model)),
        told(lambda: samestep.save(good, apart)),
        told(lambda: samestep.save(folder / "none" / "good", run.optimizer)),
        told(lambda: samestep.load(good, own, other.model)),
        told(lambda: samestep.load(folder / "w", longer)),
        told(lambda: samestep.load(folder / "gone", other.optimizer, other.model)),
    ]
    if rank == 1:
        sharded.fill = broken
        checkpoint.placed = broken
    said.append(told(lambda: samestep.load(good, other.optimizer, other.model)))
    sharded.fill, checkpoint.placed = FILL, PLACED
    assert differing(other.everything(), before) == []
    assert (folder / "good").read_bytes() == written
    return said


FILL, PLACED = sharded.fill, checkpoint.placed


def broken(*_):
    """A disk that fails."""
    raise OSError(5, "Input/output error")


def test_a_failure_of_one_rank_is_that_of_all(gloo, tmp_path):
    """And after it they save and load."""
    first, second, *others = gloo.run(failing, tmp_path)
    of = f"of {gloo.world} has failed"
    for own in (first, *others):
        assert f"file0 in process 0 and {tmp_path}/file1 in process 1" in own[0]
        assert "lr of rule of parameter 'scale' must be the same in all processes" in own[1]
        assert "0.001 in process 0 and 0.5 in process 1" in own[1]
        assert "the form of 'slots/m/w' must be the same" in own[2], own[2]
        assert "Shard(dim=0) on a mesh" in own[2]
        assert "No such file or directory" in own[3]
        assert f"process 1 {of}" in own[4]
        assert "is not that of NAdam" in own[4]
        assert "has shape (6, 4) here and (4, 4) in the checkpoint" in own[5]
        assert f"each of {gloo.world} processes reads the file" in own[6]
        assert f"process 1 {of}" in own[7]
        assert "OSError: [Errno 5] Input/output error" in own[7]
    assert second[:3] == first[:3]
    assert f"process 0 {of}" in second[3]
    assert second[7] == "OSError: [Errno 5] Input/output error"
    assert {path.name for path in tmp_path.iterdir()} == {"good", "w"}


# Memory, in bytes: of NumPy, in which every array comes and goes.


def peak(act):
    tracemalloc.start()
    act()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def measured(rank, kind, folder):
    """The most bytes that saving, and loading in a new optimizer, take in addition."""
    module = torch.nn.ParameterDict({f"w{at}": torch.randn(512, 512) for at in range(4)})
    model = placed(module, kind)
    optimizer, fresh = (adapter.AdamW([*model.named_parameters()]) for _ in range(2))
    optimizer.init_state()
    samestep.save(folder / "file", optimizer, model)  # the first time it imports and makes groups
    saving = peak(lambda: samestep.save(folder / "file", optimizer, model))
    loading = peak(lambda: samestep.load(folder / "file", fresh, model))
    slots = [value for state in fresh.state.values() for value in state.values() if value.ndim]
    return saving, loading - sum(slot.to_local().nbytes for slot in slots)


def limited(rank, kind, folder):
    """The same with buckets of 256 kB."""
    before = boxes.BUCKET, stored.PIECE, file.PIECE
    boxes.BUCKET = stored.PIECE = file.PIECE = 1 << 18
    try:
        return measured(rank, kind, folder)
    finally:
        boxes.BUCKET, stored.PIECE, file.PIECE = before


@pytest.mark.parametrize("kind", ["fully_shard", "columns"])
def test_memory_is_two_buckets(gloo, kind, tmp_path):
    """Of 12 MB: what comes, and the array that is put together of it."""
    for rank, (saving, loading) in enumerate(gloo.run(limited, kind, tmp_path)):
        assert saving < (2.5 if rank == 0 else 1.5) * 2**18, (rank, saving / 2**18)
        assert loading < 2.5 * 2**18, (rank, loading / 2**18)


@pytest.mark.thorough
def test_a_rank_that_dies_leaves_no_half_written_file(tmp_path):
    ended = pytest.raises(RankError, match="rank 1 failed: the process ended")
    with Ranks("torch", 2, tmp_path / "ranks") as two, ended:
        two.run(dying, tmp_path / "file")
    assert (tmp_path / "said").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"ranks", "said"}


def dying(rank, path):
    run = Run("fully_shard", RULES["AdamW"], 0).train(range(1))
    if rank == 1:
        sharded._Processes.gathered = lambda *_: os._exit(1)
    said = told(lambda: samestep.save(path, run.optimizer, run.model))
    (path.parent / "said").write_text(said)


# Travel.


def test_a_run_goes_through_all_frameworks(meshes, tmp_path):
    """From a mesh to JAX, MLX and NumPy, and back to the mesh: the steps of one device."""
    (two, four), rule = meshes, samestep.AdamW()
    run = Run(None, rule, 0)
    samestep.save(tmp_path / "0", run.train([0]).optimizer, run.model)
    two.run(carried_on, "fully_shard", rule, tmp_path, "0", "torch", [1])
    names = {name: tuple(param.shape) for name, param in run.trained()}
    before = "torch"
    for step, framework in enumerate(("jax", "mlx", "numpy"), 2):
        backend = backends()[framework]
        travelling = backend.start(rule, {n: numpy.ones(s) for n, s in names.items()}, "float32")
        travelling.restore(replace(read(tmp_path / before), others={}))
        grads = enumerate(param for _, param in run.trained())
        stepped = {
            n: gradient(step, at, p).numpy() for n, (at, p) in zip(names, grads, strict=True)
        }
        travelling.step(stepped)
        write(tmp_path / framework, travelling.checkpoint())
        before = framework
    four.run(carried_on, "replicated", rule, tmp_path, "numpy", "end", [5])
    expected = run.train(range(1, 6)).everything()
    found = read(tmp_path / "end")
    assert {own.step for own in found.parameters.values()} == {6}
    for name, own in found.parameters.items():
        numpy.testing.assert_allclose(own.value.values(), expected[name], rtol=1e-5, atol=1e-6)


def renamed(rank, folder):
    """Loads a file with other names, of transposed matrices, and one without values."""
    run, other = (Run("fully_shard", samestep.AdamW(), seed) for seed in (0, 1))
    half = run.train(range(HALF)).everything()
    samestep.load(folder / "flax", other.optimizer, other.model, map=FLAX.inverse())
    assert differing(other.everything(), half) == []
    third = Run("fully_shard", samestep.AdamW(), 2)
    values = {name: whole(value).clone() for name, value in third.model.state_dict().items()}
    samestep.save(folder / "state", run.optimizer)
    samestep.load(folder / "state", third.optimizer)
    found = third.everything()
    assert differing(found, {**half, **values}) == []


FLAX = samestep.Map(
    {"from": "fc.weight", "to": "fc.kernel", "transpose": [1, 0]},
    {"from": "embed.weight", "to": "tokens.embedding"},
)


def test_a_map_is_applied_to_what_each_rank_reads(gloo, tmp_path):
    run = Run(None, samestep.AdamW(), 0).train(range(HALF))
    write(tmp_path / "flax", samestep.checkpoint(run.optimizer, run.model).mapped(FLAX))
    gloo.run(renamed, tmp_path)


def gathered_for_a_forward_pass(rank, folder):
    """After a forward pass alone, FSDP2 keeps the parameters of the root whole."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    torch.manual_seed(0)
    model = fully_shard(
        torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)), mesh=mesh
    )
    optimizer = adapter.AdamW(model.named_parameters())
    optimizer.init_state()
    samestep.save(folder / "before", optimizer, model)
    with torch.no_grad():
        model(torch.ones(2, 4))
    samestep.save(folder / "after", optimizer, model)
    with torch.no_grad():
        model(torch.ones(2, 4))
    samestep.load(folder / "before", optimizer, model)
    with torch.no_grad():
        model(torch.ones(2, 4))
    samestep.save(folder / "again", optimizer, model)


def test_a_model_whose_parameters_are_gathered_is_saved_as_it_was(gloo, tmp_path):
    gloo.run(gathered_for_a_forward_pass, tmp_path)
    before = (tmp_path / "before").read_bytes()
    assert (tmp_path / "after").read_bytes() == before
    assert (tmp_path / "again").read_bytes() == before


def flat(rank, folder):
    """What each rank is told of parameters of FSDP1, and of slices of its own."""
    from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: PLC0415

    said = []
    for kept in (True, False):
        net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))
        model = FullyShardedDataParallel(net, use_orig_params=kept, device_id=torch.device("cpu"))
        for make in (adapter.AdamW, torch.optim.AdamW):
            optimizer = make(model.parameters())
            said.append(told(lambda: samestep.save(folder / "file", optimizer, model)))  # noqa: B023
            said.append(told(lambda: samestep.load(folder / "good", optimizer, model)))  # noqa: B023
    whole_world = torch.distributed.group.WORLD
    slices = adapter.AdamW([("w", torch.ones(2))], reduce_over=whole_world)
    for act in (samestep.save, samestep.load):
        assert "is a slice (reduce_over=)" in told(lambda: act(folder / "good", slices))  # noqa: B023
    return said


def test_flat_parameters_are_refused(gloo, tmp_path):
    """Each process would take its slice for the whole."""
    good = adapter.AdamW([("w", torch.ones(2))])
    samestep.save(tmp_path / "good", good)
    for said in gloo.run(flat, tmp_path):
        for words in said:
            assert "is a slice of a flat parameter of FSDP1" in words, words
    assert not (tmp_path / "file").exists()


NATIVES = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adagrad": {},
    "Adam": {"amsgrad": True},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "NAdam": {},
    "Adadelta": {},
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", NATIVES)
def test_optimizers_of_torch_are_saved_and_loaded(gloo, name, tmp_path):
    rule = partial(getattr(torch.optim, name), **NATIVES[name])
    one = Run(None, rule, 0).train(range(HALF))
    samestep.save(tmp_path / "one", one.optimizer, one.model)
    gloo.run(carried_on, "fully_shard", rule, tmp_path, "one", "again", [])
    assert (tmp_path / "again").read_bytes() == (tmp_path / "one").read_bytes()
    gloo.run(carried_on, MESHES[gloo.world][1], rule, tmp_path, "one", "end", range(HALF, STEPS))
    end, expected = read(tmp_path / "end"), one.train(range(HALF, STEPS)).everything()
    for path, own in end.parameters.items():
        numpy.testing.assert_allclose(own.value.values(), expected[path], rtol=1e-5, atol=1e-6)


def staged(rank, dims, folder):
    """Each stage of a pipeline saves its own parameters, on its own part of the mesh."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: PLC0415

    sizes, names = (
        ((2, 1, 2), ("stage", "copies", "pieces")) if dims == 2 else ((2, 2), ("stage", "pieces"))
    )
    mesh = torch.distributed.init_device_mesh("cpu", sizes, mesh_dim_names=names)
    own = mesh["copies", "pieces"] if dims == 2 else mesh["pieces"]
    stage = rank // 2
    whole_one = torch.arange(15.0).reshape(5, 3) + 100 * stage
    placements = [Replicate()] * (dims - 1) + [Shard(0)]
    params = {f"w{stage}": distribute_tensor(whole_one, own, placements)}
    optimizer = adapter.AdamW(params.items())
    optimizer.init_state()
    path = folder / f"{dims}.{stage}"
    samestep.save(path, optimizer, params)
    params[f"w{stage}"].to_local().zero_()
    samestep.load(path, optimizer, params)
    assert torch.equal(whole(params[f"w{stage}"]), whole_one)


def elsewhere(rank, folder):
    """What the processes are told of a parameter that the first two have."""
    from torch.distributed.tensor import DTensor, Shard  # noqa: PLC0415

    mesh = torch.distributed.device_mesh.DeviceMesh("cpu", [0, 1])
    own = DTensor.from_local(torch.ones(2, 3), mesh, [Shard(0)])
    optimizer = adapter.AdamW([("w", own)])
    return told(lambda: samestep.save(folder / "file", optimizer, {"w": own}))


def test_a_process_without_a_part_is_told_so(meshes, tmp_path):
    found = meshes[1].run(elsewhere, tmp_path)
    assert found[:2] == ["nothing", "nothing"]
    for rank, words in enumerate(found[2:], 2):
        assert f"in the processes 0, 1, and this is process {rank}" in words
    assert read(tmp_path / "file").parameters["w"].value.shape == (4, 3)


@pytest.mark.parametrize("dims", [1, 2])
def test_the_processes_are_those_of_the_parameters(meshes, dims, tmp_path):
    _, four = meshes
    four.run(staged, dims, tmp_path)
    for stage in range(2):
        saved = read(tmp_path / f"{dims}.{stage}")
        expected = numpy.arange(15.0).reshape(5, 3) + 100 * stage
        assert (saved.parameters[f"w{stage}"].value.values() == expected).all()
