"""The state of torch-optimi's and heavyball's optimizers, from and to ours, with the real packages.

Both keep averages divided by the weight that they have gathered so far, and count the steps of a
whole group. heavyball divides by ``max(sqrt(v), eps)`` where every rule here divides by
``sqrt(v) + eps``, so that its next steps agree to the ratio of eps and the root.
"""

from __future__ import annotations

import re

import numpy
import pytest

import samestep
from samestep.checkpoints import CheckpointError
from samestep.checkpoints.description import made
from samestep.conformance.integrations import OWN_WARNINGS

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

SHAPES = {"w": (4, 3), "b": (3,), "conv": (3, 2, 2, 2), "late": (2, 3)}
BEFORE, AFTER = 30, 10
LARGE = {"lr": 0.02, "eps": 1e-3, "weight_decay": 0.1}
OPTIMI = {
    "Adam": [LARGE, {**LARGE, "decouple_wd": True, "betas": (0.8, 0.95)}],
    "AdamW": [LARGE, {"lr": 0.02, "weight_decay": 1e-4, "decouple_lr": True, "max_lr": 0.05}],
    "RAdam": [LARGE, {**LARGE, "betas": (0.8, 0.95)}],
    "StableAdamW": [LARGE, {**LARGE, "decouple_lr": True, "max_lr": 0.05}],
    "Adan": [LARGE, {**LARGE, "adam_wd": True}],
    "Lion": [{"lr": 0.001, "weight_decay": 0.1}],
    "SGD": [
        {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1},
        {"lr": 0.02, "momentum": 0.9, "dampening": True, "torch_init": True, "decouple_wd": True},
        {"lr": 0.02, "weight_decay": 0.1},
    ],
}
CASES = [
    pytest.param(name, values, id=f"{name}-{at}")
    for name, several in OPTIMI.items()
    for at, values in enumerate(several)
]
HEAVYBALL = {
    "AdamW": {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-12, "weight_decay": 0.1},
    "RMSprop": {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-12, "weight_decay": 0.1},
    "SGD": {"lr": 0.02, "beta": 0.8, "weight_decay": 0.1},
}


def parameters(dtype, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return {
        name: torch.nn.Parameter(torch.randn(shape, generator=noise).to(dtype))
        for name, shape in SHAPES.items()
    }


def clone(params):
    return {name: torch.nn.Parameter(param.detach().clone()) for name, param in params.items()}


def train(optimizer, params, steps, late=12):
    """``late`` has no gradient in the first steps; the libraries write into gradients."""
    for step in steps:
        for at, (name, param) in enumerate(params.items()):
            noise = torch.Generator().manual_seed(7919 * step + at)
            exponent = torch.randint(-2, 2, param.shape, generator=noise)
            normal = torch.randn(param.shape, generator=noise) + 0.01
            param.grad = (normal * 10.0**exponent).to(param.dtype)
            if name == "late" and step < late:
                param.grad = None
        optimizer.step()


def same_steps(one, params, other, params2, tolerance):
    for step in range(BEFORE, BEFORE + AFTER):
        train(one, params, [step])
        train(other, params2, [step])
        for name, param in params.items():
            expected = param.detach().double().numpy()
            found = params2[name].detach().double().numpy()
            error = numpy.max(numpy.abs(found - expected) / numpy.fmax(numpy.abs(expected), 0.1))
            assert error <= tolerance, f"{name} at step {step} differs by {error:.3g}"


@pytest.mark.parametrize(("name", "values"), CASES)
def test_ours_goes_on_from_optimi_and_back(name, values, tmp_path) -> None:
    optimi = pytest.importorskip("optimi")
    tolerance = 1e-10 if name == "RAdam" else 1e-12
    params = parameters(torch.float64)
    theirs = getattr(optimi, name)([{"params": [*params.values()]}], **values)
    train(theirs, params, range(BEFORE))
    samestep.save(tmp_path / "optimi", theirs, params)
    taken = samestep.checkpoint(theirs, params)
    own = parameters(torch.float64, seed=1)
    rule = made(taken.parameters["w"].rule)
    ours = adapter.bind(rule, own.items())
    if any(kept.slots is None for kept in taken.parameters.values()):
        assert name == "SGD" and "momentum" not in values
    samestep.load(tmp_path / "optimi", ours, own)
    same_steps(theirs, params, ours, own, tolerance)

    samestep.save(tmp_path / "ours", ours, own)
    back = parameters(torch.float64, seed=2)
    again = getattr(optimi, name)([*back.values()], **{**values, "lr": values["lr"] / 2})
    train(again, back, range(3), late=0)
    samestep.load(tmp_path / "ours", again, back)
    assert again.param_groups[0]["lr"] == values["lr"]
    for step in range(BEFORE + AFTER, BEFORE + 2 * AFTER):
        train(theirs, params, [step])
        train(again, back, [step])
        for key, param in params.items():
            error = (back[key] - param).detach().abs() / param.detach().abs().clamp(min=0.1)
            assert float(error.max()) <= tolerance, (key, step)


def test_optimi_s_state_dict_says_the_same() -> None:
    optimi = pytest.importorskip("optimi")
    params = parameters(torch.float32)
    theirs = optimi.AdamW([*params.values()], **LARGE)
    train(theirs, params, range(9), late=0)
    one = samestep.checkpoint(theirs, params)
    other = adapter.from_state_dict("AdamW", theirs.state_dict(), params, dialect="optimi")
    for path, own in one.parameters.items():
        there = other.parameters[path]
        assert (own.step, own.rule) == (there.step, there.rule) and own.step == 9
        for (_, part), (_, part2) in zip(own.tensors(), there.tensors(), strict=True):
            assert numpy.array_equal(part.bits, part2.bits)


def test_what_optimi_keeps_beside_is_refused_by_name() -> None:
    optimi = pytest.importorskip("optimi")
    params = parameters(torch.bfloat16)
    theirs = optimi.AdamW([*params.values()], lr=0.02)
    train(theirs, params, range(3), late=0)
    with pytest.raises(CheckpointError, match="kahan_comp"):
        samestep.checkpoint(theirs)
    model = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="Ranger"):
        samestep.checkpoint(optimi.Ranger(model.parameters(), lr=0.1))
    released = optimi.AdamW(model.parameters(), lr=0.1, gradient_release=True)
    with pytest.raises(CheckpointError, match="gradient_release=True"):
        samestep.checkpoint(released)


def test_optimi_counts_for_all_parameters_of_a_group() -> None:
    optimi = pytest.importorskip("optimi")
    params = parameters(torch.float64)
    ours = adapter.AdamW(params.items())
    train(ours, params, range(15))
    theirs = optimi.AdamW([*params.values()], lr=0.1, eps=1e-8)
    with pytest.raises(CheckpointError, match=r"different numbers of steps \('late' 3, .* 15\)"):
        samestep.restore(theirs, samestep.checkpoint(ours), params)
    assert not theirs.state


@pytest.mark.parametrize("name", HEAVYBALL)
def test_ours_goes_on_from_heavyball_and_back(name, monkeypatch) -> None:
    heavyball = pytest.importorskip("heavyball")
    monkeypatch.setattr("heavyball.utils.compile_mode", None)
    values = HEAVYBALL[name]
    params = parameters(torch.float32)
    theirs = getattr(heavyball, name)([*params.values()], **values)
    train(theirs, params, range(BEFORE), late=0)
    taken = adapter.from_state_dict(name, theirs.state_dict(), params, dialect="heavyball")
    assert taken.step == BEFORE
    own = clone(params)
    ours = adapter.bind(made(taken.parameters["w"].rule), own.items())
    samestep.restore(ours, taken, own)
    same_steps(theirs, params, ours, own, 1e-5)

    back = clone(own)
    again = getattr(heavyball, name)([*back.values()], **{**values, "lr": 0.5})
    train(again, back, range(2), late=0)
    with torch.no_grad():
        for key, param in back.items():
            param.copy_(own[key])
    filled = adapter.into_state_dict(
        name, again.state_dict(), samestep.checkpoint(ours, own), back, dialect="heavyball"
    )
    again.load_state_dict(filled)
    for step in range(BEFORE + AFTER, BEFORE + 2 * AFTER):
        train(ours, own, [step])
        train(again, back, [step])
        for key, param in own.items():
            error = (back[key] - param).detach().abs() / param.detach().abs().clamp(min=0.1)
            assert float(error.max()) <= 1e-5, (key, step)


def test_what_heavyball_adds_is_refused_by_name() -> None:
    state_dict = {
        "state": {},
        "param_groups": [{"params": [0], "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}],
    }
    for name, value in (("caution", True), ("warmup_steps", 10), ("mars", True)):
        state_dict["param_groups"][0][name] = value
        with pytest.raises(CheckpointError, match=re.escape(f"{name}={value!r}")):
            adapter.from_state_dict("AdamW", state_dict, {"w": torch.ones(2)}, dialect="heavyball")
        del state_dict["param_groups"][0][name]
    with pytest.raises(CheckpointError, match=r"heavyball\.PSGDKron"):
        adapter.from_state_dict("PSGDKron", state_dict, dialect="heavyball")
