"""Runs in torch that are interrupted go on exactly: groups, schedulers, late parameters, scalers.

Every run is saved in three ways, with ``torch.save``, ``samestep.save`` and
``torch.distributed.checkpoint``, and a new process takes it from there.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import samestep
from samestep.conformance.harness.settings import all_rules, typical
from samestep.schedules import CosineDecay, ExponentialDecay

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")
from torch.distributed.checkpoint import state_dict as distributed  # noqa: E402  (it is there)
from torch.optim import lr_scheduler  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),  # as it is
]

HALF, STEPS = 10, 20
SHAPES = {"embed": (5, 3), "layer.w": (4, 5), "layer.b": (4,), "conv": (2, 3, 2)}
ROUTED = samestep.route((samestep.Where(min_ndim=2), samestep.Muon()), samestep.Prodigy(lr=0.5))
WAYS = ("torch.save", "samestep.save", "distributed", "flattened")


class Net(torch.nn.Module):
    """Parameters by name, the dots of which are modules."""

    def __init__(self, seed: int, dtype: Any = None, shapes: Any = None) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        for name, shape in (shapes or SHAPES).items():
            path, _, own = name.rpartition(".")
            inside = self if not path else getattr(self, path, None) or torch.nn.Module()
            if path:
                self.add_module(path, inside)
            values = torch.randn(shape, generator=noise, dtype=dtype)
            inside.register_parameter(own, torch.nn.Parameter(values))


@dataclass
class Training:
    """A model, its optimizer and what else a training has that lasts."""

    model: Any
    optimizer: Any
    others: dict[str, Any] = field(default_factory=dict)
    """A scheduler and a scaler, by name."""
    change: Callable[[Training, int], None] = lambda run, step: None
    """What is done before a step."""

    def train(self, steps: Iterable[int]) -> Training:
        """Steps with gradients that change sign and scale; with a scaler some are infinite."""
        scaler = self.others.get("scaler")
        for step in steps:
            for place, param in enumerate(self.model.parameters()):
                param.grad = gradient(step, place, param) if param.requires_grad else None
                if scaler and param.grad is not None:
                    param.grad = scaler.scale(param.grad) * (float("inf") if step % 6 == 4 else 1)
            self.change(self, step)
            if scaler:
                scaler.step(self.optimizer)
                scaler.update()
            else:
                self.optimizer.step()
            if "scheduler" in self.others:
                self.others["scheduler"].step()
        for param in self.model.parameters():
            param.grad = None
        return self


def gradient(step: int, place: int, param: Any) -> Any:
    noise = torch.Generator().manual_seed(7919 * step + place)
    exponent = torch.randint(-3, 2, param.shape, generator=noise)
    values = torch.randn(param.shape, generator=noise, dtype=param.dtype)
    return values * 10.0 ** exponent.to(param.dtype)


def everything(run: Training) -> dict[str, Any]:
    """Values of all that lasts, by name, copied."""
    found = {
        f"param {name}": param.detach().clone() for name, param in run.model.named_parameters()
    }
    for name, param in run.model.named_parameters():
        for slot, value in run.optimizer.state.get(param, {}).items():
            leaves = torch.utils._pytree.tree_leaves(value)
            found |= {f"{slot} {i} of {name}": leaf.clone() for i, leaf in enumerate(leaves)}
    for place, group in enumerate(run.optimizer.state_dict()["param_groups"]):
        kept = {n: copy.deepcopy(v) for n, v in group.items() if n not in ("params", "param_names")}
        found |= {f"{name} of group {place}": value for name, value in kept.items()}
    return found | {name: copy.deepcopy(one.state_dict()) for name, one in run.others.items()}


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same to the last bit, dtype or type."""
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not alike(value, other[name])]


def alike(one: Any, other: Any) -> bool:
    if torch.is_tensor(one) and torch.is_tensor(other):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and repr(one) == repr(other)


# The trainings. Each is made from a seed, which a resumed one has another of.


def named(model: Any) -> list[tuple[str, Any]]:
    return list(model.named_parameters())


def two_groups(rule: Any, named_too: bool = True, **options: Any) -> Callable[[int], Training]:
    """Two groups with numbers of their own, and a cycle of learning rate and momentum."""

    def made(seed: int) -> Training:
        model = Net(seed)
        params = named(model) if named_too else [*model.parameters()]
        own = {"lr": 0.02, "weight_decay": 0.05}
        if isinstance(rule.hypers.get("betas"), tuple) and rule.needs != "tree":
            own["betas"] = (0.7, *rule.betas[1:])
        optimizer = adapter.bind(
            rule, [{"params": params[:2]}, {"params": params[2:], **own}], **options
        )
        cycled = not {"betas", "momentum"}.isdisjoint(optimizer.defaults)
        scheduler = lr_scheduler.OneCycleLR(
            optimizer, 0.05, total_steps=3 * STEPS, cycle_momentum=cycled and rule.needs != "tree"
        )
        return Training(model, optimizer, {"scheduler": scheduler})

    return made


def plain(rule: Any, shapes: Any = None, dtype: Any = None, **options: Any) -> Any:
    def made(seed: int) -> Training:
        model = Net(seed, dtype, shapes)
        return Training(model, adapter.bind(rule, named(model), **options))

    return made


def adamw(**values: Any) -> Any:
    return samestep.AdamW(**{"lr": 0.01, "weight_decay": 0.1, **values})


def chained(seed: int) -> Training:
    """A scheduler that goes on from the learning rate that is there."""
    run = plain(adamw())(seed)
    run.others["scheduler"] = lr_scheduler.ExponentialLR(run.optimizer, 0.9)
    return run


def rate_by_hand(seed: int) -> Training:
    run = plain(adamw())(seed)

    def change(run: Training, step: int) -> None:
        if step == 4:
            run.optimizer.param_groups[0].update(lr=0.123456789, betas=(0.5, 0.9))

    run.change = change
    return run


def late(seed: int) -> Training:
    """A layer that joins after five steps; with another seed it has been there from the start."""
    model = Net(seed)
    params = named(model)
    optimizer = adapter.bind(samestep.Adan(lr=0.01, weight_decay=0.1), params[:2])
    if seed:
        optimizer.add_param_group({"params": params[2:], "lr": 0.03})

    def change(run: Training, step: int) -> None:
        if step == 5:
            run.optimizer.add_param_group({"params": params[2:], "lr": 0.03})

    return Training(model, optimizer, change=change)


def missing(seed: int) -> Training:
    """Gradients that are not there in some steps, and of one parameter in none before the file."""
    run = plain(typical(samestep.Lookahead))(seed)

    def change(run: Training, step: int) -> None:
        first, second, *_ = run.model.parameters()
        if step % 3:
            first.grad = None
        if step < HALF + 2:
            second.grad = None

    run.change = change
    return run


def frozen(seed: int) -> Training:
    run = plain(adamw())(seed)
    run.model.embed.requires_grad_(False)
    return run


def tied(seed: int) -> Training:
    model = Net(seed)
    model.output = torch.nn.Module()
    model.output.w = model.embed
    return Training(model, adapter.bind(adamw(), named(model)))


def unnamed(seed: int) -> Training:
    """Names are the model's."""
    model = Net(seed)
    return Training(model, adapter.bind(adamw(), model.parameters()))


def other_order(seed: int) -> Training:
    """The resumed one has its parameters backwards; the names tell."""
    model = Net(seed)
    return Training(model, adapter.bind(adamw(), named(model)[:: -1 if seed else 1]))


def empty_group(seed: int) -> Training:
    model = Net(seed)
    groups = [{"params": [*model.parameters()]}, {"params": [], "lr": 0.5}]
    return Training(model, adapter.bind(adamw(), groups))


def narrow(seed: int) -> Training:
    model = Net(seed).bfloat16()
    return Training(model, adapter.bind(adamw(state_dtype="float32"), named(model)))


def scaled(seed: int, **options: Any) -> Training:
    run = plain(adamw(), **options)(seed)
    run.others["scaler"] = torch.amp.GradScaler("cpu", 2.0**8, growth_interval=3)
    return run


def scheduled(seed: int) -> Training:
    """Schedules of ours, which are not part of a state: each training has its own."""
    rule = adamw(lr=CosineDecay(0.1, STEPS), betas=(ExponentialDecay(0.9, 5, 0.9), 0.99))
    return plain(rule)(seed)


def tensor_rate(seed: int) -> Training:
    run = chained(seed)
    return Training(
        run.model, adapter.bind(adamw(lr=0.01), [{"params": named(run.model), "lr": rate(0.01)}])
    )


def rate(value: float) -> Any:
    return torch.tensor(value, dtype=torch.float64)


def taken(rule: Any) -> Any:
    """The rule for the parameters that it takes, AdamW for the others."""
    where = samestep.Where(min_ndim=rule.min_ndim)
    return samestep.route((where, rule), adamw()) if rule.min_ndim else rule


TRAININGS: dict[str, Callable[[int], Training]] = {
    **{cls.__name__: two_groups(taken(typical(cls))) for cls in all_rules()},
    "route": two_groups(ROUTED),
    "averaged route": two_groups(samestep.Average(ROUTED)),
    "grouped": plain(adamw(groups=[(samestep.Where(ndim=1), {"lr": 0.5, "betas": (0.5, 0.9)})])),
    "chained": chained,
    "rate by hand": rate_by_hand,
    "late": late,
    "missing": missing,
    "frozen": frozen,
    "tied": tied,
    "unnamed": unnamed,
    "other order": other_order,
    "empty group": empty_group,
    "narrow": narrow,
    "narrow state": plain(adamw(state_dtype={"m": "bfloat16"})),
    "complex": plain(adamw(), dtype=torch.complex64),
    "double": plain(samestep.LAMB(weight_decay=0.1), dtype=torch.float64),
    "scheduled": scheduled,
    "scaler": scaled,
    "scaler in the step": lambda seed: scaled(seed, capturable=True),
    "tensor rate": tensor_rate,
    "capturable": two_groups(samestep.Adan(weight_decay=0.1), capturable=True),
    "packed": two_groups(samestep.Adan(weight_decay=0.1), execution="packed"),
    "packed tree": two_groups(samestep.Prodigy(weight_decay=0.1), execution="packed"),
    "reference": two_groups(samestep.LAMB(weight_decay=0.1), execution="reference"),
    "compiled": two_groups(adamw(), execution="compiled"),
}

FLAT_REFUSED = {
    "Adafactor": NotImplementedError,  # a slot is several arrays
    "SM3": NotImplementedError,
    "Scout": NotImplementedError,
    "empty group": IndexError,
}
"""What torch itself cannot flatten, or take apart again."""


# The ways to save.


def save(way: str, path: Path, run: Training) -> None:
    rest = {name: one.state_dict() for name, one in run.others.items()}
    if way == "samestep.save":
        samestep.save(path / "state.safetensors", run.optimizer, run.model)
    elif way == "torch.save":
        rest |= {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    else:
        run.optimizer.init_state()  # of what has had no gradient
        dcp.save(collected(way, run), checkpoint_id=path / "folder", no_dist=True)
    torch.save(rest, path / "rest.pt")


def load(way: str, path: Path, run: Training) -> None:
    rest = torch.load(path / "rest.pt", weights_only=True)
    if way == "samestep.save":
        samestep.load(path / "state.safetensors", run.optimizer, run.model)
    elif way == "torch.save":
        run.model.load_state_dict(rest["model"])
        run.optimizer.load_state_dict(rest["optimizer"])
    else:
        run.optimizer.init_state()
        saved = collected(way, run)
        dcp.load(saved, checkpoint_id=path / "folder", no_dist=True)
        distributed.set_state_dict(
            run.model,
            run.optimizer,
            model_state_dict=saved["model"],
            optim_state_dict=saved["optimizer"],
            options=options(way),
        )
    for name, one in run.others.items():
        one.load_state_dict(rest[name])


def collected(way: str, run: Training) -> dict[str, Any]:
    model, optimizer = distributed.get_state_dict(run.model, run.optimizer, options=options(way))
    return {"model": model, "optimizer": optimizer}


def options(way: str) -> Any:
    return distributed.StateDictOptions(flatten_optimizer_state_dict=way == "flattened")


def is_distributed(way: str) -> bool:
    return way in ("distributed", "flattened")


def ways(name: str) -> list[str]:
    """How a training is saved and loaded."""
    return [way for way in WAYS if way != "flattened" or name not in FLAT_REFUSED]


def resume(folder: Path) -> None:
    """What the new process does: load, go on, and write down where it ends."""
    for place, (name, made) in enumerate(TRAININGS.items()):
        for way in ways(name):
            path = folder / f"{place}-{way}"
            run = made(1)
            load(way, path, run)
            loaded = everything(run)
            torch.save((loaded, everything(run.train(range(HALF, STEPS)))), path / "end.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every training halfway, in every way, and what another process has made of it."""
    found = tmp_path_factory.mktemp("resuming")
    for place, (name, made) in enumerate(TRAININGS.items()):
        run = made(0).train(range(HALF))
        for way in ways(name):
            (found / f"{place}-{way}").mkdir()
            save(way, found / f"{place}-{way}", run)
    rules = "from samestep.conformance.harness.settings import load_rules; load_rules(); "
    code = f"from pathlib import Path; from {__name__} import resume; resume(Path({str(found)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", rules + code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return found


@pytest.mark.parametrize("name", TRAININGS)
def test_a_new_process_goes_on_exactly(name: str, folder: Path) -> None:
    """What is loaded is what was saved, and ten steps later it still is what it would have been."""
    for initialised in (False, True):
        run = TRAININGS[name](0).train(range(HALF))
        if initialised:
            run.optimizer.init_state()
        half, whole = everything(run), everything(run.train(range(HALF, STEPS)))
        assert differing(half, {key: whole[key] for key in half})
        for way in ways(name):
            if is_distributed(way) == initialised:
                path = folder / f"{[*TRAININGS].index(name)}-{way}" / "end.pt"
                loaded, end = torch.load(path, weights_only=False)
                assert differing(loaded, half) == [], way
                assert differing(end, whole) == [], way


@pytest.mark.parametrize("name", TRAININGS)
def test_without_the_state_it_goes_elsewhere(name: str) -> None:
    """With the parameters and all else; or the test above could not fail."""
    run, other = TRAININGS[name](0).train(range(HALF)), TRAININGS[name](1)
    other.model.load_state_dict(run.model.state_dict())
    for kind, one in other.others.items():
        one.load_state_dict(run.others[kind].state_dict())
    for group, own in zip(other.optimizer.param_groups, run.optimizer.param_groups, strict=True):
        group.update({n: own[n] for n in ("lr", "betas", "momentum") if n in own})
    ends = [everything(each.train(range(HALF, STEPS))) for each in (run, other)]
    params = [{key: v for key, v in end.items() if key.startswith("param ")} for end in ends]
    rule = run.optimizer.rule
    assert bool(differing(*params)) == any({**b.slots(), **b.shared()} for b in rule.branches)


@pytest.mark.parametrize("name", FLAT_REFUSED)
def test_what_torch_does_not_flatten_it_refuses_itself(name: str, tmp_path: Path) -> None:
    """The other form takes it."""
    run = TRAININGS[name](0).train(range(2))
    before = everything(run)
    with pytest.raises(FLAT_REFUSED[name]):
        save("flattened", tmp_path, run)
        load("flattened", tmp_path, run)
    assert differing(everything(run), before) == []


# torch.distributed.checkpoint.


@pytest.mark.parametrize(
    "name", ["AdamW", "Prodigy", "Lookahead", "grouped", "scheduled", "frozen"]
)
def test_state_that_is_there_spares_a_step(name: str) -> None:
    """torch takes one with zero gradients where an optimizer has no state."""
    run = TRAININGS[name](0)
    schedule = run.optimizer.param_groups[0]["lr"]
    run.optimizer.init_state()
    before = everything(run)
    steps = []
    run.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    distributed.get_optimizer_state_dict(run.model, run.optimizer)
    assert steps == []
    assert differing(everything(run), before) == []
    assert run.optimizer.param_groups[0]["lr"] is schedule
    expected = everything(TRAININGS[name](0).train(range(3)))
    assert differing(everything(run.train(range(3))), expected) == []


@pytest.mark.parametrize("name", [name for name in TRAININGS if name != "grouped"])
def test_that_step_moves_no_parameter(name: str) -> None:
    """It is counted, and a checkpoint that is loaded after it takes its place.

    ``groups=`` sets learning rates that torch cannot set to zero, so that parameters decay.
    """
    run, untouched = TRAININGS[name](1), TRAININGS[name](1)
    rates = [group["lr"] for group in run.optimizer.param_groups]
    distributed.get_optimizer_state_dict(run.model, run.optimizer)
    for param, own in zip(run.model.parameters(), untouched.model.parameters(), strict=True):
        assert torch.equal(param, own)
        assert not param.requires_grad or int(run.optimizer.state[param]["step"]) == 1
    for group, value in zip(run.optimizer.param_groups, rates, strict=True):
        assert group["lr"] is value
    saved = TRAININGS[name](0).train(range(HALF))
    saved.optimizer.init_state()
    whole = distributed.get_optimizer_state_dict(saved.model, saved.optimizer)
    run.model.load_state_dict(saved.model.state_dict())
    distributed.set_optimizer_state_dict(run.model, run.optimizer, whole)
    for kind, one in run.others.items():
        one.load_state_dict(saved.others[kind].state_dict())
    assert differing(everything(run), everything(saved)) == []


def alike_shapes(seed: int, order: str = "abc", prefix: str = "") -> Training:
    model = Net(seed, shapes=dict.fromkeys("abc", (3, 2)))
    params = [(prefix + name, getattr(model, name)) for name in order]
    return Training(model, adapter.bind(adamw(), params))


def test_distributed_checkpoints_are_read_by_name_where_shapes_do_not_tell() -> None:
    """Their keys are in the order of the optimizer that loads, ``param_names`` are not."""
    run, other = alike_shapes(0).train(range(HALF)), alike_shapes(1, "cab")
    saved = distributed.get_state_dict(run.model, run.optimizer)
    other.optimizer.init_state()
    distributed.set_state_dict(
        other.model, other.optimizer, model_state_dict=saved[0], optim_state_dict=saved[1]
    )
    assert differing(everything(other), everything(run)) == []
    ends = [everything(each.train(range(HALF, STEPS))) for each in (run, other)]
    assert differing(*ends) == []


def test_names_that_the_model_does_not_have_do_not_tell_in_another_order() -> None:
    run = alike_shapes(0, prefix="own.").train(range(HALF))
    saved = distributed.get_optimizer_state_dict(run.model, run.optimizer)
    alike = alike_shapes(1, prefix="own.")
    alike.model.load_state_dict(run.model.state_dict())
    distributed.set_optimizer_state_dict(alike.model, alike.optimizer, saved)
    assert differing(everything(alike), everything(run)) == []
    other = alike_shapes(1, "cab", "own.")
    other.optimizer.init_state()
    before = everything(other)
    with pytest.raises(ValueError, match=r"own.a, own.b, own.c under the keys c, a, b, which"):
        distributed.set_optimizer_state_dict(other.model, other.optimizer, saved)
    assert differing(everything(other), before) == []


# Files that others cannot take.


@pytest.mark.parametrize("library", ["jax", "mlx"])
def test_counts_that_differ_are_named_where_one_count_is_for_all(
    library: str, tmp_path: Path
) -> None:
    there = pytest.importorskip(f"samestep.{library}")
    run = late(0).train(range(HALF))
    path = tmp_path / "late.safetensors"
    samestep.save(path, run.optimizer, run.model)
    xp = pytest.importorskip({"jax": "jax.numpy", "mlx": "mlx.core"}[library])
    params = {"embed": xp.ones((5, 3)), "layer": {"w": xp.ones((4, 5)), "b": xp.ones(4)}}
    params["conv"] = xp.ones((2, 3, 2))
    optimizer = there.bind(run.optimizer.rule)
    optimizer.init(params)
    before = repr((params, getattr(optimizer, "state", None)))
    words = (
        r"late.safetensors: parameters have taken different numbers of steps \('.*' 5, '.*' 10\)"
    )
    with pytest.raises(samestep.CheckpointError, match=words):
        samestep.load(path, optimizer, params)
    assert repr((params, getattr(optimizer, "state", None))) == before


@pytest.mark.parametrize("there", [False, True])
def test_a_parameter_that_one_side_lacks_is_named_and_nothing_is_loaded(
    there: bool, tmp_path: Path
) -> None:
    """A late one, which the file has or the optimizer."""
    run, other = late(0).train(range(HALF if there else 3)), late(0 if there else 1)
    other.train(range(2, 4))
    samestep.save(tmp_path / "x.safetensors", run.optimizer)
    before = everything(other)
    words = f"{'only' if there else 'not'} in the checkpoint: layer.w, layer.b"
    with pytest.raises(samestep.CheckpointError, match=words):
        samestep.load(tmp_path / "x.safetensors", other.optimizer)
    assert differing(everything(other), before) == []


# Parameters that several processes have parts of.

SHARDED = """
import faulthandler, os, sys
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
import samestep
from samestep.conformance import test_resuming_torch as own
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.fsdp import fully_shard

faulthandler.enable()
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mesh = dist.init_device_mesh("cpu", (2,))
mine = own.gradient
own.gradient = lambda step, place, param: spread(param, mine(step, place, own.whole(param)))
spread = lambda like, value: distribute_tensor(value, like.device_mesh, like.placements)
for name in own.SHARDED_RULES:
    start = own.TRAININGS[name]

    def made(seed):
        run = start(seed)
        model = fully_shard(run.model, mesh=mesh)
        run.optimizer = own.adapter.bind(run.optimizer.rule, own.named(model))
        run.optimizer.init_state()
        return own.Training(model, run.optimizer)

    run = made(0).train(range(own.HALF))
    assert all(isinstance(param, DTensor) for param in run.model.parameters())
    dcp.save(own.collected("distributed", run), checkpoint_id=f"{folder}/{name}")
    other, lost = made(1), made(1)
    saved = own.collected("distributed", other)
    dcp.load(saved, checkpoint_id=f"{folder}/{name}")
    own.distributed.set_state_dict(
        other.model, other.optimizer,
        model_state_dict=saved["model"], optim_state_dict=saved["optimizer"],
    )
    lost.model.load_state_dict(run.model.state_dict())
    ends = [own.gathered(each.train(range(own.HALF, own.STEPS))) for each in (run, other, lost)]
    assert own.differing(ends[0], ends[1]) == [], name
    assert own.differing(ends[0], ends[2]) != [], name
    before = own.gathered(run)
    for act in (samestep.save, samestep.load):
        path = f"{folder}/rank{rank}.safetensors"
        plain = start(0)
        samestep.save(path, plain.optimizer, plain.model)
        try:
            act(path, run.optimizer, run.model)
        except samestep.CheckpointError as error:
            assert "parameter 'embed' is a DTensor" in str(error), error
            assert "torch.distributed.checkpoint" in str(error), error
        else:
            raise AssertionError(f"{act.__name__} took it")
    assert own.differing(own.gathered(run), before) == [], name
dist.barrier()
print("all the same", flush=True)
os._exit(0)  # gloo's threads do not always survive the end of the interpreter
"""
SHARDED_RULES = ("AdamW", "LAMB", "Prodigy", "Lookahead")


def whole(param: Any) -> Any:
    return param.detach().full_tensor() if hasattr(param, "full_tensor") else param.detach()


def gathered(run: Training) -> dict[str, Any]:
    """Parameters and state, whole in every process."""
    found = {name: whole(param) for name, param in named(run.model)}
    for name, param in named(run.model):
        state = run.optimizer.state.get(param, {}).items()
        found |= {f"{slot} of {name}": whole(value) for slot, value in state}
    return found


@pytest.mark.thorough
def test_sharded_parameters_are_saved_by_torch_and_go_on_exactly(tmp_path: Path) -> None:
    """FSDP2 in two processes; a file of ours, which one process would write, is refused."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SHARDED, str(tmp_path), str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=200)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, words in zip(started, said, strict=True):
        assert process.returncode == 0 and "all the same" in words, words
