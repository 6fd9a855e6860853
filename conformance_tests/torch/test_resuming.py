"""Runs in torch that are interrupted go on exactly: groups, schedulers, late parameters, scalers.

Every run is saved in four ways: with ``torch.save``, ``samestep.save`` and, in both of its forms,
``torch.distributed.checkpoint``. A new process goes on from there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as distributed
from torch.optim import lr_scheduler

import samestep
import samestep.torch as adapter
from samestep.conformance.harness.interrupted import asked_for, in_a_new_process
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import all_rules, typical
from samestep.conformance.harness.torch_training import gradient
from samestep.schedules import CosineDecay, ExponentialDecay

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),  # as it is
]

HALF, STEPS = 10, 20
SHAPES = {"embed": (5, 3), "layer.w": (4, 5), "layer.b": (4,), "conv": (2, 3, 2)}
ROUTED = samestep.route((samestep.Where(min_ndim=2), samestep.Muon()), samestep.Prodigy(lr=0.5))
WAYS = ("torch.save", "samestep.save", "distributed", "flattened")


class Net(torch.nn.Module):
    """Parameters by name, the dots of which are modules."""

    def __init__(self, seed, dtype=None, shapes=None):
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
    """A model, its optimizer, its scheduler and scaler by name, and what is done before a step."""

    model: Any
    optimizer: Any
    others: dict[str, Any]
    change: Callable[[Training, int], None]

    def train(self, steps):
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


def everything(run):
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


def differing(one, other):
    """Names of what is not the same to the last bit, dtype or type."""
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not alike(value, other[name])]


def alike(one, other):
    if torch.is_tensor(one) and torch.is_tensor(other):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and repr(one) == repr(other)


# The trainings. Each is made from a seed, which a resumed one has another of.


def named(model, seed=0):
    return list(model.named_parameters())


def training(
    rule, params=named, others=lambda _: {}, change=lambda *_: None, shapes=None, dtype=None, **kept
):
    """A function of a seed that makes a training; ``params`` are what the optimizer is given."""

    def made(seed):
        model = Net(seed, dtype, shapes)
        optimizer = adapter.bind(rule, params(model, seed), **kept)
        return Training(model, optimizer, others(optimizer), change)

    return made


def two_groups(rule, **options):
    """Two groups with numbers of their own, and a cycle of learning rate and momentum."""
    own = {"lr": 0.02, "weight_decay": 0.05}
    if isinstance(rule.hypers.get("betas"), tuple) and rule.needs != "tree":
        own["betas"] = (0.7, *rule.betas[1:])

    def cycle(optimizer):
        cycled = not {"betas", "momentum"}.isdisjoint(optimizer.defaults) and rule.needs != "tree"
        return {
            "scheduler": lr_scheduler.OneCycleLR(
                optimizer, 0.05, total_steps=3 * STEPS, cycle_momentum=cycled
            )
        }

    def halves(model, seed):
        params = named(model)
        return [{"params": params[:2]}, {"params": params[2:], **own}]

    return training(rule, halves, cycle, **options)


def adamw(**values):
    return samestep.AdamW(**{"lr": 0.01, "weight_decay": 0.1, **values})


def decaying(optimizer):
    """A scheduler that goes on from the learning rate that is there."""
    return {"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.9)}


def rate_by_hand(run, step):
    if step == 4:
        run.optimizer.param_groups[0].update(lr=0.123456789, betas=(0.5, 0.9))


def late(model, seed):
    """All but two parameters join after five steps; with another seed they are there at once."""
    params = named(model)
    return [{"params": params[:2]}, *([{"params": params[2:], "lr": 0.03}] if seed else [])]


def joined(run, step):
    if step == 5:
        run.optimizer.add_param_group({"params": named(run.model)[2:], "lr": 0.03})


def missing(run, step):
    """Gradients that are not there in some steps, and of one parameter in none before the file."""
    first, second, *_ = run.model.parameters()
    if step % 3:
        first.grad = None
    if step < HALF + 2:
        second.grad = None


def apart(run, step):
    """No parameter has a gradient in every step, and those of one step are infinite."""
    for place, param in enumerate(run.model.parameters()):
        param.grad = None if step % 4 == place else param.grad * (torch.inf if step == 6 else 1)


def frozen(model, seed):
    model.embed.requires_grad_(False)
    return named(model)


def tied(model, seed):
    model.output = torch.nn.Module()
    model.output.w = model.embed
    return named(model)


def scaler(optimizer):
    return {"scaler": torch.amp.GradScaler("cpu", 2.0**8, growth_interval=3)}


def tensor_rate(model, seed):
    return [{"params": named(model), "lr": torch.tensor(0.01, dtype=torch.float64)}]


def taken(rule):
    """The rule for the parameters that it takes, AdamW for the others."""
    where = samestep.Where(min_ndim=rule.min_ndim)
    return samestep.route((where, rule), adamw()) if rule.min_ndim else rule


TRAININGS = {
    **{cls.__name__: two_groups(taken(typical(cls))) for cls in all_rules()},
    "route": two_groups(ROUTED),
    "averaged route": two_groups(samestep.Average(ROUTED)),
    "grouped": training(adamw(groups=[(samestep.Where(ndim=1), {"lr": 0.5, "betas": (0.5, 0.9)})])),
    "chained": training(adamw(), others=decaying),
    "rate by hand": training(adamw(), change=rate_by_hand),
    "late": training(samestep.Adan(lr=0.01, weight_decay=0.1), late, change=joined),
    "missing": training(typical(samestep.Lookahead), change=missing),
    "frozen": training(adamw(), frozen),
    "tied": training(adamw(), tied),
    "unnamed": training(adamw(), lambda model, seed: model.parameters()),
    "other order": training(adamw(), lambda model, seed: named(model)[:: -1 if seed else 1]),
    "empty group": training(
        adamw(), lambda model, seed: [{"params": [*model.parameters()]}, {"params": [], "lr": 0.5}]
    ),
    "narrow": training(adamw(state_dtype="float32"), dtype=torch.bfloat16),
    "narrow state": training(adamw(state_dtype={"m": "bfloat16"})),
    "complex": training(adamw(), dtype=torch.complex64),
    "double": training(samestep.LAMB(weight_decay=0.1), dtype=torch.float64),
    "scheduled": training(
        adamw(lr=CosineDecay(0.1, STEPS), betas=(ExponentialDecay(0.9, 5, 0.9), 0.99))
    ),
    "apart": training(
        samestep.SkipNonFinite(adamw(lr=ExponentialDecay(0.1, 5, 0.9))), change=apart
    ),
    "scaler": training(adamw(), others=scaler),
    "scaler in the step": training(adamw(), others=scaler, capturable=True),
    "tensor rate": training(adamw(), tensor_rate),
    "capturable": two_groups(samestep.Adan(weight_decay=0.1), capturable=True),
    "packed": two_groups(samestep.Adan(weight_decay=0.1), execution="packed"),
    "packed tree": two_groups(samestep.Prodigy(weight_decay=0.1), execution="packed"),
    "reference": two_groups(samestep.LAMB(weight_decay=0.1), execution="reference"),
    "compiled": two_groups(adamw(), execution="compiled"),
}
NAMES = [*each_rule(), *(name for name in TRAININGS if name not in samestep.rules.__all__)]
each_training = pytest.mark.parametrize("name", NAMES)

FLAT_REFUSED = {"empty group": IndexError}
"""What torch itself cannot flatten, or take apart again."""


# The ways to save.


def save(way, path, run):
    rest = {name: one.state_dict() for name, one in run.others.items()}
    if way == "samestep.save":
        samestep.save(path / "state.safetensors", run.optimizer, run.model)
    elif way == "torch.save":
        rest |= {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    else:
        run.optimizer.init_state()  # of what has had no gradient
        dcp.save(collected(way, run), checkpoint_id=path / "folder", no_dist=True)
    torch.save(rest, path / "rest.pt")


def load(way, path, run):
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
        scattered(run, saved, way)
    for name, one in run.others.items():
        one.load_state_dict(rest[name])


def collected(way, run):
    model, optimizer = distributed.get_state_dict(run.model, run.optimizer, options=options(way))
    return {"model": model, "optimizer": optimizer}


def scattered(run, saved, way="distributed"):
    distributed.set_state_dict(
        run.model,
        run.optimizer,
        model_state_dict=saved["model"],
        optim_state_dict=saved["optimizer"],
        options=options(way),
    )


def options(way):
    return distributed.StateDictOptions(flatten_optimizer_state_dict=way == "flattened")


def ways(name):
    """How a training is saved and loaded."""
    return [way for way in WAYS if way != "flattened" or name not in FLAT_REFUSED]


def resume(folder):
    """What the new process does: load, go on, and write down where each training ends."""
    for path in folder.iterdir():
        name, way = path.name.split("-")
        run = TRAININGS[name](1)
        load(way, path, run)
        loaded = everything(run)
        torch.save((loaded, everything(run.train(range(HALF, STEPS)))), path / "end.pt")


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """Every training halfway, in every way, and what another process has made of it."""
    found = tmp_path_factory.mktemp("resuming")
    for name in asked_for(request):
        run = TRAININGS[name](0).train(range(HALF))
        for way in ways(name):
            (found / f"{name}-{way}").mkdir()
            save(way, found / f"{name}-{way}", run)
    in_a_new_process(__name__, f"resume(Path({str(found)!r}))")
    return found


@each_training
def test_a_new_process_goes_on_exactly(name, folder):
    """What is loaded is what was saved, and ten steps later it still is what it would have been."""
    for initialised in (False, True):
        run = TRAININGS[name](0).train(range(HALF))
        if initialised:
            run.optimizer.init_state()
        half, whole = everything(run), everything(run.train(range(HALF, STEPS)))
        assert differing(half, {key: whole[key] for key in half})
        for way in ways(name):
            if (way in ("distributed", "flattened")) == initialised:
                loaded, end = torch.load(folder / f"{name}-{way}" / "end.pt", weights_only=False)
                assert differing(loaded, half) == [], way
                assert differing(end, whole) == [], way


@pytest.mark.parametrize("name", FLAT_REFUSED)
def test_what_torch_does_not_flatten_it_refuses_itself(name, tmp_path):
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
def test_state_that_is_there_spares_a_step(name):
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


@each_training
def test_that_step_makes_a_state_and_changes_nothing(name):
    """It is not counted, and moves no parameter whose rate ``groups=`` sets, and torch cannot."""
    run, untouched = TRAININGS[name](1), TRAININGS[name](1)
    rates = [group["lr"] for group in run.optimizer.param_groups]
    distributed.get_optimizer_state_dict(run.model, run.optimizer)
    for group, value in zip(run.optimizer.param_groups, rates, strict=True):
        assert group["lr"] is value
    untouched.optimizer.init_state()
    assert differing(everything(run), everything(untouched)) == []
    saved = TRAININGS[name](0).train(range(HALF))
    saved.optimizer.init_state()
    whole = distributed.get_optimizer_state_dict(saved.model, saved.optimizer)
    run.model.load_state_dict(saved.model.state_dict())
    distributed.set_optimizer_state_dict(run.model, run.optimizer, whole)
    for kind, one in run.others.items():
        one.load_state_dict(saved.others[kind].state_dict())
    assert differing(everything(run), everything(saved)) == []


def alike_shapes(seed, order="abc", prefix=""):
    def params(model, seed):
        return [(prefix + name, getattr(model, name)) for name in order]

    return training(adamw(), params, shapes=dict.fromkeys("abc", (3, 2)))(seed)


def test_distributed_checkpoints_are_read_by_name_where_shapes_do_not_tell():
    """Their keys are in the order of the optimizer that loads, ``param_names`` are not."""
    run, other = alike_shapes(0).train(range(HALF)), alike_shapes(1, "cab")
    saved = collected("distributed", run)
    other.optimizer.init_state()
    scattered(other, saved)
    assert differing(everything(other), everything(run)) == []
    ends = [everything(each.train(range(HALF, STEPS))) for each in (run, other)]
    assert differing(*ends) == []


def test_names_that_the_model_does_not_have_do_not_tell_in_another_order():
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


def test_a_flattened_state_of_evaluation_is_refused():
    """Torch loads what there is in the optimizer: of such a state the mode alone."""
    run, other = (training(samestep.ScheduleFreeAdamW())(seed).train(range(3)) for seed in (0, 1))
    run.optimizer.eval()
    saved, before = collected("flattened", run), everything(other)
    saved["model"] = other.model.state_dict()
    with pytest.raises(ValueError, match=r"while the model was evaluated, and has no 'trained'"):
        scattered(other, saved, "flattened")
    assert differing(everything(other), before) == []


# Files that others take, and cannot take.


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own hyperparameters")
@pytest.mark.parametrize("library", ["jax", "mlx"])
def test_counts_that_differ_are_taken_by_the_others(library, tmp_path):
    there = pytest.importorskip(f"samestep.{library}")
    run = TRAININGS["late"](0).train(range(HALF))
    path = tmp_path / "late.safetensors"
    samestep.save(path, run.optimizer, run.model)
    xp = pytest.importorskip({"jax": "jax.numpy", "mlx": "mlx.core"}[library])
    params = {"embed": xp.ones((5, 3)), "layer": {"w": xp.ones((4, 5)), "b": xp.ones(4)}}
    params["conv"] = xp.ones((2, 3, 2))
    optimizer = there.bind(run.optimizer.rule)
    state = optimizer.init(params)
    loaded = samestep.load(path, optimizer, params)
    again = optimizer.checkpoint(params) if library == "mlx" else optimizer.checkpoint(*loaded)
    counts = {name: own.step for name, own in samestep.checkpoints.read(path).parameters.items()}
    assert {name: own.step for name, own in again.parameters.items()} == counts
    assert {*counts.values()} == {5, 10} and (state is None or state.step == 0)


@pytest.mark.parametrize("there", [False, True])
def test_a_parameter_that_one_side_lacks_is_named_and_nothing_is_loaded(there, tmp_path):
    """A late one, which the file has or the optimizer."""
    start = TRAININGS["late"]
    run, other = start(0).train(range(HALF if there else 3)), start(0 if there else 1)
    other.train(range(2, 4))
    samestep.save(tmp_path / "x.safetensors", run.optimizer)
    before = everything(other)
    words = f"{'only' if there else 'not'} in the checkpoint: layer.w, layer.b"
    with pytest.raises(samestep.CheckpointError, match=words):
        samestep.load(tmp_path / "x.safetensors", other.optimizer)
    assert differing(everything(other), before) == []


BIAS, WARMUP = samestep.Where(path="*bias"), samestep.schedules.Linear(0.1, 0.2, 10)
APART = {  # a rule, and the number that it has and a plain one has not
    "groups": (samestep.AdamW(groups=[(BIAS, {"lr": 0.5})]), "lr is {} .*bias", "0.5"),
    "mask": (samestep.AdamW(mask=~BIAS), "weight_decay is {} .*bias", "0.0"),
    "schedule": (samestep.AdamW(lr=WARMUP), "lr is {} ", "0.11.* by Linear.*"),
    "schedule in a group": (
        samestep.AdamW(groups=[(BIAS, {"lr": WARMUP})]),
        "lr is {} .*bias",
        "0.11.* by Linear.*",
    ),
    "groups inside": (
        samestep.Cautious(samestep.AdamW(groups=[(BIAS, {"lr": 0.5})])),
        "lr is {} .*bias",
        "0.5",
    ),
}


@pytest.mark.parametrize("what", APART)
def test_numbers_that_a_state_dict_does_not_load_are_warned_of(what, recwarn):
    rule, words, number = APART[what]
    plain = samestep.Cautious(samestep.AdamW()) if "inside" in what else samestep.AdamW()

    def trained(rule, named=True):
        model = torch.nn.Linear(2, 2)
        optimizer = adapter.bind(rule, model.named_parameters() if named else model.parameters())
        for _ in range(2):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
        return optimizer

    for one in (rule, plain):  # the same on both sides
        trained(one).load_state_dict(trained(one).state_dict())
        copy.deepcopy(trained(one))
    old = trained(rule).state_dict()
    del old["param_groups"][0]["written_by"]["numbers"]  # as an earlier version wrote it
    trained(plain).load_state_dict(old)
    assert not recwarn.list
    for named in (True, False) if what == "schedule" else (True,):
        saved = trained(plain, named).state_dict()
        with pytest.warns(UserWarning, match=words.format(f"{number} here and")):
            trained(rule, named).load_state_dict(saved)
        saved = trained(rule, named).state_dict()
        with pytest.warns(UserWarning, match=words.format(f".* here and {number} there")):
            trained(plain, named).load_state_dict(saved)
