"""The state of optimizers of schedulefree and pytorch_optimizer, from and to ours."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

import samestep
from samestep.checkpoints import CheckpointError
from samestep.checkpoints.description import made
from samestep.conformance.integrations import OWN_WARNINGS
from samestep.conformance.integrations.test_native_optimi import (
    BEFORE,
    parameters,
    same_steps,
    train,
)
from samestep.conformance.peers import pytorch_optimizer
from samestep.conformance.peers import torch as peers

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

FREE = {"lr": 0.02, "weight_decay": 0.1, "r": 0.5}
CASES = {
    "schedulefree": [
        ("AdamWScheduleFree", {**FREE, "betas": (0.8, 0.95), "warmup_steps": 35}),
        ("RAdamScheduleFree", {**FREE, "silent_sgd_phase": False}),
        ("SGDScheduleFree", {**FREE, "momentum": 0.8}),
    ],
    "pytorch_optimizer": [
        ("ADOPT", {"lr": 0.02, "weight_decay": 0.1, "weight_decouple": True}),
        ("CAME", {"lr": 0.02, "weight_decay": 0.1, "clip_threshold": 0.5}),
        ("Muon", {"weight_decay": 0.1, "use_adjusted_lr": True, "adamw_eps": 1e-3}),
        ("Muon", {"ns_coeffs": "quintic", "nesterov": False, "weight_decouple": False}),
    ],
    "muon": [
        ("SingleDeviceMuonWithAuxAdam", {}),
    ],
}
NAMED = [
    pytest.param(package, name, values, id=f"{package}-{name}-{at}")
    for package, several in CASES.items()
    for at, (name, values) in enumerate(several)
]


WITHIN = {"pytorch_optimizer": pytorch_optimizer.in_float64, "muon": peers.without_bfloat16}
"""Contexts in which Newton-Schulz iterates in float64."""


MATRICES = {"pytorch_optimizer": (2, 4), "muon": (2,)}
"""The numbers of axes of what Muon steps; muon-optimizer 0.1.0 fails on kernels."""


def begun(package, name, values, params):
    """An optimizer, whose matrices are Muon's if it has other rules for others."""
    given = [*params.values()]
    if "Muon" in name:
        of = {True: [], False: []}
        for param in given:
            of[param.ndim in MATRICES[package]].append(param)
        given = [{"params": own, "use_muon": use} for use, own in of.items()]
    optimizer = getattr(pytest.importorskip(package), name)(given, **values)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer


@pytest.mark.parametrize(("package", "name", "values"), NAMED)
def test_ours_goes_on_from_theirs_and_back(package, name, values, tmp_path) -> None:
    """They count the steps of a group, so every parameter has all gradients."""
    pytest.importorskip(package)
    tolerance = 1e-10 if name.startswith("RAdam") else 1e-12
    with WITHIN.get(package, nullcontext)():
        goes_on(package, name, values, tmp_path, tolerance)


def goes_on(package, name, values, tmp_path, tolerance) -> None:
    params = parameters(torch.float64)
    theirs = begun(package, name, values, params)
    train(theirs, params, range(BEFORE), late=0)
    samestep.save(tmp_path / "theirs", theirs, params)
    kept = samestep.checkpoint(theirs, params).parameters
    rules = {path: made(one.rule) for path, one in kept.items()}
    own = parameters(torch.float64, seed=1)
    rule = rules["w"]
    if rule.name == "Muon":
        of = [(samestep.Where(ndim=ndim), rule) for ndim in MATRICES[package]]
        rule = samestep.route(*of, rules["b"])
    ours = adapter.bind(rule, own.items())
    samestep.load(tmp_path / "theirs", ours, own)
    same_steps(theirs, params, ours, own, tolerance)

    samestep.save(tmp_path / "ours", ours, own)
    back = parameters(torch.float64, seed=2)
    again = begun(package, name, values, back)
    again.param_groups[0]["lr"] = 0.01
    samestep.load(tmp_path / "ours", again, back)
    same_steps(again, back, ours, own, tolerance)


def test_parameters_of_evaluation_are_not_carried() -> None:
    params = parameters(torch.float64)
    theirs = begun("schedulefree", *CASES["schedulefree"][0], params)
    train(theirs, params, range(3), late=0)
    theirs.eval()
    with pytest.raises(CheckpointError, match=r"is evaluating.*call its train\(\) before"):
        samestep.checkpoint(theirs, params)
